//! The order in which locks are waited for. All clients of a volume keep to it, or they wait for each other in a circle.

use std::cmp::Ordering;

use super::lock::Lockee;

/// By gfid, then by name with "all names" first, as bytes (`afr_entry_lockee_cmp`); ranges by where they start.
pub(super) fn compare(one: &Lockee, other: &Lockee) -> Ordering {
    let gfids = one.inode().gfid().0.cmp(&other.inode().gfid().0);
    gfids.then_with(|| match (one, other) {
        (Lockee::Entry { name: one, .. }, Lockee::Entry { name: other, .. }) => one.cmp(other),
        (Lockee::Range { start: one, .. }, Lockee::Range { start: other, .. }) => one.cmp(other),
        (Lockee::Entry { .. }, Lockee::Range { .. }) => Ordering::Less,
        (Lockee::Range { .. }, Lockee::Entry { .. }) => Ordering::Greater,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use rgfs_protocol::{FileType, Gfid};

    use super::*;
    use crate::Inode;

    fn entry(gfid: u8, name: Option<&'static [u8]>) -> Lockee {
        let mut bytes = [0; 16];
        bytes[0] = gfid;
        let parent: Arc<Inode> = Inode::known(Gfid(bytes), FileType::Directory);
        Lockee::Entry { parent, name: name.map(Bytes::from_static) }
    }

    #[test]
    fn gfids_are_raw_bytes_and_all_names_come_first() {
        let mut lockees = [
            entry(0xff, Some(b"a")),
            entry(2, Some(b"b")),
            entry(2, Some("\u{e9}".as_bytes())),
            entry(2, Some(b"B")),
            entry(2, None),
            entry(0x7f, Some(b"z")),
        ];
        lockees.sort_by(compare);
        let order: Vec<(u8, Option<Bytes>)> = lockees
            .iter()
            .map(|lockee| match lockee {
                Lockee::Entry { parent, name } => (parent.gfid().0[0], name.clone()),
                Lockee::Range { .. } => (0, None),
            })
            .collect();
        let name = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
        let expected =
            [(2, None), (2, name("B")), (2, name("b")), (2, name("\u{e9}")), (0x7f, name("z")), (0xff, name("a"))];
        assert_eq!(order, expected);
    }
}
