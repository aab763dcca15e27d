//! Which copies of the directories of a change of names are good: those that nobody accuses of having missed names.
//!
//! A change that no good copy of a directory has would be undone there by the heal of that directory, or, once the good
//! copies are accused of missing it, leave none: three changes, each missed by another copy, and all accuse each other. A
//! heal can only give such a directory all names that any copy has, and with them come back those that were removed. So a
//! good copy of each directory must be asked first, and must do it. (Upstream has that rule for content only,
//! `afr_transaction_fop` and `afr_set_in_flight_sb_status`; for names it goes on.)

use smallvec::SmallVec;

use super::child_set::ChildSet;

/// What is known of the directories of a change, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accused(SmallVec<[ChildSet; 2]>);

impl Accused {
    /// Of `count` directories, nobody is accused so far.
    pub fn of(count: usize) -> Self {
        Accused(SmallVec::from_elem(ChildSet::EMPTY, count))
    }

    /// Copies that are accused of having missed names of a directory.
    pub fn add(&mut self, directory: usize, accused: ChildSet) {
        if let Some(known) = self.0.get_mut(directory) {
            *known = known.union(accused);
        }
    }

    /// What both know.
    pub fn and(mut self, other: &Accused) -> Self {
        other.0.iter().enumerate().for_each(|(directory, accused)| self.add(directory, *accused));
        self
    }

    /// True when it is known who is accused in a directory, and none of these is.
    pub fn is_news(&self, directory: usize, children: ChildSet) -> bool {
        self.0.get(directory).is_some_and(|accused| accused.and(children).is_empty())
    }

    /// Copies that are accused in any of the directories.
    pub fn anywhere(&self) -> ChildSet {
        self.0.iter().fold(ChildSet::EMPTY, |all, accused| all.union(*accused))
    }

    /// True when copies of a directory are accused already, and these would come to them.
    pub fn grows_with(&self, children: ChildSet) -> bool {
        self.0.iter().any(|accused| !accused.is_empty() && !children.minus(*accused).is_empty())
    }

    /// True when a directory had a good copy `before`, and has none now.
    pub fn lost_good(&self, before: &Accused, all: ChildSet) -> bool {
        let has_none = |accused: &ChildSet| all.minus(*accused).is_empty();
        self.0.iter().zip(&before.0).any(|(now, before)| has_none(now) && !has_none(before))
    }

    /// True when a directory has good copies, and none of them is among `children`. Of a directory that has none, nothing
    /// is left to be kept: there C clients have made all copies accuse each other.
    pub fn lacks_good(&self, children: ChildSet, all: ChildSet) -> bool {
        let good = self.0.iter().map(|accused| all.minus(*accused)).filter(|good| !good.is_empty());
        good.into_iter().any(|good| children.and(good).is_empty())
    }

    /// Which of `children` must do it before the others are asked: the copies that are good in all directories; where no copy
    /// is, those that are good in the one that has fewest. All, when it does not matter.
    pub fn first(&self, children: ChildSet) -> ChildSet {
        let good = || self.0.iter().map(|accused| children.minus(*accused)).filter(|good| !good.is_empty());
        let everywhere = good().fold(children, ChildSet::and);
        if !everywhere.is_empty() {
            return everywhere;
        }
        good().min_by_key(|good| good.len()).unwrap_or(children)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(indices: &[usize]) -> ChildSet {
        indices.iter().copied().collect()
    }

    fn accused(directories: &[&[usize]]) -> Accused {
        let mut accused = Accused::of(directories.len());
        directories.iter().enumerate().for_each(|(at, who)| accused.add(at, set(who)));
        accused
    }

    #[test]
    fn who_must_do_it() {
        let all = ChildSet::all(3);
        for (directories, first, lacking) in [
            (&[&[][..]][..], &[0, 1, 2][..], &[][..]),
            (&[&[2]], &[0, 1], &[2][..]),
            (&[&[0, 1]], &[2], &[0, 1]),
            (&[&[0, 1, 2]], &[0, 1, 2], &[]),
            (&[&[2], &[1]], &[0], &[2]),
            (&[&[2], &[1]], &[0], &[1]),
            (&[&[2], &[0, 1]], &[2], &[0, 1]),
            (&[&[2], &[0, 1, 2]], &[0, 1], &[2]),
        ] {
            let accused = accused(directories);
            assert_eq!(accused.first(all), set(first), "{directories:?}");
            assert!(!accused.lacks_good(all, all), "{directories:?}");
            assert!(lacking.is_empty() || accused.lacks_good(set(lacking), all), "{directories:?}");
        }
        for (directories, more, grows) in [
            (&[&[][..]][..], &[2][..], false),
            (&[&[1]], &[1], false),
            (&[&[1]], &[2], true),
            (&[&[], &[1]], &[2], true),
        ] {
            assert_eq!(accused(directories).grows_with(set(more)), grows, "{directories:?} {more:?}");
        }
        for (before, now, lost) in [
            (&[&[1][..]][..], &[&[1, 2][..]][..], false),
            (&[&[1]], &[&[0, 1, 2]], true),
            (&[&[0, 1, 2]], &[&[0, 1, 2]], false),
        ] {
            assert_eq!(accused(now).lost_good(&accused(before), all), lost, "{before:?} {now:?}");
        }
        assert!(!accused(&[&[0, 1, 2]]).lacks_good(set(&[0, 1]), all), "there is no good copy to be kept");
        assert_eq!(accused(&[&[0, 1]]).first(set(&[0, 1])), set(&[0, 1]));
        assert!(Accused::default().anywhere().is_empty());
    }
}
