//! Split-brains in the hands of users: virtual xattrs that tell of them, let a copy be looked at, and end them
//! (`afr-common.c:afr_get_split_brain_status`, `afr-inode-write.c:afr_handle_special_xattr`).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rgfs_protocol::{Dict, Errno, Gfid, Value};
use smallvec::SmallVec;

use super::changelog::{Counters, Kind};
use super::core::{Core, to_the_end};
use super::heal::inspect::Needs;
use super::heal::source::{Command, Judge};
use super::heal::{HealOutcome, REFUSED, healer};
use super::heal_info::HEAL_INFO;
use super::lock::Lockee;
use super::target::Target;
use crate::event::Event;
use crate::reply::XattrReply;
use crate::{Context, FopError, FopResult, Inode, task};

const HEAL: &str = "glusterfs.heal-sbrain";
const STATUS: &str = "replica.split-brain-status";
const CHOICE: &str = "replica.split-brain-choice";
const CHOICE_TIMEOUT: &str = "replica.split-brain-choice-timeout";
const FINALIZE: &str = "replica.split-brain-heal-finalize";
const REPLACE_BRICK: &str = "trusted.replace-brick";
const ADD_BRICK: &str = "trusted.add-brick";
/// Why a heal command did nothing.
const MESSAGE: &str = "sh-fail-msg";
const NOT_IN_SPLIT_BRAIN: &str = "File not in split-brain";
/// The pid of the mount with which glusterd adds and replaces bricks (`GF_CLIENT_PID_ADD_REPLICA_MOUNT`).
const BRICK_CHANGER: i32 = -12;
/// Size, time, link count, owner and mode of the inode changed, for the user who looks through this client (`UP_*`).
const EVERYTHING_CHANGED: u32 = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20;

/// The copies that users look at in split-brains; kept on the inode, and here is when that ends.
pub(super) struct Choices {
    /// How long a choice lasts, in seconds.
    timeout: AtomicU64,
    next: AtomicU64,
    /// The latest choice of each inode, by number.
    latest: Mutex<HashMap<Gfid, u64>>,
}

impl Default for Choices {
    fn default() -> Self {
        Choices { timeout: AtomicU64::new(300), next: AtomicU64::new(0), latest: Mutex::default() }
    }
}

impl Choices {
    fn begin(&self, gfid: Gfid) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).insert(gfid, number);
        number
    }

    /// Ends the choice of an inode: this one, or any. False when it is another now.
    fn end(&self, gfid: Gfid, number: Option<u64>) -> bool {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = number.is_none() || latest.get(&gfid).copied() == number;
        if is_it {
            latest.remove(&gfid);
        }
        is_it
    }
}

impl Core {
    /// Answers GETXATTR of a virtual xattr of replicate; `None` for other names.
    pub(super) async fn virtual_getxattr(
        self: &Arc<Self>,
        target: &Target,
        name: &str,
        xdata: &Dict,
    ) -> Option<FopResult<XattrReply>> {
        match name {
            HEAL_INFO => Some(self.heal_info(target.inode()).await),
            HEAL => Some(self.heal_by_command(target.inode(), xdata).await),
            STATUS => Some(self.split_brain_status(target.inode()).await),
            _ => None,
        }
    }

    /// Carries SETXATTR of a virtual xattr of replicate out; `None` for other names.
    pub(super) async fn virtual_setxattr(
        self: &Arc<Self>,
        context: &Context,
        target: &Target,
        dict: &Dict,
    ) -> Option<FopResult<Dict>> {
        // The names begin alike, and most xattrs otherwise.
        let ours = |key: &Bytes| {
            key.starts_with(b"replica.") || key == REPLACE_BRICK.as_bytes() || key == ADD_BRICK.as_bytes()
        };
        if !dict.iter().any(|(key, _)| ours(key)) {
            return None;
        }
        let inode = target.inode();
        let done = if let Some(value) = dict.bytes(CHOICE) {
            self.choose_to_look_at(inode, &value).await
        } else if let Some(value) = dict.bytes(FINALIZE) {
            self.finalize(inode, &value).await
        } else if let Some(value) = dict.get(CHOICE_TIMEOUT) {
            self.set_choice_timeout(value)
        } else if let Some(value) = dict.bytes(REPLACE_BRICK).or_else(|| dict.bytes(ADD_BRICK)) {
            self.brick_is_empty(context, inode, &value).await
        } else {
            return None;
        };
        Some(done.map(|()| Dict::NULL))
    }

