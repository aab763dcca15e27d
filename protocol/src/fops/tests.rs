//! Random messages of every procedure go there and back; random and damaged bytes are refused, not obeyed.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::dict::Mdata;
use crate::types::*;
use crate::xdr::{DecodeError, Decoder, Encoder};
use crate::{Dict, Gfid, Iatt, Time, Value};

/// Random bytes that samples are made of. When they run out everything is zero.
pub(crate) struct Source(std::vec::IntoIter<u8>);

impl Source {
    fn byte(&mut self) -> u8 {
        self.0.next().unwrap_or(0)
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.byte()) % of.len()]
    }
}

/// A random value.
pub(crate) trait Sample {
    fn sample(source: &mut Source) -> Self;
}

macro_rules! samples {
    (integers $($integer:ty),*; codes $($code:ident),*; structures $($structure:ident { $($field:ident),* })*) => {
        $(impl Sample for $integer {
            fn sample(source: &mut Source) -> Self {
                <$integer>::from_be_bytes([(); size_of::<$integer>()].map(|()| source.byte()))
            }
        })*
        $(impl Sample for $code {
            fn sample(source: &mut Source) -> Self {
                source.pick($code::ALL)
            }
        })*
        $(impl Sample for $structure {
            fn sample(source: &mut Source) -> Self {
                $structure { $($field: Sample::sample(source)),* }
            }
        })*
    };
}

samples! {
    integers u32, i32, u64, i64;
    codes LockType, LkCmd, InodelkCmd, EntrylkCmd, EntrylkType, XattropFlags, SeekWhat;
    structures
        Time { sec, nsec }
        Flock { kind, whence, start, len, pid, owner }
        Lease { cmd, kind, id, flags }
        Statfs { bsize, frsize, blocks, bfree, bavail, files, ffree, favail, fsid, flag, namemax }
        Dirent { ino, offset, kind, name }
        DirentPlus { entry, stat, xdata }
        ActiveLock { flock, client_uid, lk_flags }
        Mdata { atime, mtime, ctime }
        Iatt {
            gfid, flags, ino, dev, rdev, size, blocks, attributes, attributes_mask, atime, mtime, ctime, btime, nlink,
            uid, gid, blksize, mode
        }
}

impl Sample for Bytes {
    fn sample(source: &mut Source) -> Self {
        (0..source.byte() % 24).map(|_| source.byte()).collect()
    }
}

impl Sample for LockOwner {
    fn sample(source: &mut Source) -> Self {
        LockOwner(Bytes::sample(source).as_ref().into())
    }
}

impl Sample for [u8; 16] {
    fn sample(source: &mut Source) -> Self {
        [(); 16].map(|()| source.byte())
    }
}

impl Sample for Gfid {
    fn sample(source: &mut Source) -> Self {
        Gfid(Sample::sample(source))
    }
}

impl<T: Sample> Sample for Vec<T> {
    fn sample(source: &mut Source) -> Self {
        (0..source.byte() % 5).map(|_| T::sample(source)).collect()
    }
}

impl Sample for Value {
    fn sample(source: &mut Source) -> Self {
        match source.byte() % 9 {
            0 => Value::StrOld(Sample::sample(source)),
            1 => Value::Int(Sample::sample(source)),
            2 => Value::Uint(Sample::sample(source)),
            // No NaN, which equals nothing.
            3 => Value::Double(f64::from(i32::sample(source))),
            4 => Value::Str(Sample::sample(source)),
            5 => Value::Ptr(Sample::sample(source)),
            6 => Value::Gfuuid(Sample::sample(source)),
            7 => Value::Iatt(Box::new(Sample::sample(source))),
            _ => Value::Mdata(Sample::sample(source)),
        }
    }
}

impl Sample for Dict {
    fn sample(source: &mut Source) -> Self {
        match source.byte() % 6 {
            0 => Dict::NULL,
            count => {
                let mut dict = Dict::empty();
                for number in 1..count {
                    dict.push(Bytes::from(format!("key{number}")), Value::sample(source));
                }
                dict
            }
        }
    }
}

fn source() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..1200)
}

