//! Calls from a server to its clients (`client-callback.c`, `server.c:server_process_event_upcall`). They arrive between
//! answers, with xids of the server's own, and are never answered.
//!
//! Bodies use the old types even where fops use the new ones: attributes of 100 bytes, the untyped dictionary, and for
//! invalidations a gfid in text form.

use bytes::Bytes;

use crate::fops::Wire;
use crate::old_dict::OldDict;
use crate::types::Flock;
use crate::xdr::{DecodeError, Decoder, Encoder};
use crate::{Gfid, Iatt, Time};

/// Longest name or lock domain, in bytes.
const MAX_NAME: usize = 4096;

/// A callback.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "lives on the stack of the reader, is never stored in numbers")]
pub enum Callback {
    /// 1: some volume changed; fetch the volfile again.
    FetchSpec,
    /// 2: historic.
    InodeFlush,
    /// 3: not for a mount.
    EventNotify,
    /// 4: not for a mount.
    GetSnaps,
    /// 5: another client changed an inode.
    CacheInvalidation(CacheInvalidation),
    /// 6: the storage of the brick is usable again.
    ChildUp,
    /// 7: the storage of the brick is gone, though the connection lives.
    ChildDown,
    /// 8: give a lease back.
    RecallLease(RecallLease),
    /// 9: dump state, if the pid is ours.
    Statedump {
        /// Which process.
        pid: u32,
    },
    /// 10: somebody waits for an inode lock of this client.
    InodelkContention(InodelkContention),
    /// 11: somebody waits for an entry lock of this client. No known brick sends it.
    EntrylkContention(EntrylkContention),
}

/// Body of CACHE_INVALIDATION (`gfs3_cbk_cache_invalidation_req`).
#[derive(Clone, Debug, PartialEq)]
pub struct CacheInvalidation {
    /// Which inode. The attributes below often have none.
    pub gfid: Gfid,
    /// 1.
    pub event_type: u32,
    /// `UP_*` bits of `upcall-utils.h`.
    pub flags: u32,
    /// How long the brick goes on telling, in seconds.
    pub expire: u32,
    /// New attributes; absent when unknown.
    pub stat: Iatt,
    /// Attributes of the directory; absent when not applicable.
    pub parent: Iatt,
    /// Attributes of the directory that a rename left.
    pub old_parent: Iatt,
    /// Changed or removed xattrs.
    pub xdata: OldDict,
}

/// Body of RECALL_LEASE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecallLease {
    /// Which inode.
    pub gfid: Gfid,
    /// Kind of lease.
    pub kind: u32,
    /// Id of the lease.
    pub id: [u8; 16],
    /// More.
    pub xdata: OldDict,
}

/// Body of INODELK_CONTENTION.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InodelkContention {
    /// Which inode.
    pub gfid: Gfid,
    /// The lock that is held; its owner is the one of the request's body.
    pub flock: Flock,
    /// Holder.
    pub pid: u32,
    /// Lock domain.
    pub domain: Bytes,
    /// More.
    pub xdata: OldDict,
}

/// Body of ENTRYLK_CONTENTION.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntrylkContention {
    /// Which directory.
    pub gfid: Gfid,
    /// Kind of lock.
    pub kind: u32,
    /// Holder.
    pub pid: u32,
    /// Name that is locked; empty for all.
    pub name: Bytes,
    /// Lock domain.
    pub domain: Bytes,
    /// More.
    pub xdata: OldDict,
}

impl Callback {
    /// Number of the procedure.
    pub fn procedure(&self) -> u32 {
        match self {
            Callback::FetchSpec => 1,
            Callback::InodeFlush => 2,
            Callback::EventNotify => 3,
            Callback::GetSnaps => 4,
            Callback::CacheInvalidation(_) => 5,
            Callback::ChildUp => 6,
            Callback::ChildDown => 7,
            Callback::RecallLease(_) => 8,
            Callback::Statedump { .. } => 9,
            Callback::InodelkContention(_) => 10,
            Callback::EntrylkContention(_) => 11,
        }
    }

    /// Appends the body.
    pub fn encode(&self, encoder: &mut Encoder) {
        match self {
            Callback::CacheInvalidation(body) => {
                encoder.opaque(body.gfid.to_string().as_bytes());
                encoder.u32(body.event_type);
                encoder.u32(body.flags);
                encoder.u32(body.expire);
                for stat in [&body.stat, &body.parent, &body.old_parent] {
                    encode_old_iatt(stat, encoder);
                }
                body.xdata.encode(encoder);
            }
            Callback::RecallLease(body) => {
                encoder.gfid(&body.gfid);
                encoder.u32(body.kind);
                encoder.fixed(&body.id);
                body.xdata.encode(encoder);
            }
            Callback::Statedump { pid } => encoder.u32(*pid),
            Callback::InodelkContention(body) => {
                encoder.gfid(&body.gfid);
                body.flock.encode(encoder);
                encoder.u32(body.pid);
                encoder.opaque(&body.domain);
                body.xdata.encode(encoder);
            }
            Callback::EntrylkContention(body) => {
                encoder.gfid(&body.gfid);
                encoder.u32(body.kind);
                encoder.u32(body.pid);
                encoder.opaque(&body.name);
                encoder.opaque(&body.domain);
                body.xdata.encode(encoder);
            }
            // The bodies of the others are empty, or unknown and unused.
            _ => {}
        }
    }