    fn child_named(&self, name: &[u8]) -> Option<usize> {
        let name = name.strip_suffix(b"\0").unwrap_or(name);
        self.children.iter().position(|child| child.name().as_bytes() == name)
    }

    fn no_such_child(&self, name: &[u8]) -> FopError {
        let names: Vec<&str> = self.children.iter().map(|child| &**child.name()).collect();
        let text = format!("{:?} is none of {}", String::from_utf8_lossy(name), names.join(", "));
        self.error(Errno::EINVAL, "split-brain").with_detail(text)
    }

    /// Whether content and attributes are in split-brain.
    async fn is_split(&self, inode: &Arc<Inode>) -> FopResult<(bool, bool)> {
        let copies = self.copies(&healer(), inode).await.map_err(|error| error.with_errno(Errno::EAGAIN))?;
        let split = |kind| self.direction(kind, &copies).sources.is_empty();
        Ok((split(Kind::Data), split(Kind::Metadata)))
    }

    async fn split_brain_status(&self, inode: &Arc<Inode>) -> FopResult<XattrReply> {
        let (data, metadata) = self.is_split(inode).await?;
        let text = if data || metadata {
            let word = |split| if split { "yes" } else { "no" };
            let names: Vec<&str> = self.children.iter().map(|child| &**child.name()).collect();
            let (data, metadata) = (word(data), word(metadata));
            format!("data-split-brain:{data}    metadata-split-brain:{metadata}    Choices:{}", names.join(","))
        } else {
            "The file is not under data or metadata split-brain".to_owned()
        };
        Ok(XattrReply { dict: Dict::empty().with(STATUS, Value::str(&text)), xdata: Dict::NULL })
    }

    /// Ends a split-brain as `gluster volume heal VOLUME split-brain` wants.
    async fn heal_by_command(self: &Arc<Self>, inode: &Arc<Inode>, xdata: &Dict) -> FopResult<XattrReply> {
        let message =
            |text: &str| Ok(XattrReply { dict: Dict::empty().with(MESSAGE, Value::str(text)), xdata: Dict::NULL });
        let judge = match self.command(xdata) {
            Some(Ok(command)) => Judge::Command(command),
            Some(Err(error)) => return message(error.detail.as_deref().unwrap_or("unknown heal command")),
            None => self.judge(),
        };
        match self.heal_with(inode, judge).await {
            Ok(HealOutcome::Healed) => Ok(XattrReply { dict: Dict::empty(), xdata: Dict::NULL }),
            Ok(HealOutcome::Healthy | HealOutcome::Unneeded) => message(NOT_IN_SPLIT_BRAIN),
            Err(error) if error.step == REFUSED => message(error.detail.as_deref().unwrap_or_default()),
            Err(error) => Err(error),
        }
    }

    async fn heal_with(self: &Arc<Self>, inode: &Arc<Inode>, judge: Judge) -> FopResult<HealOutcome> {
        let (core, inode) = (self.clone(), inode.clone());
        to_the_end(self, "heal", |reply| async move {
            let result = core.heal_object(&inode, Needs::ALL, judge).await;
            core.inode(&inode).set_stale();
            reply.send(result);
        })
        .await
    }

    /// From now on, and for some time, this client reads the inode from the named copy.
    async fn choose_to_look_at(self: &Arc<Self>, inode: &Arc<Inode>, name: &Bytes) -> FopResult<()> {
        let is_none = name.strip_suffix(b"\0").unwrap_or(name) == b"none";
        let child = self.child_named(name);
        if child.is_none() && !is_none {
            return Err(self.no_such_child(name));
        }
        let (data, metadata) = self.is_split(inode).await?;
        if !data && !metadata {
            let text = format!("{} is not in split-brain", inode.gfid());
            return Err(self.error(Errno::EINVAL, "split-brain").with_detail(text));
        }
        let Some(child) = child else {
            self.stop_looking(inode);
            return Ok(());
        };
        let number = self.choices.begin(inode.gfid());
        *self.inode(inode).split_brain_choice.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        self.forget_cached(inode);
        let timeout = Duration::from_secs(self.choices.timeout.load(Ordering::Relaxed));
        let (sleep, core, inode) = (self.clock.sleep(timeout), Arc::downgrade(self), Arc::downgrade(inode));
        task::spawn(async move {
            sleep.await;
            let (Some(core), Some(inode)) = (core.upgrade(), inode.upgrade()) else { return };
            if core.choices.end(inode.gfid(), Some(number)) {
                core.clear_choice(&inode);
            }
        });
        Ok(())
    }

