//! Heal of one name, when a lookup found that the copies disagree about it (`afr-self-heal-name.c`).
//!
//! Disagreement is also what the middle of another client's rename looks like. The lock of the name waits for its end, and
//! then there is mostly nothing left to heal.

use std::sync::Arc;

use rgfs_protocol::{Dict, Errno, FileType, Iatt, Value};

use super::super::changelog::Kind;
use super::super::child_set::ChildSet;
use super::super::core::{Core, to_the_end};
use super::super::favorite;
use super::super::lock::Lockee;
use super::direction::Direction;
use super::healer;
use super::recreate::NameView;
use super::source::{Command, Undecided, obey};
use crate::{Context, FopResult, Loc};

/// What is to be done about a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// All agree.
    Nothing,
    /// The good copies of the directory do not have it: away with it.
    Remove,
    /// It is what it is on this child.
    As(usize),
    /// It exists, but nowhere with a gfid; of this type.
    Nameless(FileType),
    /// Good copies do not know, so nobody does.
    Unknown,
    /// Good copies have different types of objects.
    Types,
    /// Good copies have different objects.
    Gfids,
}

/// Judges a name by what each child has under it: `None` for a child that failed. `absent` are those that know that there
/// is nothing; `sources` are the good copies of the directory, or `None` when no copy is to be believed more than others.
fn judge(stats: &[Option<Iatt>], absent: ChildSet, sources: Option<ChildSet>) -> Verdict {
    let all = ChildSet::all(stats.len());
    let stat = |child: usize| stats.get(child).and_then(Option::as_ref);
    let present: ChildSet = all.iter().filter(|child| stat(*child).is_some()).collect();
    let gfids: Vec<_> = stats.iter().flatten().map(|stat| stat.gfid).collect();
    let agreed = gfids.iter().all(|gfid| Some(gfid) == gfids.first() && !gfid.is_null());
    if agreed && (present == all || absent == all) {
        return Verdict::Nothing;
    }
    if sources.is_some_and(|sources| sources.minus(absent).is_empty()) {
        return Verdict::Remove;
    }
    let relevant = sources.map_or(present, |sources| sources.and(present));
    let Some(first) = relevant.first().and_then(stat) else { return Verdict::Unknown };
    let kind = first.file_type();
    if relevant.iter().any(|child| stat(child).is_none_or(|stat| stat.file_type() != kind)) {
        return Verdict::Types;
    }
    let with_gfid = |child: &usize| stat(*child).is_some_and(|stat| !stat.gfid.is_null() && stat.file_type() == kind);
    let Some(chosen) = relevant.iter().find(with_gfid).or_else(|| present.iter().find(with_gfid)) else {
        return Verdict::Nameless(kind);
    };
    let gfid = |child: usize| stat(child).map(|stat| stat.gfid);
    if relevant.iter().filter(with_gfid).any(|child| gfid(child) != gfid(chosen)) {
        return Verdict::Gfids;
    }
    Verdict::As(chosen)
}

impl Core {
    /// Heals the name of `loc` on all children. `gfid_req` is the gfid that the lookup would give to an object without one;
    /// `xdata` the lookup's, in which `gluster volume heal` says how it wants a dispute ended.
    ///
    /// # Errors
    /// EIO when the copies disagree and nobody may decide: the lookup fails. Other errors (ENOTCONN when not all children
    /// could be locked) mean that nothing was healed: the lookup goes on.
    pub(in super::super) async fn heal_name(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        gfid_req: Option<Value>,
        xdata: &Dict,
    ) -> FopResult<()> {
        let Some(parent) = loc.parent.clone() else { return Ok(()) };
        // The user waits for these rounds.
        let healer = Context { rounds: context.rounds.clone(), ..healer() };
        let (core, name, command) = (self.clone(), loc.name.clone(), self.command(xdata));
        to_the_end(self, "heal a name", |reply| async move {
            let lockee = Lockee::name(&parent, &name);
            let locks = core.lock_for_heal(&healer, &core.name, lockee, core.all()).await;
            let result = match core.insist_on_all(locks).await {
                Ok(locks) => {
                    let view = core.view(&healer, &parent, &name).await;
                    let result = core.heal_viewed(&healer, view, gfid_req, command).await;
                    locks.unlock().await;
                    result
                }
                Err(error) => Err(error),
            };
            reply.send(result);
        })
        .await
    }

