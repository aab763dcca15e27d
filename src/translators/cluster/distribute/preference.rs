//! Where new files go rather than to their homes: `cluster/nufa` puts them on a brick of this host (`nufa.c`), `cluster/switch` on
//! subvolumes that are named for patterns of their paths (`switch.c`).
//!
//! The home gets a linkto, so that every client finds the file. Only files that are made by CREATE and MKNOD have a preference.

use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::core::{Core, DirectoryState, as_root};
use super::path_pattern::PathPattern;
use crate::graph::BuildError;
use crate::volfile::Volume;
use crate::{Context, Inode, Translator};

/// The option of `cluster/switch`: `*.jpg:v-client-0,v-client-1;*.mpg:v-client-2`.
const CASES: &str = "pattern.switch.case";
/// The option of `cluster/nufa`: the name of a subvolume, or of a volume below one.
const LOCAL: &str = "local-volume-name";

/// What a volume prefers for its new files.
#[derive(Debug, Default)]
pub(super) enum Preference {
    /// Their homes.
    #[default]
    Home,
    /// The subvolume with a brick on this host.
    Local(usize),
    /// The subvolumes of the first group whose pattern the path matches.
    Groups(Vec<Group>),
}

/// Subvolumes for the files of one pattern, which take turns.
#[derive(Debug)]
pub(super) struct Group {
    pattern: PathPattern,
    members: Vec<usize>,
    next: AtomicUsize,
}

impl Preference {
    /// Reads what the volume says.
    ///
    /// # Errors
    /// When the patterns of a switch make no sense.
    pub(super) fn read(volume: &Volume, children: &[Arc<dyn Translator>]) -> Result<Self, BuildError> {
        match volume.kind.canonical {
            "cluster/nufa" => {
                let local =
                    volume.options.text(LOCAL).and_then(|name| children.iter().position(|child| has(child, name)));
                if local.is_none() {
                    tracing::warn!("volume {}: no brick is on this host; new files go to their homes", volume.name);
                }
                Ok(local.map_or(Preference::Home, Preference::Local))
            }
            "cluster/switch" => match volume.options.text(CASES) {
                None => Ok(Preference::Home),
                Some(cases) => {
                    let names: Vec<&str> = children.iter().map(|child| &**child.name()).collect();
                    let groups = groups(cases, &names);
                    groups.map(Preference::Groups).map_err(|expected| volume.options.refuse(CASES, expected).into())
                }
            },
            _ => Ok(Preference::Home),
        }
    }
}

impl Group {
    fn new(pattern: &str, members: Vec<usize>) -> Option<Self> {
        Some(Group { pattern: PathPattern::new(pattern)?, members, next: AtomicUsize::new(0) })
    }

    /// The home if it is one of the group, else the next one in turn.
    fn choose(&self, home: usize) -> usize {
        if self.members.contains(&home) {
            return home;
        }
        let turn = self.next.fetch_add(1, Ordering::Relaxed).checked_rem(self.members.len());
        turn.and_then(|turn| self.members.get(turn).copied()).unwrap_or(home)
    }
}

/// Whether `name` is this volume or one below it.
fn has(volume: &Arc<dyn Translator>, name: &str) -> bool {
    **volume.name() == *name || volume.children().iter().any(|child| has(child, name))
}

/// Reads the patterns; says what is wrong with them. What no pattern names is for all other files.
fn groups(cases: &str, names: &[&str]) -> Result<Vec<Group>, String> {
    const FORM: &str = "patterns with subvolumes, as in `*.jpg:v-client-0,v-client-1;*.mpg:v-client-2`";
    let mut groups = Vec::new();
    for case in cases.split(';').map(str::trim).filter(|case| !case.is_empty()) {
        let (pattern, members) = case.split_once(':').unwrap_or((case, ""));
        if pattern == "*" {
            continue;
        }
        let index = |name: &str| {
            let found = names.iter().position(|known| *known == name);
            found.ok_or_else(|| format!("names of subvolumes, which {name} is not"))
        };
        let members: Vec<usize> =
            members.split(',').map(str::trim).filter(|name| !name.is_empty()).map(index).collect::<Result<_, _>>()?;
        if pattern.is_empty() || members.is_empty() {
            return Err(FORM.to_owned());
        }
        groups.push(Group::new(pattern, members).ok_or(FORM)?);
    }
    let named = |index: &usize| groups.iter().any(|group| group.members.contains(index));
    let others: Vec<usize> = (0..names.len()).filter(|index| !named(index)).collect();
    if others.is_empty() {
        return Err("a subvolume that is left for the files that no pattern matches".to_owned());
    }
    groups.push(Group::new("*", others).ok_or(FORM)?);
    Ok(groups)
}

impl Core {
    /// Where a new file whose home is `home` shall go if there is room. What is away, is leaving, or lacks the directory is no
    /// better than the home; the C client tries nevertheless.
    pub(super) async fn preferred(
        &self,
        context: &Context,
        parent: &Arc<Inode>,
        directory: &DirectoryState,
        name: &[u8],
        home: usize,
    ) -> usize {
        let preferred = match &self.preference {
            Preference::Home => return home,
            Preference::Local(local) => *local,
            Preference::Groups(groups) => {
                let Some(path) = self.path_of_entry(context, parent, name, home).await else { return home };
                groups.iter().find(|group| group.pattern.matches(&path)).map_or(home, |group| group.choose(home))
            }
        };
        let usable = self.child(preferred).events().is_up() && self.may_take(preferred, directory);
        if usable { preferred } else { home }
    }

    async fn path_of_entry(&self, context: &Context, parent: &Arc<Inode>, name: &[u8], at: usize) -> Option<CString> {
        let mut path = Vec::new();
        if !parent.gfid().is_root() {
            path = self.path_of(&as_root(context), parent, at).await.ok()?.to_vec();
            if !path.starts_with(b"/") {
                return None;
            }
        }
        if path.last() != Some(&b'/') {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        CString::new(path).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = ["a", "b", "c", "d"];

    fn chosen(groups: &[Group], path: &str, home: usize) -> usize {
        let path = CString::new(path).unwrap();
        groups.iter().find(|group| group.pattern.matches(&path)).unwrap().choose(home)
    }

    #[test]
    fn patterns_name_subvolumes() {
        let groups = groups("*.jpg:a,b; /films/*:c;*:a", &NAMES).unwrap();
        assert_eq!(chosen(&groups, "/x.jpg", 1), 1, "its home is one of them");
        assert_eq!([0; 3].map(|_| chosen(&groups, "/deep/x.jpg", 3)), [0, 1, 0], "in turn");
        assert_eq!(chosen(&groups, "/films/of/old", 0), 2);
        assert_eq!(chosen(&groups, "/other", 0), 3, "what is left is for the others");
        assert_eq!(chosen(&groups, "/other", 3), 3);
    }

    #[test]
    fn nonsense_is_refused() {
        for cases in ["*.jpg", "*.jpg:", ":a", "*.jpg:nobody", "*:a;*.jpg:a,b,c,d"] {
            assert!(groups(cases, &NAMES).is_err(), "{cases}");
        }
    }
}
