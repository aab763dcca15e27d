//! Which steps move a file's name, on which subvolumes (`dht-rename.c`, cases A and B of the reference).
//!
//! The order of the steps is what makes a crash harmless, and may not be changed: the linkto under the old name, the
//! hard link under the new one, the rename of the linkto over the new name, and only then the removal of the old name.

/// Where the two names are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// Home of the old name.
    pub old_hashed: usize,
    /// Where the file is.
    pub old_cached: usize,
    /// Home of the new name.
    pub new_hashed: usize,
    /// Where the file is that has the new name; `None` if there is none.
    pub new_cached: Option<usize>,
}

/// How the new name comes to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// RENAME on the subvolume of the file. With `unlink_linkto`, the linkto of the new name goes first from there; with
    /// `linkto` one is made there afterwards.
    Rename {
        /// Subvolume that has a linkto of the new name to be removed first.
        unlink_linkto: Option<usize>,
        /// Subvolume that needs a linkto of the new name afterwards.
        linkto: Option<usize>,
    },
    /// LINK on the subvolume of the file, then RENAME of a linkto at the home of the new name.
    LinkAndRename {
        /// The linkto under the old name is not there yet and must be made first.
        make_linkto: bool,
    },
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How the new name comes to be.
    pub step: Move,
    /// Remove the old name of the file itself.
    pub unlink_old_file: Option<usize>,
    /// Remove the linkto under the old name.
    pub unlink_old_linkto: Option<usize>,
    /// Remove the file that had the new name.
    pub unlink_replaced: Option<usize>,
}

/// Makes the plan.
pub fn plan(places: Places) -> Plan {
    let Places { old_hashed, old_cached, new_hashed, new_cached } = places;
    let same = new_cached == Some(old_cached);
    let (step, renamed) = if same {
        let unlink_linkto = (new_hashed != old_cached).then_some(new_hashed);
        (Move::Rename { unlink_linkto, linkto: unlink_linkto }, old_cached)
    } else if old_cached == new_hashed {
        (Move::Rename { unlink_linkto: None, linkto: None }, old_cached)
    } else {
        (Move::LinkAndRename { make_linkto: new_hashed != old_hashed }, new_hashed)
    };
    Plan {
        step,
        unlink_old_file: (old_cached != new_hashed && !same).then_some(old_cached),
        unlink_old_linkto: (old_hashed != old_cached && old_hashed != renamed).then_some(old_hashed),
        unlink_replaced: new_cached.filter(|cached| *cached != new_hashed && *cached != old_cached),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn cases_seen_on_the_wire() {
        let make = |old_hashed, old_cached, new_hashed, new_cached| {
            plan(Places { old_hashed, old_cached, new_hashed, new_cached })
        };
        // f4 (home and data on 1) to f0 (home 0).
        let expected = Plan {
            step: Move::LinkAndRename { make_linkto: true },
            unlink_old_file: Some(1),
            unlink_old_linkto: None,
            unlink_replaced: None,
        };
        assert_eq!(make(1, 1, 0, None), expected);
        // f0 (home 0, data 1) to f6 (home 1).
        let plain = Move::Rename { unlink_linkto: None, linkto: None };
        let nothing = Plan { step: plain, unlink_old_file: None, unlink_old_linkto: None, unlink_replaced: None };
        assert_eq!(make(0, 1, 1, None), Plan { unlink_old_linkto: Some(0), ..nothing });
        // f2 (on 0) over f8 (home 1, data 0).
        let relinked = Move::Rename { unlink_linkto: Some(1), linkto: Some(1) };
        assert_eq!(make(0, 0, 1, Some(0)), Plan { step: relinked, ..nothing });
        // f1 (on 0) over f7 (on 1): its data is replaced by the rename.
        assert_eq!(make(0, 0, 1, Some(1)), expected_on(0));
        // All on one.
        assert_eq!(make(0, 0, 0, Some(0)), nothing);
        assert_eq!(make(0, 0, 0, None), nothing);
        // Over a file whose data is elsewhere.
        assert_eq!(make(0, 0, 0, Some(1)), Plan { unlink_replaced: Some(1), ..nothing });
    }

    fn expected_on(old: usize) -> Plan {
        Plan {
            step: Move::LinkAndRename { make_linkto: true },
            unlink_old_file: Some(old),
            unlink_old_linkto: None,
            unlink_replaced: None,
        }
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum What {
        Old,
        Replaced,
        Link,
    }

    type Bricks = BTreeMap<(usize, &'static str), What>;

    fn run(places: Places) -> Bricks {
        let mut bricks = Bricks::new();
        bricks.insert((places.old_cached, "old"), What::Old);
        bricks.entry((places.old_hashed, "old")).or_insert(What::Link);
        if let Some(cached) = places.new_cached {
            bricks.insert((cached, "new"), What::Replaced);
            bricks.entry((places.new_hashed, "new")).or_insert(What::Link);
        }
        let plan = plan(places);
        let rename = |bricks: &mut Bricks, at| {
            let moved = bricks.remove(&(at, "old")).expect("something to rename");
            bricks.insert((at, "new"), moved);
        };
        match plan.step {
            Move::Rename { unlink_linkto, linkto } => {
                if let Some(at) = unlink_linkto {
                    assert_eq!(bricks.remove(&(at, "new")), Some(What::Link), "only a linkto may go first");
                }
                rename(&mut bricks, places.old_cached);
                if let Some(at) = linkto {
                    assert_eq!(bricks.insert((at, "new"), What::Link), None);
                }
            }
            Move::LinkAndRename { make_linkto } => {
                if make_linkto {
                    assert_eq!(bricks.insert((places.new_hashed, "old"), What::Link), None);
                }
                assert_eq!(bricks.insert((places.old_cached, "new"), What::Old), None, "LINK would fail");
                rename(&mut bricks, places.new_hashed);
            }
        }
        for (at, name) in
            [(plan.unlink_old_file, "old"), (plan.unlink_old_linkto, "old"), (plan.unlink_replaced, "new")]
        {
            if let Some(at) = at {
                assert!(bricks.remove(&(at, name)).is_some(), "nothing to unlink at {at}");
            }
        }
        bricks
    }

    proptest! {
        #[test]
        fn the_file_ends_under_its_new_name_alone(
            old_hashed in 0usize..4, old_cached in 0usize..4, new_hashed in 0usize..4,
            new_cached in prop::option::of(0usize..4),
        ) {
            let places = Places { old_hashed, old_cached, new_hashed, new_cached };
            let mut expected = Bricks::from([((new_hashed, "new"), What::Link)]);
            expected.insert((old_cached, "new"), What::Old);
            prop_assert_eq!(run(places), expected);
        }
    }
}
