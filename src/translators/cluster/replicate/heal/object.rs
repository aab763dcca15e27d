//! All heals of one object, one after the other (`afr-self-heal-common.c:afr_selfheal_do`).

use std::sync::Arc;

use rgfs_protocol::{Dict, Errno, FileType};

use super::super::changelog::Counters;
use super::super::core::{Core, to_the_end};
use super::super::target::Target;
use super::inspect::{Needs, needs};
use super::source::{Copy, Judge};
use super::{HEAL_PID, healer};
use crate::{Context, Fd, FopResult, Inode, Loc};

/// How the heal of an object ended, when nothing failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealOutcome {
    /// Nothing was wrong.
    Healthy,
    /// There were marks, but under locks nothing turned out to be to be done.
    Unneeded,
    /// Copies were repaired.
    Healed,
}

/// Result of one kind of heal: whether something was to be done.
pub(super) type Healed = FopResult<bool>;

const O_RDWR: i32 = 2;
const O_DIRECTORY: i32 = 0o200_000;

impl Core {
    /// Heals everything of an object, as the self-heal daemon does for each entry of the bricks' index.
    ///
    /// # Errors
    /// EIO for a split-brain; ESTALE when the object is gone; ENOTCONN and EAGAIN when it must wait.
    pub(in super::super) async fn heal_inode(self: &Arc<Self>, inode: &Arc<Inode>) -> FopResult<HealOutcome> {
        let judge = self.judge();
        let (core, inode) = (self.clone(), inode.clone());
        to_the_end(self, "heal", |reply| async move {
            reply.send(core.heal_object(&inode, Needs::ALL, judge).await);
        })
        .await
    }

    /// Heals of an object what is `allowed`. Run it in a task that nobody drops.
    pub(in super::super) async fn heal_object(
        self: &Arc<Self>,
        inode: &Arc<Inode>,
        allowed: Needs,
        judge: Judge,
    ) -> FopResult<HealOutcome> {
        let context = healer();
        let (inode, needs) = self.inspect(&context, inode).await?;
        if !needs.any() {
            return Ok(HealOutcome::Healthy);
        }
        let needs = needs.and(allowed);
        let mut results: Vec<Healed> = Vec::new();
        if needs.data && inode.file_type() == FileType::Regular {
            results.push(match self.open_everywhere(&context, &inode).await {
                Ok(fd) => self.heal_data(&healer(), &fd, judge).await,
                Err(error) => Err(error),
            });
        }
        if needs.metadata {
            results.push(self.heal_metadata(&healer(), &inode, judge).await);
        }
        if needs.entry {
            results.push(self.heal_entries(&healer(), &inode).await);
        }
        let mut done = false;
        let mut failure = None;
        for result in results {
            match result {
                Ok(healed) => done |= healed,
                // A split-brain is what most needs to be told.
                Err(error) if error.errno == Errno::EIO || failure.is_none() => failure = Some(error),
                Err(_) => {}
            }
        }
        match failure {
            Some(error) => Err(error),
            None if done => Ok(HealOutcome::Healed),
            None => Ok(HealOutcome::Unneeded),
        }
    }

    /// Looks at an object without locks: its inode (of known type), and what it seems to need. Marks that are all zero make
    /// the bricks forget it in their index (`afr_shd_zero_xattrop`).
    async fn inspect(self: &Arc<Self>, context: &Context, inode: &Arc<Inode>) -> FopResult<(Arc<Inode>, Needs)> {
        let replies = self.look_at(context, inode, self.snapshot().up).await;
        let gone = |error: &crate::FopError| matches!(error.errno, Errno::ENOENT | Errno::ESTALE);
        if replies.len() == self.count() && replies.iter().all(|(_, reply)| reply.as_ref().is_err_and(gone)) {
            return Err(self.error(Errno::ESTALE, "heal").with_detail(format!("{} is gone", inode.gfid())));
        }
        let copies: Vec<(usize, Copy)> =
            replies.into_iter().filter_map(|(index, reply)| Some((index, self.copy(reply.ok()?)))).collect();
        let seen: Vec<(usize, &Copy)> = copies.iter().map(|(index, copy)| (*index, copy)).collect();
        if seen.len() < 2 {
            let text = format!("{} of {} copies can be seen", seen.len(), self.count());
            return Err(self.error(Errno::ENOTCONN, "heal").with_detail(text));
        }
        let Some(needs) = needs(&seen, self.setting().arbiter) else {
            let text = format!("the copies of {} are of different types", inode.gfid());
            return Err(self.error(Errno::EIO, "heal").with_detail(text));
        };
        let kind = seen.first().map_or(FileType::Unknown, |(_, copy)| copy.stat.file_type());
        let inode = match inode.file_type() == kind {
            true => inode.clone(),
            false => Inode::known(inode.gfid(), kind),
        };
        if !needs.any() && seen.len() == self.count() {
            let (target, zero) =
                (&Target::Inode(inode.clone()), &self.keys.delta(|_| Counters::ZERO, Some(Counters::ZERO)));
            self.ask(self.all(), |_, child| Box::pin(target.xattrop(child, context, zero.clone(), Dict::NULL))).await;
        }
        Ok((inode, needs))
    }

    /// Opens a file for reading and writing on all children that are up.
    async fn open_everywhere(&self, context: &Context, inode: &Arc<Inode>) -> FopResult<Arc<Fd>> {
        let fd = Fd::new(inode.clone(), O_RDWR, HEAL_PID);
        let (loc, opened) = (&Loc::inode(inode.clone()), &fd);
        let replies = self.ask(self.all(), |_, child| child.open(context, loc, O_RDWR, opened, Dict::NULL)).await;
        self.all_or_error(replies)?;
        Ok(fd)
    }

    /// Opens a directory on all children.
    pub(super) async fn open_directory_everywhere(&self, context: &Context, inode: &Arc<Inode>) -> FopResult<Arc<Fd>> {
        let fd = Fd::new(inode.clone(), O_DIRECTORY, HEAL_PID);
        let (loc, opened) = (&Loc::inode(inode.clone()), &fd);
        let replies = self.ask(self.all(), |_, child| child.opendir(context, loc, opened, Dict::NULL)).await;
        self.all_or_error(replies)?;
        Ok(fd)
    }

    fn all_or_error<T>(&self, replies: super::super::core::Replies<T>) -> FopResult<()> {
        replies.into_iter().try_for_each(|(index, reply)| match reply {
            Ok(_) => Ok(()),
            Err(error) => Err(self.unseen(index, &error)),
        })
    }
}