    async fn heal_viewed(
        &self,
        context: &Context,
        mut view: NameView<'_>,
        gfid_req: Option<Value>,
        command: Option<FopResult<Command>>,
    ) -> FopResult<()> {
        let copies = self.copies(context, view.directory).await?;
        let direction = self.direction(Kind::Entry, &copies);
        let sources = self.believed(&direction);
        let stats: Vec<Option<Iatt>> = self.all().iter().map(|child| view.stat(child).copied()).collect();
        let absent = self.all().iter().filter(|child| view.is_absent(*child)).collect();
        let source = match judge(&stats, absent, sources) {
            Verdict::Nothing => return Ok(()),
            Verdict::Remove => {
                for child in view.present().iter() {
                    let Some(stat) = view.stat(child) else { continue };
                    let removed = self.remove_name(context, view.directory, view.name, child, stat).await;
                    removed.map_err(only_this_time)?;
                }
                return Ok(());
            }
            Verdict::As(child) => child,
            Verdict::Nameless(kind) => {
                let nobody = || self.error(Errno::EAGAIN, "heal a name").with_detail("it has no gfid anywhere");
                self.give_gfid(context, &mut view, kind, &gfid_req.ok_or_else(nobody)?).await?;
                let has_gfid = |child: &usize| view.stat(*child).is_some_and(|stat| !stat.gfid.is_null());
                view.present().iter().find(has_gfid).ok_or_else(nobody)?
            }
            Verdict::Unknown => {
                let trouble = self.all().iter().find_map(|child| view.trouble(child)).cloned();
                let error = trouble.unwrap_or_else(|| self.error(Errno::EAGAIN, "heal a name"));
                return Err(only_this_time(error));
            }
            Verdict::Types => return Err(self.disputed(&view, "type")),
            Verdict::Gfids => self.settle_gfids(&view, direction.sources, command)?,
        };
        let Some(stat) = view.stat(source).copied() else { return Ok(()) };
        self.give_gfid(context, &mut view, stat.file_type(), &Value::Gfuuid(stat.gfid)).await?;
        let has_it = |child: &usize| view.stat(*child).is_some_and(|other| other.gfid == stat.gfid);
        let right: ChildSet = self.all().iter().filter(has_it).collect();
        let mut result = Ok(());
        for child in self.all().minus(right).iter() {
            let made = self.recreate(context, &view, source, right, child).await;
            result = result.and(made.map_err(only_this_time));
        }
        result
    }

    /// The copies whose word on a name counts; `None` when none is to be believed more than others.
    ///
    /// A dirty mark need not be left over: other names of the directory may be changing now. Upstream believes nobody then, and
    /// gives back to all copies a name that was removed while one was away. But where the copies that somebody accuses are no
    /// quorum, nothing was done without the others, nor is it now.
    fn believed(&self, direction: &Direction) -> Option<ChildSet> {
        let needed = !self.has_quorum(self.all().minus(direction.sources));
        let believed = !direction.is_split_brain() && (needed || !direction.has_witness());
        believed.then_some(direction.sources)
    }

    /// Who wins when copies have different objects under a name. `sources` are the copies of the directory that nobody
    /// accuses: where these agree, the others missed that the object was replaced. Upstream does not trust them while any
    /// copy is dirty, and then nobody wins.
    pub(super) fn settle_gfids(
        &self,
        view: &NameView<'_>,
        sources: ChildSet,
        command: Option<FopResult<Command>>,
    ) -> FopResult<usize> {
        let stats: Vec<Iatt> = self.all().iter().map(|child| view.stat(child).copied().unwrap_or_default()).collect();
        let candidates = view.present();
        let gfid = |child: usize| view.stat(child).map(|stat| stat.gfid);
        let trusted = sources.and(candidates);
        let agreed = trusted.first().filter(|first| trusted.iter().all(|child| gfid(child) == gfid(*first)));
        let winner = match command {
            Some(command) => obey(command?, &stats, candidates).map_err(|why| match why {
                Undecided::Refused(text) => self.disputed(view, "gfid").with_detail(text),
                _ => self.disputed(view, "gfid"),
            })?,
            None if agreed.is_some() => agreed.unwrap_or_default(),
            None => {
                let directory = candidates.iter().any(|child| view.stat(child).is_some_and(Iatt::is_dir));
                let policy = self.options.favorite_child.filter(|_| !directory);
                let winner = policy.and_then(|policy| favorite::of_gfid(policy, &stats, candidates));
                winner.ok_or_else(|| self.disputed(view, "gfid"))?
            }
        };
        Ok(winner)
    }

