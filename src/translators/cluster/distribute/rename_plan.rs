//! Which steps move a file's name, on which subvolumes (`dht-rename.c`, cases A and B of the reference).
//!
//! The order of the steps is what makes a crash harmless, and may not be changed: a linkto that leads to the file's new
//! name, that name, and only then the removal of the old one. At each moment the file is found under one of its names.

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
    /// RENAME on the subvolume of the file, which is the home of the new name.
    Rename,
    /// The replaced file is where the file is, off the home of the new name: the linkto there is replaced by one of the
    /// file, in one step of the brick; then RENAME on the subvolume of the file. The C client removes that linkto first
    /// and makes the new one last: a crash in between leaves a file that no lookup finds which trusts the layout.
    RelinkAndRename {
        /// The linkto under the old name is not there yet and must be made first.
        make_linkto: bool,
    },
    /// The new name is free: a linkto at its home, then LINK on the subvolume of the file. The C client makes the linkto
    /// under the old name and renames it last: until then the new name is listed, and not found.
    LinkAtHome,
    /// LINK on the subvolume of the file, then RENAME of a linkto at the home of the new name, over what is there.
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
    let make_linkto = new_hashed != old_hashed;
    let step = match new_cached {
        _ if old_cached == new_hashed => Move::Rename,
        None => Move::LinkAtHome,
        Some(cached) if cached == old_cached => Move::RelinkAndRename { make_linkto },
        Some(_) => Move::LinkAndRename { make_linkto },
    };
    let links = matches!(step, Move::LinkAtHome | Move::LinkAndRename { .. });
    let linkto_moves = step == Move::LinkAndRename { make_linkto: false };
    Plan {
        step,
        unlink_old_file: links.then_some(old_cached),
        unlink_old_linkto: (old_hashed != old_cached && !linkto_moves).then_some(old_hashed),
        unlink_replaced: new_cached.filter(|cached| *cached != new_hashed && *cached != old_cached),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn cases() {
        let make = |old_hashed, old_cached, new_hashed, new_cached| {
            plan(Places { old_hashed, old_cached, new_hashed, new_cached })
        };
        let nothing =
            Plan { step: Move::Rename, unlink_old_file: None, unlink_old_linkto: None, unlink_replaced: None };
        // All on one, over nothing, a file there, a file elsewhere.
        assert_eq!(make(0, 0, 0, None), nothing);
        assert_eq!(make(0, 0, 0, Some(0)), nothing);
        assert_eq!(make(0, 0, 0, Some(1)), Plan { unlink_replaced: Some(1), ..nothing });
        // A file comes home.
        assert_eq!(make(0, 1, 1, None), Plan { unlink_old_linkto: Some(0), ..nothing });
        // It leaves its home; the name is free.
        assert_eq!(make(1, 1, 0, None), Plan { step: Move::LinkAtHome, unlink_old_file: Some(1), ..nothing });
        // Over a file that is at its home, and one that is beside it.
        let step = Move::LinkAndRename { make_linkto: true };
        assert_eq!(make(0, 0, 1, Some(1)), Plan { step, unlink_old_file: Some(0), ..nothing });
        let step = Move::RelinkAndRename { make_linkto: true };
        assert_eq!(make(0, 0, 1, Some(0)), Plan { step, ..nothing });
        // The linkto of the old name is at the home of the new one.
        let step = Move::LinkAndRename { make_linkto: false };
        assert_eq!(make(1, 0, 1, Some(1)), Plan { step, unlink_old_file: Some(0), ..nothing });
        let step = Move::RelinkAndRename { make_linkto: false };
        assert_eq!(make(1, 0, 1, Some(0)), Plan { step, unlink_old_linkto: Some(1), ..nothing });
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
            Move::Rename => rename(&mut bricks, places.old_cached),
            Move::RelinkAndRename { make_linkto } => {
                if make_linkto {
                    assert_eq!(bricks.insert((places.new_hashed, "old"), What::Link), None);
                    rename(&mut bricks, places.new_hashed);
                } else {
                    assert_eq!(bricks.get(&(places.new_hashed, "old")), Some(&What::Link));
                    assert_eq!(bricks.insert((places.new_hashed, "new"), What::Link), Some(What::Link));
                }
                rename(&mut bricks, places.old_cached);
            }
            Move::LinkAtHome => {
                assert_eq!(bricks.insert((places.new_hashed, "new"), What::Link), None);
                assert_eq!(bricks.insert((places.old_cached, "new"), What::Old), None, "LINK would fail");
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
