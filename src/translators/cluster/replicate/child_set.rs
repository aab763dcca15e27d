//! A set of children of a replicate, as a bitmap.

use std::fmt;

/// Most children of one replicate: what the per-inode state can remember (`afr_inode_ctx_t`).
pub const MAX_CHILDREN: usize = 16;

/// Indices of children.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ChildSet(pub u16);

impl ChildSet {
    /// No child.
    pub const EMPTY: ChildSet = ChildSet(0);

    /// The first `count` children.
    pub fn all(count: usize) -> Self {
        ChildSet(if count >= MAX_CHILDREN { u16::MAX } else { (1 << count) - 1 })
    }

    /// One child.
    pub fn one(index: usize) -> Self {
        ChildSet::EMPTY.with(index)
    }

    /// True when the child is in.
    pub fn contains(self, index: usize) -> bool {
        index < MAX_CHILDREN && self.0 & (1 << index) != 0
    }

    /// Adds a child.
    pub fn insert(&mut self, index: usize) {
        *self = self.with(index);
    }

    /// Takes a child out.
    pub fn remove(&mut self, index: usize) {
        *self = self.without(index);
    }

    /// This set and the child.
    #[must_use]
    pub fn with(self, index: usize) -> Self {
        if index < MAX_CHILDREN { ChildSet(self.0 | 1 << index) } else { self }
    }

    /// This set without the child.
    #[must_use]
    pub fn without(self, index: usize) -> Self {
        if index < MAX_CHILDREN { ChildSet(self.0 & !(1 << index)) } else { self }
    }

    /// Children in either.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        ChildSet(self.0 | other.0)
    }

    /// Children in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        ChildSet(self.0 & other.0)
    }

    /// Children of this set that are not in the other.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        ChildSet(self.0 & !other.0)
    }

    /// Number of children.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// True without children.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The lowest index.
    pub fn first(self) -> Option<usize> {
        self.iter().next()
    }

    /// Indices, ascending.
    pub fn iter(self) -> impl Iterator<Item = usize> + Clone {
        (0..MAX_CHILDREN).filter(move |index| self.contains(*index))
    }
}

impl FromIterator<usize> for ChildSet {
    fn from_iter<T: IntoIterator<Item = usize>>(indices: T) -> Self {
        indices.into_iter().fold(ChildSet::EMPTY, ChildSet::with)
    }
}

impl fmt::Debug for ChildSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets() {
        let all = ChildSet::all(3);
        assert_eq!(all.iter().collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(all.without(1).minus(ChildSet::one(0)), ChildSet::one(2));
        assert_eq!((all.len(), all.first(), ChildSet::EMPTY.first()), (3, Some(0), None));
        assert_eq!(ChildSet::all(16), ChildSet(u16::MAX));
        assert_eq!([2, 0].into_iter().collect::<ChildSet>(), ChildSet(0b101));
        assert!(!ChildSet::all(16).contains(16));
    }
}
