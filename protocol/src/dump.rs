//! GF-DUMP (`rpc-common-xdr.x`): which programs a server has, and PING. Every GlusterFS daemon answers both, to everybody.

use bytes::Bytes;

use crate::rpc::Program;
use crate::xdr::{DecodeError, Decoder, Encoder};

/// List the programs.
pub const DUMP: u32 = 1;
/// Are you alive? The call has no arguments.
pub const PING: u32 = 2;

/// What the C client sends as its id; nobody looks.
const GFS_ID: u64 = 0xcaed;

/// Most programs that are taken from an answer.
const MAX_PROGRAMS: usize = 256;

/// Longest name of a program, in bytes.
const MAX_NAME: usize = 1024;

/// Call of DUMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DumpRequest {
    /// Ignored by servers.
    pub gfs_id: u64,
}

impl Default for DumpRequest {
    fn default() -> Self {
        DumpRequest { gfs_id: GFS_ID }
    }
}

impl DumpRequest {
    /// Appends the arguments.
    pub fn encode(&self, encoder: &mut Encoder) {
        encoder.u64(self.gfs_id);
    }

    /// Decodes the arguments.
    ///
    /// # Errors
    /// When they do not decode.
    pub fn decode(decoder: &mut Decoder) -> Result<Self, DecodeError> {
        Ok(DumpRequest { gfs_id: decoder.u64("gfs_id")? })
    }
}

/// A program that a server has (`gf_prog_detail`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramDetail {
    /// For people.
    pub name: Bytes,
    /// Number.
    pub number: u64,
    /// Version.
    pub version: u64,
}

/// Answer of DUMP.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DumpReply {
    /// 0.
    pub gfs_id: u64,
    /// 0, or negative.
    pub op_ret: i32,
    /// Error number.
    pub op_errno: i32,
    /// The programs.
    pub programs: Vec<ProgramDetail>,
}

impl DumpReply {
    /// True when the server has that program in that version.
    pub fn has(&self, program: Program) -> bool {
        self.programs
            .iter()
            .any(|detail| detail.number == u64::from(program.number) && detail.version == u64::from(program.version))
    }

    /// Appends the body.
    pub fn encode(&self, encoder: &mut Encoder) {
        encoder.u64(self.gfs_id);
        encoder.i32(self.op_ret);
        encoder.i32(self.op_errno);
        for detail in &self.programs {
            encoder.u32(1);
            encoder.opaque(&detail.name);
            encoder.u64(detail.number);
            encoder.u64(detail.version);
        }
        encoder.u32(0);
    }

    /// Decodes the body.
    ///
    /// # Errors
    /// When it does not decode.
    pub fn decode(decoder: &mut Decoder) -> Result<Self, DecodeError> {
        let mut reply = DumpReply {
            gfs_id: decoder.u64("gfs_id")?,
            op_ret: decoder.i32("op_ret")?,
            op_errno: decoder.i32("op_errno")?,
            programs: Vec::new(),
        };
        loop {
            match decoder.u32("program follows")? {
                0 => return Ok(reply),
                1 => {}
                other => return Err(decoder.unknown("program follows", i64::from(other))),
            }
            if reply.programs.len() == MAX_PROGRAMS {
                let (length, limit) = (MAX_PROGRAMS + 1, MAX_PROGRAMS);
                return Err(DecodeError::TooLong { what: "programs", length, limit, at: decoder.position() });
            }
            reply.programs.push(ProgramDetail {
                name: decoder.opaque("program name", MAX_NAME)?,
                number: decoder.u64("program number")?,
                version: decoder.u64("program version")?,
            });
        }
    }
}

/// Answer of PING (`gf_common_rsp`).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PingReply {
    /// 0.
    pub op_ret: i32,
    /// 0.
    pub op_errno: i32,
    /// Empty.
    pub xdata: Bytes,
}

impl PingReply {
    /// Appends the body.
    pub fn encode(&self, encoder: &mut Encoder) {
        encoder.i32(self.op_ret);
        encoder.i32(self.op_errno);
        encoder.opaque(&self.xdata);
    }