fn encoded(encode: impl Fn(&mut Encoder), data: &Bytes) -> Bytes {
    let mut encoder = Encoder::default();
    encode(&mut encoder);
    encoder.raw(data);
    encoder.finish().freeze()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn messages_round_trip(bytes in source(), file_data in proptest::collection::vec(any::<u8>(), 0..64)) {
        for procedure in Procedure::ALL.iter().copied() {
            let mut source = Source(bytes.clone().into_iter());
            let request = Request::sample(procedure, &mut source);
            let data = if procedure.request_has_data() { Bytes::from(file_data.clone()) } else { Bytes::new() };
            let wire = encoded(|encoder| request.encode(encoder), &data);
            prop_assert_eq!(Request::decode(procedure, wire)?, (request, data));

            let reply = Reply::sample(procedure, &mut source);
            let data = if procedure.reply_has_data() { Bytes::from(file_data.clone()) } else { Bytes::new() };
            let wire = encoded(|encoder| reply.encode(encoder), &data);
            prop_assert_eq!(Reply::decode(procedure, wire)?, (reply, data));
        }
    }

    #[test]
    fn damaged_messages_are_refused_or_decoded_without_panic(
        bytes in source(),
        cut in any::<prop::sample::Index>(),
        hit in any::<prop::sample::Index>(),
        with in any::<u8>(),
    ) {
        for procedure in Procedure::ALL.iter().copied() {
            let mut source = Source(bytes.clone().into_iter());
            let request = Request::sample(procedure, &mut source);
            let reply = Reply::sample(procedure, &mut source);
            let request = encoded(|encoder| request.encode(encoder), &Bytes::new());
            let reply = encoded(|encoder| reply.encode(encoder), &Bytes::new());
            for wire in [request, reply] {
                if wire.is_empty() {
                    continue;
                }
                let mut damaged = wire.to_vec();
                damaged[hit.index(wire.len())] = with;
                damaged.truncate(cut.index(wire.len()) + 1);
                let _ = Request::decode(procedure, damaged.clone().into());
                let _ = Reply::decode(procedure, damaged.into());
            }
        }
    }

    #[test]
    fn random_bytes_do_no_harm(bytes in source()) {
        for procedure in Procedure::ALL.iter().copied() {
            let _ = Request::decode(procedure, bytes.clone().into());
            let _ = Reply::decode(procedure, bytes.clone().into());
        }
    }

    #[test]
    fn lengths_are_foretold(bytes in source()) {
        let mut source = Source(bytes.into_iter());
        let write = request::Write::sample(&mut source);
        let readdirp = reply::Readdirp::sample(&mut source);
        let setactivelk = request::Setactivelk::sample(&mut source);
        prop_assert_eq!(encoded(|encoder| write.encode(encoder), &Bytes::new()).len(), write.encoded_len());
        prop_assert_eq!(encoded(|encoder| readdirp.encode(encoder), &Bytes::new()).len(), readdirp.encoded_len());
        prop_assert_eq!(encoded(|encoder| setactivelk.encode(encoder), &Bytes::new()).len(), setactivelk.encoded_len());
    }
}

#[test]
fn numbers_and_names() {
    for procedure in Procedure::ALL.iter().copied() {
        assert_eq!(Procedure::from_number(procedure.number()), Some(procedure));
    }
    assert_eq!(Procedure::from_number(27), Some(Procedure::Lookup));
    assert_eq!(Procedure::from_number(49), None);
    assert_eq!(Procedure::from_number(57), None);
    assert_eq!(Procedure::CopyFileRange.name(), "COPY_FILE_RANGE");
    assert_eq!(<request::Write as Fop>::PROCEDURE, Procedure::Write);
}

#[test]
fn a_read_reply_gives_its_data_as_a_slice_of_the_record() {
    let reply = reply::Read { op_ret: 5, op_errno: 2, stat: Iatt::default(), size: 5, xdata: Dict::NULL };
    let record = encoded(|encoder| reply.encode(encoder), &Bytes::from_static(b"hello"));
    assert_eq!(record.len(), 8 + 148 + 4 + 12 + 5);
    let mut decoder = Decoder::new(record.clone());
    let decoded = reply::Read::decode(&mut decoder, "READ").unwrap();
    assert!(decoded.at_end());
    assert_eq!(decoded.outcome(), Ok(5));
    let data = decoder.rest();
    assert_eq!(data.as_ref(), b"hello");
    assert_eq!(data.as_ptr(), record[record.len() - 5..].as_ptr());
}

#[test]
fn a_chain_without_end_is_refused() {
    let mut endless = Encoder::default();
    for _ in 0..3 {
        endless.u32(1);
        Dirent { ino: 1, offset: 2, kind: 4, name: Bytes::from_static(b"x") }.encode(&mut endless);
    }
    let mut decoder = Decoder::new(endless.finish().freeze());
    assert!(matches!(Vec::<Dirent>::decode(&mut decoder, "list"), Err(DecodeError::Truncated { .. })));
    let mut decoder = Decoder::new(Bytes::from_static(&[0, 0, 0, 2]));
    assert!(matches!(Vec::<Dirent>::decode(&mut decoder, "list"), Err(DecodeError::Unknown { value: 2, .. })));
}

#[test]
fn a_failure_without_number_is_an_io_error() {
    let reply = reply::Common { op_ret: -1, op_errno: 0, xdata: Dict::NULL };
    assert_eq!(reply.outcome(), Err(crate::Errno::EIO));
    let success = reply::Common { op_ret: 0, op_errno: 22, xdata: Dict::NULL };
    assert_eq!(success.outcome(), Ok(0));
}