    /// Decodes the body of `procedure`.
    ///
    /// # Errors
    /// When the procedure is unknown or the body does not decode.
    pub fn decode(procedure: u32, decoder: &mut Decoder) -> Result<Self, DecodeError> {
        Ok(match procedure {
            1 => Callback::FetchSpec,
            2 => Callback::InodeFlush,
            3 => Callback::EventNotify,
            4 => Callback::GetSnaps,
            5 => Callback::CacheInvalidation(CacheInvalidation {
                gfid: text_gfid(decoder)?,
                event_type: decoder.u32("event type")?,
                flags: decoder.u32("flags")?,
                expire: decoder.u32("expire time")?,
                stat: decode_old_iatt(decoder)?,
                parent: decode_old_iatt(decoder)?,
                old_parent: decode_old_iatt(decoder)?,
                xdata: OldDict::decode(decoder)?,
            }),
            6 => Callback::ChildUp,
            7 => Callback::ChildDown,
            8 => Callback::RecallLease(RecallLease {
                gfid: decoder.gfid("gfid")?,
                kind: decoder.u32("lease type")?,
                id: decoder.gfid("lease id")?.0,
                xdata: OldDict::decode(decoder)?,
            }),
            9 => Callback::Statedump { pid: decoder.u32("pid")? },
            10 => Callback::InodelkContention(InodelkContention {
                gfid: decoder.gfid("gfid")?,
                flock: Flock::decode(decoder, "flock")?,
                pid: decoder.u32("pid")?,
                domain: decoder.opaque("domain", MAX_NAME)?,
                xdata: OldDict::decode(decoder)?,
            }),
            11 => Callback::EntrylkContention(EntrylkContention {
                gfid: decoder.gfid("gfid")?,
                kind: decoder.u32("lock type")?,
                pid: decoder.u32("pid")?,
                name: decoder.opaque("name", MAX_NAME)?,
                domain: decoder.opaque("domain", MAX_NAME)?,
                xdata: OldDict::decode(decoder)?,
            }),
            other => return Err(decoder.unknown("callback procedure", i64::from(other))),
        })
    }
}

fn text_gfid(decoder: &mut Decoder) -> Result<Gfid, DecodeError> {
    let text = decoder.opaque("gfid", 64)?;
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    std::str::from_utf8(&text[..end]).ok().and_then(Gfid::parse).ok_or_else(|| decoder.unknown("gfid", 0))
}

/// Appends attributes in the old form (`gf_iatt`, 100 bytes).
pub fn encode_old_iatt(stat: &Iatt, encoder: &mut Encoder) {
    encoder.gfid(&stat.gfid);
    encoder.u64(stat.ino);
    encoder.u64(stat.dev);
    for word in [stat.mode, stat.nlink, stat.uid, stat.gid] {
        encoder.u32(word);
    }
    encoder.u64(stat.rdev);
    encoder.u64(stat.size);
    encoder.u32(stat.blksize);
    encoder.u64(stat.blocks);
    for time in [stat.atime, stat.mtime, stat.ctime] {
        // The old form has 32 bits for seconds; it ends in 2106.
        encoder.u32(time.sec as u32);
        encoder.u32(time.nsec);
    }
}

