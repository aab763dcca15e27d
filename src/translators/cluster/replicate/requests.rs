//! What replicate asks bricks to tell along with a LOOKUP or FSTAT (`afr_lookup_xattr_req_prepare`, `afr_xattr_req_prepare`).

use bytes::Bytes;
use rgfs_protocol::{Dict, Value};

use super::changelog::Keys;

/// The brick's xattrs, so that copies can be compared.
const LIST_XATTR: &str = "list-xattr";
/// With [`XATTROP_INDEX_COUNT`]: does the brick have heals pending? Answered under the same name.
pub(super) const LINK_COUNT: &str = "link-count";
const XATTROP_INDEX_COUNT: &str = "glusterfs.xattrop_index_count";
/// Locks of the inode, granted and waiting.
pub(super) const INODELK_COUNT: &str = "glusterfs.inodelk-count";
/// The same, of one lock domain. Answered as [`INODELK_COUNT`].
pub(super) const INODELK_DOMAIN_COUNT: &str = "glusterfs.inodelk-dom-count";
const ENTRYLK_COUNT: &str = "glusterfs.entrylk-count";
/// Locks of the name that is looked up.
pub(super) const PARENT_ENTRYLK: &str = "glusterfs.parent-entrylk";
/// The gfid to give to what has none; see [`Requests::lookup`].
pub(super) const GFID_REQ: &str = "gfid-req";

/// Fds that are open on the inode, on that brick.
const ACTIVE_FDS: &str = "glusterfs.open-active-fd-count";
/// Whether a write began where the file ended.
pub(super) const WRITE_IS_APPEND: &str = "glusterfs.write-is-append";
/// Marks requests that no application made.
pub(super) const INTERNAL_FOP: &str = "glusterfs-internal-fop";
/// The brick may put this FSYNC together with others.
const BATCH_FSYNC: &str = "batch-fsync";
/// Tells an FSYNC that no further write is to be expected.
pub(super) const LAST_FSYNC: &str = "last-fsync";

/// xdata of the FSYNC before a post-op.
pub(super) fn internal_fsync() -> Dict {
    Dict::empty().with(BATCH_FSYNC, Value::Int(1)).with(INTERNAL_FOP, Value::str("yes"))
}

/// The constant part of requests, made once.
pub(super) struct Requests {
    lookup: Dict,
    refresh: Dict,
    write: Dict,
}

impl Requests {
    /// `domain` is the lock domain of transactions: the name of the replicate.
    pub(super) fn new(keys: &Keys, domain: &str) -> Self {
        let index = || Value::str(XATTROP_INDEX_COUNT);
        let common = keys.request(Dict::empty()).with(LIST_XATTR, Value::Uint(1)).with(LINK_COUNT, index());
        Requests {
            lookup: common
                .clone()
                .with(INODELK_COUNT, Value::Uint(0))
                .with(ENTRYLK_COUNT, Value::Uint(0))
                .with(PARENT_ENTRYLK, Value::Uint(0)),
            refresh: common.with(INODELK_DOMAIN_COUNT, Value::str(domain)),
            write: Dict::empty()
                .with(INODELK_DOMAIN_COUNT, Value::str(domain))
                .with(ACTIVE_FDS, Value::Uint(4))
                .with(WRITE_IS_APPEND, Value::Uint(4)),
        }
    }

    /// For the LOOKUPs of users, along with what the caller wants. Take `gfid-req` out of that first: a brick would give
    /// that gfid to an entry without one, and the other bricks would not.
    pub(super) fn lookup(&self, xdata: Dict) -> Dict {
        with_callers(xdata, &self.lookup)
    }

    /// For WRITEs, along with what the caller wants.
    pub(super) fn write(&self, xdata: Dict) -> Dict {
        with_callers(xdata, &self.write)
    }

    /// For asking again how an inode's copies are (`afr_inode_refresh_do`).
    pub(super) fn refresh(&self) -> Dict {
        self.refresh.clone()
    }
}

/// `ours` on top of what the caller wants.
fn with_callers(callers: Dict, ours: &Dict) -> Dict {
    if callers.is_empty() {
        return ours.clone();
    }
    let asked = callers.len();
    let mut request = callers;
    for (key, value) in ours.iter() {
        // Only what the caller asked can be there already; among our own keys nothing repeats.
        if request.iter().take(asked).any(|(name, _)| name == key) {
            request.set(key.clone(), value.clone());
        } else {
            request.push(Bytes::clone(key), value.clone());
        }
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_keys_stay() {
        let keys = Keys::new(["v-client-0", "v-client-1"], "trusted.afr.dirty");
        let requests = Requests::new(&keys, "v-replicate-0");
        let mut wanted = Dict::empty().with("glusterfs.content", Value::Uint(4096)).with(LIST_XATTR, Value::Uint(7));
        wanted = requests.lookup(wanted);
        assert_eq!(wanted.int("glusterfs.content"), Some(4096));
        assert_eq!(wanted.int(LIST_XATTR), Some(1));
        assert_eq!(wanted.int("trusted.afr.v-client-1"), Some(12));
        assert_eq!(wanted.len(), requests.lookup(Dict::NULL).len() + 1);
        assert_eq!(requests.refresh().bytes(INODELK_DOMAIN_COUNT).unwrap(), "v-replicate-0");
    }
}