    /// A user chose a copy of an inode to look at.
    pub(super) fn is_looked_at(&self, inode: &Inode) -> bool {
        self.inode(inode).split_brain_choice.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn stop_looking(&self, inode: &Arc<Inode>) {
        self.choices.end(inode.gfid(), None);
        self.clear_choice(inode);
    }

    fn clear_choice(&self, inode: &Arc<Inode>) {
        *self.inode(inode).split_brain_choice.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.forget_cached(inode);
    }

    /// What the kernel and caches know of the inode comes from another copy.
    fn forget_cached(&self, inode: &Inode) {
        self.events.announce(&Event::CacheInvalidation { gfid: inode.gfid(), flags: EVERYTHING_CHANGED });
    }

    fn set_choice_timeout(&self, value: &Value) -> FopResult<()> {
        let text = value.as_bytes().and_then(|text| std::str::from_utf8(&text).ok()?.trim().parse().ok());
        let minutes = value.as_int().or(text).and_then(|minutes: i64| u64::try_from(minutes).ok());
        let wrong = || self.error(Errno::EINVAL, "split-brain").with_detail("the timeout is a number of minutes");
        self.choices.timeout.store(minutes.ok_or_else(wrong)?.saturating_mul(60), Ordering::Relaxed);
        Ok(())
    }

    /// Heals from the named copy, and lets nobody look at a chosen one any more, whatever comes of it.
    async fn finalize(self: &Arc<Self>, inode: &Arc<Inode>, name: &Bytes) -> FopResult<()> {
        let child = self.child_named(name).ok_or_else(|| self.no_such_child(name))?;
        self.stop_looking(inode);
        let healed = self.heal_with(inode, Judge::Command(Command::Child(child))).await;
        self.forget_cached(inode);
        healed.map(|_| ())
    }

    /// A brick was replaced or added, and has nothing of the root yet: so it is noted, for the self-heal daemon to fill it
    /// (`_afr_handle_empty_brick`). Only glusterd's helper may say so. Other replica sets have nothing to do.
    async fn brick_is_empty(self: &Arc<Self>, context: &Context, inode: &Arc<Inode>, name: &Bytes) -> FopResult<()> {
        if context.pid != BRICK_CHANGER {
            let text = "only glusterd changes the bricks of a volume: use `gluster volume replace-brick`";
            return Err(self.error(Errno::EPERM, "setxattr").with_detail(text));
        }
        let Some(child) = self.child_named(name) else { return Ok(()) };
        let (core, inode) = (self.clone(), inode.clone());
        to_the_end(self, "note an empty brick", |reply| async move {
            let metadata = core.accuse_empty(&inode, child, Kind::Metadata).await;
            reply.send(match metadata {
                Ok(()) => core.accuse_empty(&inode, child, Kind::Entry).await,
                failed => failed,
            });
        })
        .await
    }

    async fn accuse_empty(self: &Arc<Self>, inode: &Arc<Inode>, child: usize, kind: Kind) -> FopResult<()> {
        let context = healer();
        let target = Target::Inode(inode.clone());
        let lockee = match kind {
            Kind::Entry => Lockee::all_names(inode),
            _ => Lockee::metadata(target.clone()),
        };
        let locks = self.lock(&context, &self.name, SmallVec::from_iter([lockee]), self.snapshot().up).await?;
        let mut counters = Counters::of(kind, 1);
        if kind == Kind::Entry && self.options.granular_entry_heal {
            counters.0[Kind::Data.index()] = 1;
        }
        let delta = self.keys.delta(|index| if index == child { counters } else { Counters::ZERO }, None);
        let (target, delta, by) = (&target, &delta, &context);
        let replies =
            self.ask(locks.children(), |_, child| Box::pin(target.xattrop(child, by, delta.clone(), Dict::NULL))).await;
        locks.unlock().await;
        match replies.iter().any(|(_, reply)| reply.is_ok()) {
            true => Ok(()),
            false => Err(super::errors::final_error(&replies).unwrap_or_else(|| self.error(Errno::EAGAIN, "setxattr"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_choice_outlives_the_end_of_an_earlier_one() {
        let choices = Choices::default();
        let first = choices.begin(Gfid::ROOT);
        let second = choices.begin(Gfid::ROOT);
        assert!(!choices.end(Gfid::ROOT, Some(first)));
        assert!(choices.end(Gfid::ROOT, Some(second)));
        assert!(!choices.end(Gfid::ROOT, Some(second)));
        assert!(choices.end(Gfid::ROOT, None));
    }
}
