//! Credentials of GlusterFS calls (`auth-glusterfs.c`, `xdr-common.h`): who asks, with which groups and lock owner.
//!
//! A flavor that the peer does not know is not rejected: the call runs as root without an owner. So only the two flavors
//! below exist here, and fops always go out with v3.

use smallvec::SmallVec;

use crate::rpc::{MAX_CREDENTIAL, OpaqueAuth};
use crate::types::LockOwner;
use crate::xdr::{DecodeError, Decoder, Encoder};

/// No credential at all.
pub const AUTH_NONE: u32 = 0;
/// AUTH_GLUSTERFS v2: for GETSPEC and other calls before the fop version is known.
pub const AUTH_GLUSTERFS_V2: u32 = 390_039;
/// AUTH_GLUSTERFS v3: for everything from SETVOLUME on.
pub const AUTH_GLUSTERFS_V3: u32 = 390_040;

/// Longest lock owner, in bytes, that fits a v3 credential without groups.
pub const MAX_OWNER_V3: usize = 91;
/// Longest lock owner, in bytes, that fits a v2 credential without groups.
pub const MAX_OWNER_V2: usize = 95;

/// Nothing of the caller fits the credential; the fop must fail with E2BIG.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a lock owner of {length} bytes does not fit the credential, at most {limit} do")]
pub struct OwnerTooLong {
    /// Bytes of the owner.
    pub length: usize,
    /// Bytes that fit.
    pub limit: usize,
}

/// The times that a v3 credential asks the brick to note (`features/utime`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Times {
    /// `time_update::*` bits; 0 for none.
    pub flags: u32,
    /// The moment, in seconds since 1970.
    pub seconds: u64,
    /// Nanoseconds of the moment.
    pub nanoseconds: u32,
}

/// Who asks, borrowed: encoding one allocates nothing.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// Process; negative for internal clients, and never 1, which means the NFS server.
    pub pid: i32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups; those that do not fit are dropped from the end, as the C client does.
    pub groups: &'a [u32],
    /// Lock owner.
    pub owner: &'a [u8],
    /// Times; only v3 carries them.
    pub times: Times,
}

impl Caller<'static> {
    /// The client itself, for the handshake: all zero, with an owner of four zero bytes.
    pub const NOBODY: Caller<'static> = Caller {
        pid: 0,
        uid: 0,
        gid: 0,
        groups: &[],
        owner: &[0; 4],
        times: Times { flags: 0, seconds: 0, nanoseconds: 0 },
    };
}

impl Caller<'_> {
    /// Appends flavor, length and body of a v3 credential.
    ///
    /// # Errors
    /// When the owner alone is too long; nothing was appended.
    pub fn encode_v3(&self, encoder: &mut Encoder) -> Result<(), OwnerTooLong> {
        let groups = self.fitting(MAX_OWNER_V3)?;
        encoder.u32(AUTH_GLUSTERFS_V3);
        let start = self.begin(encoder);
        encoder.u32(self.times.flags);
        encoder.u32(self.times.nanoseconds);
        encoder.u64(self.times.seconds);
        self.end(encoder, groups, start);
        Ok(())
    }

    /// Appends flavor, length and body of a v2 credential, which has no times.
    ///
    /// # Errors
    /// When the owner alone is too long; nothing was appended.
    pub fn encode_v2(&self, encoder: &mut Encoder) -> Result<(), OwnerTooLong> {
        let groups = self.fitting(MAX_OWNER_V2)?;
        encoder.u32(AUTH_GLUSTERFS_V2);
        let start = self.begin(encoder);
        self.end(encoder, groups, start);
        Ok(())
    }

    /// The groups that fit beside the owner. Upstream counts bytes of the owner as if they were groups; a brick
    /// applies the same formula, so it must be the same here.
    fn fitting(&self, limit: usize) -> Result<&[u32], OwnerTooLong> {
        let length = self.owner.len();
        let room = limit.checked_sub(length).ok_or(OwnerTooLong { length, limit })?;
        Ok(&self.groups[..self.groups.len().min(room)])
    }

    fn begin(&self, encoder: &mut Encoder) -> usize {
        let start = encoder.len();
        encoder.u32(0);
        encoder.i32(self.pid);
        encoder.u32(self.uid);
        encoder.u32(self.gid);
        start
    }

    fn end(&self, encoder: &mut Encoder, groups: &[u32], start: usize) {
        encoder.u32(groups.len() as u32);
        for group in groups {
            encoder.u32(*group);
        }
        encoder.opaque(self.owner);
        encoder.patch_u32(start, (encoder.len() - start - 4) as u32);
    }
}

/// Who asks, as a server reads it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Credential {
    /// Process.
    pub pid: i32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Lock owner.
    pub owner: LockOwner,
    /// Times; zero in v2.
    pub times: Times,
}