    /// Decodes the body.
    ///
    /// # Errors
    /// When it does not decode.
    pub fn decode(decoder: &mut Decoder) -> Result<Self, DecodeError> {
        Ok(PingReply {
            op_ret: decoder.i32("op_ret")?,
            op_errno: decoder.i32("op_errno")?,
            xdata: decoder.opaque("xdata", MAX_NAME)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::{self, Message};
    use proptest::prelude::*;

    /// The DUMP answer of a brick of release 10, without the record word.
    const BRICK: &[u8] = b"\0\0\0\x02\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
        \0\0\0\x01\0\0\0\x10GlusterFS 4.x v1\0\0\0\0\0\x13\xd0\x05\0\0\0\0\0\0\x01\x90\
        \0\0\0\x01\0\0\0\x0dGlusterFS 3.3\0\0\0\0\0\0\0\0\x13\xd0\x05\0\0\0\0\0\0\x01\x4a\
        \0\0\0\x01\0\0\0\x07GF-DUMP\0\0\0\0\0\x07\x5b\xb8\x6d\0\0\0\0\0\0\0\x01\
        \0\0\0\x01\0\0\0\x13GlusterFS Handshake\0\0\0\0\0\0\xdb\xb4\xa9\0\0\0\0\0\0\0\x02\0\0\0\0";

    #[test]
    fn programs_of_a_brick() {
        assert_eq!(BRICK.len(), 200);
        let mut decoder = Decoder::new(Bytes::from_static(BRICK));
        let Message::Reply(header) = Message::decode(&mut decoder).unwrap() else { panic!("not a reply") };
        assert_eq!((header.xid, header.outcome), (2, Ok(())));
        let reply = DumpReply::decode(&mut decoder).unwrap();
        decoder.finish().unwrap();
        assert_eq!(reply.programs.len(), 4);
        assert!(reply.has(rpc::FOPS) && reply.has(rpc::FOPS_3_3) && reply.has(rpc::HANDSHAKE) && reply.has(rpc::DUMP));
        assert!(!reply.has(rpc::PORTMAP));
        let mut encoder = Encoder::default();
        header.encode(&mut encoder);
        reply.encode(&mut encoder);
        assert_eq!(encoder.finish(), BRICK);
    }

    proptest! {
        #[test]
        fn round_trips(gfs_id: u64, op_ret: i32, op_errno: i32, programs in prop::collection::vec(any::<(u64, u64)>(), 0..9)) {
            let programs = programs
                .into_iter()
                .map(|(number, version)| ProgramDetail { name: Bytes::from_static(b"name"), number, version })
                .collect();
            let reply = DumpReply { gfs_id, op_ret, op_errno, programs };
            let mut encoder = Encoder::default();
            reply.encode(&mut encoder);
            prop_assert_eq!(DumpReply::decode(&mut Decoder::new(encoder.finish().freeze())).unwrap(), reply);
            let ping = PingReply { op_ret, op_errno, xdata: Bytes::new() };
            let mut encoder = Encoder::default();
            ping.encode(&mut encoder);
            prop_assert_eq!(encoder.len(), 12);
            prop_assert_eq!(PingReply::decode(&mut Decoder::new(encoder.finish().freeze())).unwrap(), ping);
            let mut encoder = Encoder::default();
            DumpRequest { gfs_id }.encode(&mut encoder);
            prop_assert_eq!(DumpRequest::decode(&mut Decoder::new(encoder.finish().freeze())).unwrap().gfs_id, gfs_id);
        }

        #[test]
        fn noise_is_no_panic(noise: Vec<u8>) {
            let _ = DumpReply::decode(&mut Decoder::new(noise.clone().into()));
            let _ = PingReply::decode(&mut Decoder::new(noise.into()));
        }
    }

    #[test]
    fn an_endless_list_ends() {
        let entry = [&[0, 0, 0, 1, 0, 0, 0, 0][..], &[0; 16]].concat();
        let body = [vec![0; 16], entry.repeat(1000)].concat();
        assert!(matches!(DumpReply::decode(&mut Decoder::new(body.into())), Err(DecodeError::TooLong { .. })));
    }
}
