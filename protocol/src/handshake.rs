//! The handshake program (`glusterfs3-xdr.x`, `client-handshake.c`, `glusterd-handshake.c`): SETVOLUME introduces a client
//! to a brick, GETSPEC fetches a volfile. The other procedures are here for completeness.

use bytes::Bytes;

use crate::old_dict::OldDict;
use crate::xdr::{DecodeError, Decoder, Encoder, MAX_OPAQUE};

/// Procedure numbers.
pub mod procedure {
    /// Introduce a client to a brick.
    pub const SETVOLUME: u32 = 1;
    /// Fetch a volfile.
    pub const GETSPEC: u32 = 2;
    /// Unused by clients; the ping of the dump program is what keeps connections alive.
    pub const PING: u32 = 3;
    /// Obsolete with lock healing.
    pub const SET_LK_VER: u32 = 4;
    /// Rebalance reports to glusterd.
    pub const EVENT_NOTIFY: u32 = 5;
    /// Volume uuid by name.
    pub const GET_VOLUME_INFO: u32 = 6;
    /// Snapshots of a volume.
    pub const GET_SNAPSHOT_INFO: u32 = 7;
}

/// Longest name of a volfile that is accepted, in bytes; glusterd refuses 255.
pub const MAX_KEY: usize = 4096;

/// Largest volfile that is accepted, in bytes.
pub const MAX_VOLFILE: usize = MAX_OPAQUE;

/// GETSPEC call.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct GetspecRequest {
    /// 1 asks for the list of volfile servers too.
    pub flags: u32,
    /// Which volfile (`--volfile-id`); a server strips one leading `/`.
    pub key: Bytes,
    /// `min-op-version` and `max-op-version`; without them glusterd answers EOPNOTSUPP.
    pub xdata: OldDict,
}

impl GetspecRequest {
    /// What a client of release 10 asks.
    pub fn new(key: &str) -> Self {
        GetspecRequest {
            flags: 1,
            key: Bytes::copy_from_slice(key.as_bytes()),
            xdata: OldDict::default().with("min-op-version", "1").with("max-op-version", "100000"),
        }
    }

    /// Appends the arguments.
    pub fn encode(&self, encoder: &mut Encoder) {
        encoder.u32(self.flags);
        encoder.opaque(&self.key);
        self.xdata.encode(encoder);
    }

    /// Decodes the arguments.
    ///
    /// # Errors
    /// When they do not decode.
    pub fn decode(decoder: &mut Decoder) -> Result<Self, DecodeError> {
        Ok(GetspecRequest {
            flags: decoder.u32("flags")?,
            key: decoder.opaque("volfile id", MAX_KEY)?,
            xdata: OldDict::decode(decoder)?,
        })
    }
}

/// GETSPEC answer.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct GetspecReply {
    /// Bytes of the volfile, or negative; unreliable on failure.
    pub op_ret: i32,
    /// Error number; means nothing when there is a volfile.
    pub op_errno: i32,
    /// The volfile, perhaps with rubbish behind `op_ret`.
    pub spec: Bytes,
    /// May name more volfile servers.
    pub xdata: OldDict,
}

impl GetspecReply {
    /// The volfile: cut at `op_ret` and at a NUL. `None` when the server has none for us, whatever the numbers say.
    pub fn volfile(&self) -> Option<Bytes> {
        let length = usize::try_from(self.op_ret).ok()?.min(self.spec.len());
        let text = &self.spec[..length];
        let end = text.iter().position(|byte| *byte == 0).unwrap_or(length);
        (end > 0).then(|| self.spec.slice(..end))
    }

    /// Other volfile servers that the answer names, as `host` or `host:port`.
    pub fn servers(&self) -> Vec<&str> {
        ["cluster.brick-vol-servers", "servers-list"]
            .iter()
            .find_map(|key| self.xdata.text(key))
            .map(|text| text.split_ascii_whitespace().collect())
            .unwrap_or_default()
    }

    /// Appends the body.
    pub fn encode(&self, encoder: &mut Encoder) {
        encoder.i32(self.op_ret);
        encoder.i32(self.op_errno);
        encoder.opaque(&self.spec);
        self.xdata.encode(encoder);
    }

    /// Decodes the body.
    ///
    /// # Errors
    /// When it does not decode.
    pub fn decode(decoder: &mut Decoder) -> Result<Self, DecodeError> {
        Ok(GetspecReply {
            op_ret: decoder.i32("op_ret")?,
            op_errno: decoder.i32("op_errno")?,
            spec: decoder.opaque("volfile", MAX_VOLFILE)?,
            xdata: OldDict::decode(decoder)?,
        })
    }
}

/// Answer of SETVOLUME and EVENT_NOTIFY: numbers and a dictionary. The call of SETVOLUME is a bare dictionary.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DictReply {
    /// 0, or negative.
    pub op_ret: i32,
    /// Error number; garbage on success.
    pub op_errno: i32,
    /// What the server says about itself, and `ERROR`.
    pub dict: OldDict,
}

