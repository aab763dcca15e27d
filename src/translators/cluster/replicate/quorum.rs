//! How many children an operation needs (`afr_has_quorum`).

use super::child_set::ChildSet;

/// The client quorum in force (`cluster.quorum-type`, `cluster.quorum-count`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quorum {
    /// Any child will do.
    None,
    /// More than half of the children; exactly half with the first among them.
    Auto,
    /// At least so many.
    Fixed(usize),
}

impl Quorum {
    /// Whether `set`, of `count` children in all, is enough. An arbiter counts like any child.
    pub fn met(self, set: ChildSet, count: usize) -> bool {
        match self {
            Quorum::None => true,
            Quorum::Auto => {
                set.len() > count / 2 || (count.is_multiple_of(2) && set.len() == count / 2 && set.contains(0))
            }
            Quorum::Fixed(needed) => set.len() >= needed,
        }
    }

    /// True when there is one.
    pub fn is_on(self) -> bool {
        self != Quorum::None
    }

    /// The number that `Auto` stands for when only a number will do (`afr_get_quorum_count`).
    pub fn number(self, count: usize) -> usize {
        match self {
            Quorum::None => 0,
            Quorum::Auto => count / 2 + 1,
            Quorum::Fixed(needed) => needed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let set = |indices: &[usize]| indices.iter().copied().collect::<ChildSet>();
        for (quorum, count, indices, met) in [
            (Quorum::None, 2, &[][..], true),
            (Quorum::Auto, 3, &[0], false),
            (Quorum::Auto, 3, &[1, 2], true),
            (Quorum::Auto, 2, &[0], true),
            (Quorum::Auto, 2, &[1], false),
            (Quorum::Auto, 4, &[0, 3], true),
            (Quorum::Auto, 4, &[1, 2], false),
            (Quorum::Auto, 4, &[1, 2, 3], true),
            (Quorum::Fixed(1), 3, &[2], true),
            (Quorum::Fixed(3), 3, &[0, 1], false),
        ] {
            assert_eq!(quorum.met(set(indices), count), met, "{quorum:?} of {count}: {indices:?}");
        }
    }
}