impl Credential {
    /// Decodes the credential of a call. A flavor that is not known is root without an owner, as for a brick.
    ///
    /// # Errors
    /// When the body of a known flavor does not decode.
    pub fn decode(auth: &OpaqueAuth) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(auth.body.clone());
        let mut credential = Credential::default();
        if !matches!(auth.flavor, AUTH_GLUSTERFS_V2 | AUTH_GLUSTERFS_V3) {
            return Ok(credential);
        }
        credential.pid = decoder.i32("pid")?;
        credential.uid = decoder.u32("uid")?;
        credential.gid = decoder.u32("gid")?;
        if auth.flavor == AUTH_GLUSTERFS_V3 {
            credential.times.flags = decoder.u32("time flags")?;
            credential.times.nanoseconds = decoder.u32("nanoseconds")?;
            credential.times.seconds = decoder.u64("seconds")?;
        }
        let count = decoder.u32("groups")? as usize;
        let limit = MAX_CREDENTIAL / 4;
        if count > limit {
            return Err(DecodeError::TooLong { what: "groups", length: count, limit, at: decoder.position() });
        }
        for _ in 0..count {
            credential.groups.push(decoder.u32("group")?);
        }
        credential.owner = LockOwner(SmallVec::from_slice(&decoder.opaque("lock owner", MAX_CREDENTIAL)?));
        decoder.finish()?;
        Ok(credential)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(encoder: Encoder) -> (usize, Credential) {
        let mut decoder = Decoder::new(encoder.finish().freeze());
        let flavor = decoder.u32("flavor").unwrap();
        let body = decoder.opaque("body", MAX_CREDENTIAL).unwrap();
        decoder.finish().unwrap();
        (body.len(), Credential::decode(&OpaqueAuth { flavor, body }).unwrap())
    }

    proptest! {
        #[test]
        fn round_trip_within_the_limits(
            pid: i32, uid: u32, gid: u32, groups in prop::collection::vec(any::<u32>(), 0..200),
            owner in prop::collection::vec(any::<u8>(), 0..=91), flags: u32, nanoseconds: u32, seconds: u64,
        ) {
            let times = Times { flags, seconds, nanoseconds };
            let caller = Caller { pid, uid, gid, groups: &groups, owner: &owner, times };
            let mut v3 = Encoder::default();
            caller.encode_v3(&mut v3).unwrap();
            let (length, credential) = decode(v3);
            prop_assert!(length <= MAX_CREDENTIAL);
            let kept = groups.len().min(91 - owner.len());
            let expected = Credential {
                pid, uid, gid, groups: groups[..kept].to_vec(), owner: LockOwner(SmallVec::from_slice(&owner)), times,
            };
            prop_assert_eq!(&credential, &expected);

            let mut v2 = Encoder::default();
            caller.encode_v2(&mut v2).unwrap();
            let (length, credential) = decode(v2);
            prop_assert!(length <= MAX_CREDENTIAL);
            let kept = groups.len().min(95 - owner.len());
            prop_assert_eq!(credential.groups, &groups[..kept]);
            prop_assert_eq!(credential.times, Times::default());
        }

        #[test]
        fn noise_is_no_panic(noise: Vec<u8>, flavor in prop_oneof![Just(AUTH_GLUSTERFS_V2), Just(AUTH_GLUSTERFS_V3), any::<u32>()]) {
            let _ = Credential::decode(&OpaqueAuth { flavor, body: noise.into() });
        }
    }

    #[test]
    fn limits_are_those_of_a_brick() {
        let groups = vec![7; 300];
        for (owner, v3, v2) in [(4, 87, 91), (8, 83, 87), (91, 0, 4)] {
            let owner = vec![1; owner];
            let caller = Caller { groups: &groups, owner: &owner, ..Caller::NOBODY };
            let mut encoder = Encoder::default();
            caller.encode_v3(&mut encoder).unwrap();
            assert_eq!(decode(encoder).1.groups.len(), v3);
            let mut encoder = Encoder::default();
            caller.encode_v2(&mut encoder).unwrap();
            assert_eq!(decode(encoder).1.groups.len(), v2);
        }
        let caller = Caller { owner: &[0; 92], ..Caller::NOBODY };
        let mut encoder = Encoder::default();
        assert_eq!(caller.encode_v3(&mut encoder), Err(OwnerTooLong { length: 92, limit: 91 }));
        assert!(encoder.is_empty());
    }

    #[test]
    fn bytes_of_the_c_client() {
        // The credential of a captured WRITE: pid 0x787f, flags ctime|mtime, nanoseconds before seconds.
        let mut expected = Vec::new();
        for word in [0x5f398_u32, 0x28, 0x787f, 0, 0, 3, 0x21a0_b3eb, 0, 0x6b02_d52d, 0, 4, 0x7f78_0000] {
            expected.extend_from_slice(&word.to_be_bytes());
        }
        let times = Times { flags: 3, seconds: 0x6b02_d52d, nanoseconds: 0x21a0_b3eb };
        let owner = 0x787f_i32.to_le_bytes();
        let mut encoder = Encoder::default();
        Caller { pid: 0x787f, owner: &owner, times, ..Caller::NOBODY }.encode_v3(&mut encoder).unwrap();
        assert_eq!(encoder.finish(), expected);
    }
}