impl DictReply {
    /// Appends the body.
    pub fn encode(&self, encoder: &mut Encoder) {
        encoder.i32(self.op_ret);
        encoder.i32(self.op_errno);
        self.dict.encode(encoder);
    }

    /// Decodes the body.
    ///
    /// # Errors
    /// When it does not decode.
    pub fn decode(decoder: &mut Decoder) -> Result<Self, DecodeError> {
        Ok(DictReply {
            op_ret: decoder.i32("op_ret")?,
            op_errno: decoder.i32("op_errno")?,
            dict: OldDict::decode(decoder)?,
        })
    }
}

/// Call of EVENT_NOTIFY.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct EventNotifyRequest {
    /// What happened.
    pub op: i32,
    /// Details.
    pub dict: OldDict,
}

impl EventNotifyRequest {
    /// Appends the arguments.
    pub fn encode(&self, encoder: &mut Encoder) {
        encoder.i32(self.op);
        self.dict.encode(encoder);
    }

    /// Decodes the arguments.
    ///
    /// # Errors
    /// When they do not decode.
    pub fn decode(decoder: &mut Decoder) -> Result<Self, DecodeError> {
        Ok(EventNotifyRequest { op: decoder.i32("op")?, dict: OldDict::decode(decoder)? })
    }
}

/// Call of SET_LK_VER.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SetLkVerRequest {
    /// Identity of the client.
    pub uid: Bytes,
    /// Its lock version.
    pub lk_ver: i32,
}

impl SetLkVerRequest {
    /// Appends the arguments.
    pub fn encode(&self, encoder: &mut Encoder) {
        encoder.opaque(&self.uid);
        encoder.i32(self.lk_ver);
    }

    /// Decodes the arguments.
    ///
    /// # Errors
    /// When they do not decode.
    pub fn decode(decoder: &mut Decoder) -> Result<Self, DecodeError> {
        Ok(SetLkVerRequest { uid: decoder.opaque("client uid", MAX_KEY)?, lk_ver: decoder.i32("lock version")? })
    }
}

/// Answer of SET_LK_VER.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SetLkVerReply {
    /// 0, or negative.
    pub op_ret: i32,
    /// Error number.
    pub op_errno: i32,
    /// The version of the call.
    pub lk_ver: i32,
}

impl SetLkVerReply {
    /// Appends the body.
    pub fn encode(&self, encoder: &mut Encoder) {
        encoder.i32(self.op_ret);
        encoder.i32(self.op_errno);
        encoder.i32(self.lk_ver);
    }

    /// Decodes the body.
    ///
    /// # Errors
    /// When it does not decode.
    pub fn decode(decoder: &mut Decoder) -> Result<Self, DecodeError> {
        Ok(SetLkVerReply {
            op_ret: decoder.i32("op_ret")?,
            op_errno: decoder.i32("op_errno")?,
            lk_ver: decoder.i32("lock version")?,
        })
    }
}

/// Answer of GET_VOLUME_INFO and GET_SNAPSHOT_INFO; their calls are bare dictionaries.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct InfoReply {
    /// 0, or negative.
    pub op_ret: i32,
    /// Error number.
    pub op_errno: i32,
    /// Why it failed.
    pub error: Bytes,
    /// What was asked for.
    pub dict: OldDict,
}

impl InfoReply {
    /// Appends the body.
    pub fn encode(&self, encoder: &mut Encoder) {
        encoder.i32(self.op_ret);
        encoder.i32(self.op_errno);
        encoder.opaque(&self.error);
        self.dict.encode(encoder);
    }