/// Decodes attributes in the old form.
///
/// # Errors
/// When the bytes end before.
pub fn decode_old_iatt(decoder: &mut Decoder) -> Result<Iatt, DecodeError> {
    let mut stat = Iatt { gfid: decoder.gfid("gfid")?, ino: decoder.u64("ino")?, ..Iatt::default() };
    stat.dev = decoder.u64("dev")?;
    stat.mode = decoder.u32("mode")?;
    stat.nlink = decoder.u32("nlink")?;
    stat.uid = decoder.u32("uid")?;
    stat.gid = decoder.u32("gid")?;
    stat.rdev = decoder.u64("rdev")?;
    stat.size = decoder.u64("size")?;
    stat.blksize = decoder.u32("blksize")?;
    stat.blocks = decoder.u64("blocks")?;
    for time in [&mut stat.atime, &mut stat.mtime, &mut stat.ctime] {
        *time = Time { sec: i64::from(decoder.u32("seconds")?), nsec: decoder.u32("nanoseconds")? };
    }
    // The old form has no validity mask: mode 0 is what a zeroed one has.
    stat.flags = if stat.mode == 0 { 0 } else { Iatt::FLAGS_BRICK };
    Ok(stat)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::{self, CallHeader, Message, OpaqueAuth};
    use crate::types::{LockOwner, LockType};
    use proptest::prelude::*;

    fn stat(gfid: [u8; 16], size: u64, sec: u32) -> Iatt {
        let time = Time { sec: i64::from(sec), nsec: 5 };
        Iatt {
            gfid: Gfid(gfid),
            flags: Iatt::FLAGS_BRICK,
            size,
            mode: 0o100_644,
            atime: time,
            ctime: time,
            ..Iatt::default()
        }
    }

    proptest! {
        #[test]
        fn round_trips(gfid: [u8; 16], id: [u8; 16], a: u32, b: u32, size: u64, name in "[a-z]{0,20}") {
            let (gfid, xdata) = (Gfid(gfid), OldDict::default().with("user.x", &name));
            let owner = LockOwner::from_fuse(size);
            let flock = Flock { kind: LockType::Write, whence: 0, start: size, len: 0, pid: a, owner };
            let name = Bytes::from(name);
            let invalidation = CacheInvalidation {
                gfid, event_type: 1, flags: a, expire: b, stat: stat(gfid.0, size, a), parent: stat(id, size, b),
                old_parent: Iatt::default(), xdata: xdata.clone(),
            };
            for callback in [
                Callback::FetchSpec, Callback::InodeFlush, Callback::EventNotify, Callback::GetSnaps, Callback::ChildUp,
                Callback::ChildDown, Callback::Statedump { pid: a }, Callback::CacheInvalidation(invalidation),
                Callback::RecallLease(RecallLease { gfid, kind: a, id, xdata: xdata.clone() }),
                Callback::InodelkContention(
                    InodelkContention { gfid, flock, pid: b, domain: name.clone(), xdata: xdata.clone() }),
                Callback::EntrylkContention(
                    EntrylkContention { gfid, kind: a, pid: b, name: name.clone(), domain: name, xdata }),
            ] {
                let mut encoder = Encoder::default();
                callback.encode(&mut encoder);
                let mut decoder = Decoder::new(encoder.finish().freeze());
                prop_assert_eq!(Callback::decode(callback.procedure(), &mut decoder).unwrap(), callback);
                prop_assert!(decoder.finish().is_ok());
            }
        }

        #[test]
        fn noise_is_no_panic(noise: Vec<u8>, procedure in 0u32..14) {
            let _ = Callback::decode(procedure, &mut Decoder::new(noise.into()));
        }
    }

    #[test]
    fn fetchspec_of_glusterd() {
        let words = [1_u32, 0, 2, 0x0324_cc42, 1, 1, 0, 0, 0, 0];
        let record: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        let mut decoder = Decoder::new(record.clone().into());
        let Message::Call(header) = Message::decode(&mut decoder).unwrap() else { panic!("not a call") };
        assert_eq!((header.program, decoder.remaining()), (rpc::CALLBACK, 0));
        assert_eq!(Callback::decode(header.procedure, &mut decoder).unwrap(), Callback::FetchSpec);
        let none = OpaqueAuth { flavor: 0, body: Bytes::new() };
        let mut encoder = Encoder::default();
        CallHeader { xid: 1, program: rpc::CALLBACK, procedure: 1, credential: none }.encode(&mut encoder);
        assert_eq!(encoder.finish(), record);
    }

    #[test]
    fn an_invalidation_of_a_brick() {
        let mut body = b"\0\0\0\x242113101c-146e-425b-8b6a-0123456789ab\0\0\0\x01\0\0\x01\0\0\0\x02\x58".to_vec();
        body.extend_from_slice(&[0; 304]);
        assert_eq!(body.len(), 0x18c - 40);
        let mut decoder = Decoder::new(body.into());
        let Callback::CacheInvalidation(callback) = Callback::decode(5, &mut decoder).unwrap() else { panic!() };
        decoder.finish().unwrap();
        assert_eq!((callback.flags, callback.expire, callback.stat), (0x100, 600, Iatt::default()));
        assert_eq!(callback.gfid.to_string(), "2113101c-146e-425b-8b6a-0123456789ab");
    }

    #[test]
    fn a_contention_of_a_brick() {
        let mut body = b"\xd2\x1e\x18\xc3\x61\x1a\x4e\xb8\xb2\xc7\x08\x3b\x18\x02\xac\x18\0\0\0\x01\0\0\0\0".to_vec();
        body.extend_from_slice(&[0; 16]);
        body.extend_from_slice(b"\0\0\0\x01\0\0\0\x06OWNERX\0\0\0\0\0\0\0\0\0\x03dom\0\0\0\0\0");
        let mut decoder = Decoder::new(body.into());
        let Callback::InodelkContention(callback) = Callback::decode(10, &mut decoder).unwrap() else { panic!() };
        decoder.finish().unwrap();
        assert_eq!((callback.flock.kind, callback.flock.pid), (LockType::Write, 1));
        assert_eq!((callback.flock.owner.0.as_slice(), callback.domain.as_ref()), (&b"OWNERX"[..], &b"dom"[..]));
    }
}