    pub(super) fn disputed(&self, view: &NameView<'_>, what: &str) -> crate::FopError {
        let describe = |child: usize| {
            let stat = view.stat(child)?;
            Some(format!("{} ({:?}) on {}", stat.gfid, stat.file_type(), self.child(child).name()))
        };
        let copies: Vec<String> = self.all().iter().filter_map(describe).collect();
        let text = format!(
            "the copies disagree about the {what} of {:?} in {}: {}; remove the wrong ones on the bricks, or choose with \
             `gluster volume heal`",
            view.name,
            view.directory.gfid(),
            copies.join(", ")
        );
        self.error(Errno::EIO, "heal a name").with_detail(text)
    }

    /// What an administrator wants (`heal-op`, `child-name`).
    pub(in super::super) fn command(&self, xdata: &Dict) -> Option<FopResult<Command>> {
        let wanted = match xdata.int("heal-op")? {
            10 => Ok(Command::BiggerFile),
            14 => Ok(Command::LatestMtime),
            11 => {
                let name = xdata.bytes("child-name").unwrap_or_default();
                let child = self.children.iter().position(|child| child.name().as_bytes() == name.as_ref());
                child.map(Command::Child).ok_or("Invalid brick name")
            }
            _ => Err("this heal operation is not one of a client"),
        };
        Some(wanted.map_err(|text| self.error(Errno::EINVAL, "heal").with_detail(text)))
    }
}

/// EIO is for disputes; a heal that failed for another reason may be tried again.
fn only_this_time(error: crate::FopError) -> crate::FopError {
    if error.errno == Errno::EIO { error.with_errno(Errno::EAGAIN) } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rgfs_protocol::Gfid;

    #[test]
    fn verdicts() {
        let file = |gfid: u8| Some(Iatt { gfid: Gfid([gfid; 16]), mode: 0o100_644, ..Iatt::default() });
        let directory = |gfid: u8| Some(Iatt { gfid: Gfid([gfid; 16]), mode: 0o040_755, ..Iatt::default() });
        let set = |indices: &[usize]| indices.iter().copied().collect::<ChildSet>();
        let all = Some(set(&[0, 1, 2]));
        for (name, stats, absent, sources, verdict) in [
            ("all have it", [file(1), file(1), file(1)], &[][..], all, Verdict::Nothing),
            ("nobody has it", [None, None, None], &[0, 1, 2], all, Verdict::Nothing),
            ("one lacks it", [file(1), file(1), None], &[2], all, Verdict::As(0)),
            ("two lack it, nobody is accused", [None, file(1), None], &[0, 2], all, Verdict::As(1)),
            ("only the accused one has it", [None, None, file(1)], &[0, 1], Some(set(&[0, 1])), Verdict::Remove),
            ("the accused one has another", [file(1), file(1), file(2)], &[], Some(set(&[0, 1])), Verdict::As(0)),
            (
                "the accused one has another type",
                [file(1), file(1), directory(2)],
                &[],
                Some(set(&[0, 1])),
                Verdict::As(0),
            ),
            ("good copies differ", [file(1), file(2), file(1)], &[], all, Verdict::Gfids),
            ("types of good copies differ", [file(1), directory(2), file(1)], &[], all, Verdict::Types),
            ("nobody is believed", [file(1), None, None], &[1, 2], None, Verdict::As(0)),
            ("nobody is believed, and they differ", [file(1), file(2), None], &[2], None, Verdict::Gfids),
            ("without gfid on one", [file(0), file(1), file(1)], &[], all, Verdict::As(1)),
            ("without gfid", [file(0), file(0), None], &[2], all, Verdict::Nameless(FileType::Regular)),
            ("a good copy failed", [None, None, file(1)], &[1], Some(set(&[0, 1])), Verdict::Unknown),
        ] {
            assert_eq!(judge(&stats, set(absent), sources), verdict, "{name}");
        }
    }
}