    /// Decodes the body.
    ///
    /// # Errors
    /// When it does not decode.
    pub fn decode(decoder: &mut Decoder) -> Result<Self, DecodeError> {
        Ok(InfoReply {
            op_ret: decoder.i32("op_ret")?,
            op_errno: decoder.i32("op_errno")?,
            error: decoder.opaque("error", MAX_OPAQUE)?,
            dict: OldDict::decode(decoder)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Caller;
    use crate::rpc::{CallHeader, HANDSHAKE, Message};
    use proptest::prelude::*;

    /// A GETSPEC call as the C client of release 10 sends it, without the record word.
    const GETSPEC_CALL: &[u8] = b"\0\0\0\x02\0\0\0\0\0\0\0\x02\x00\xdb\xb4\xa9\0\0\0\x02\0\0\0\x02\x00\x05\xf3\x97\
        \0\0\0\x18\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\
        \0\0\0\x01\0\0\0\x05/dist\0\0\0\0\0\0\x3b\0\0\0\x02\0\0\0\x0e\0\0\0\x07max-op-version\x00100000\0\
        \0\0\0\x0e\0\0\0\x02min-op-version\x001\0\0";

    #[test]
    fn getspec_of_the_c_client() {
        assert_eq!(GETSPEC_CALL.len(), 0x90);
        let mut decoder = Decoder::new(Bytes::from_static(GETSPEC_CALL));
        let Message::Call(header) = Message::decode(&mut decoder).unwrap() else { panic!("not a call") };
        assert_eq!((header.xid, header.program, header.procedure), (2, HANDSHAKE, procedure::GETSPEC));
        let request = GetspecRequest::decode(&mut decoder).unwrap();
        decoder.finish().unwrap();
        assert_eq!((request.flags, request.key.as_ref()), (1, &b"/dist"[..]));
        assert_eq!(request.xdata.text("max-op-version"), Some("100000"));

        let mut encoder = Encoder::default();
        CallHeader::encode_front(&mut encoder, 2, HANDSHAKE, procedure::GETSPEC);
        Caller::NOBODY.encode_v2(&mut encoder).unwrap();
        CallHeader::encode_verifier(&mut encoder);
        let xdata = OldDict::default().with("max-op-version", "100000").with("min-op-version", "1");
        GetspecRequest { xdata, ..GetspecRequest::new("/dist") }.encode(&mut encoder);
        assert_eq!(encoder.finish(), GETSPEC_CALL);
    }

    #[test]
    fn setvolume_reply_of_a_brick() {
        let mut body = b"\0\0\0\0\0\0\0\x16\0\0\0\xde\0\0\0\x06".to_vec();
        for (key, value) in [
            ("transport-ptr", "140248667394280"),
            ("clnt-lk-version", "0"),
            ("process-uuid", "09586a3c-3033-4a16-b4e0-943fe4fdefdd"),
            ("ERROR", "Success"),
            ("volume-id", "fb8f576b-7927-4eb3-af11-43ff5a040232"),
            ("child_up", "1"),
        ] {
            body.extend_from_slice(&(key.len() as u32).to_be_bytes());
            body.extend_from_slice(&(value.len() as u32 + 1).to_be_bytes());
            body.extend_from_slice(format!("{key}\0{value}\0").as_bytes());
        }
        body.extend_from_slice(&[0; 2]);
        let mut decoder = Decoder::new(body.clone().into());
        let reply = DictReply::decode(&mut decoder).unwrap();
        decoder.finish().unwrap();
        assert_eq!((reply.op_ret, reply.op_errno, reply.dict.text("child_up")), (0, 22, Some("1")));
        let mut encoder = Encoder::default();
        reply.encode(&mut encoder);
        assert_eq!(encoder.finish(), body);
    }

    #[test]
    fn a_volfile_is_cut_where_the_server_says() {
        let reply = |op_ret, spec: &'static [u8]| GetspecReply {
            op_ret,
            op_errno: 2,
            spec: Bytes::from_static(spec),
            xdata: OldDict::default(),
        };
        assert_eq!(reply(6, b"volumejunk").volfile().unwrap(), "volume");
        assert_eq!(reply(99, b"volume\0").volfile().unwrap(), "volume");
        for (op_ret, spec) in [(372, &b""[..]), (-1, b"this method is not in use"), (0, b"volume"), (3, b"\0\0\0")] {
            assert_eq!(reply(op_ret, spec).volfile(), None);
        }
        let mut reply = reply(1, b"x");
        assert!(reply.servers().is_empty());
        reply.xdata.set_text("cluster.brick-vol-servers", "b:24007 c:24007 ");
        assert_eq!(reply.servers(), ["b:24007", "c:24007"]);
    }

    proptest! {
        #[test]
        fn round_trips(a: i32, b: i32, c: u32, bytes in prop::collection::vec(any::<u8>(), 0..100), text in "[ -~]{0,40}") {
            macro_rules! check {
                ($($type:ident $value:tt),* $(,)?) => {$({
                    let value = $type $value;
                    let mut encoder = Encoder::default();
                    value.encode(&mut encoder);
                    let mut decoder = Decoder::new(encoder.finish().freeze());
                    prop_assert_eq!($type::decode(&mut decoder).unwrap(), value);
                    prop_assert!(decoder.finish().is_ok());
                })*};
            }
            let dict = OldDict::default().with("key", &text);
            let bytes = Bytes::from(bytes);
            check! {
                GetspecRequest { flags: c, key: bytes.clone(), xdata: dict.clone() },
                GetspecReply { op_ret: a, op_errno: b, spec: bytes.clone(), xdata: dict.clone() },
                DictReply { op_ret: a, op_errno: b, dict: dict.clone() },
                EventNotifyRequest { op: a, dict: dict.clone() },
                SetLkVerRequest { uid: bytes.clone(), lk_ver: a },
                SetLkVerReply { op_ret: a, op_errno: b, lk_ver: a },
                InfoReply { op_ret: a, op_errno: b, error: bytes, dict },
            }
        }

        #[test]
        fn noise_is_no_panic(noise: Vec<u8>) {
            let decoder = || Decoder::new(noise.clone().into());
            let _ = GetspecRequest::decode(&mut decoder());
            let _ = GetspecReply::decode(&mut decoder()).map(|reply| reply.volfile());
            let _ = DictReply::decode(&mut decoder());
            let _ = EventNotifyRequest::decode(&mut decoder());
            let _ = SetLkVerRequest::decode(&mut decoder());
            let _ = SetLkVerReply::decode(&mut decoder());
            let _ = InfoReply::decode(&mut decoder());
        }
    }
}
