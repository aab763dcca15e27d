//! Fops on files, which go where the file is, and after it when rebalance moves it (`dht_rebalance_in_progress_check`,
//! `dht_rebalance_complete_check`, `dht_check_and_open_fd_on_subvol`). What an answer means is decided in
//! [`migration`].
//!
//! As long as nothing moves, a fop is one call and one look at its answer.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rgfs_protocol::{Dict, Errno, Value};

use super::core::{Core, as_root};
use super::migration::{self, Family, Seen, Step};
use super::{keys, linkto};
use crate::reply::{Payload, WriteReply};
use crate::{Context, Fd, FopResult, Inode, Loc, Translator};

/// How often a fop goes after a file. More than two moves during one fop are no accident.
const ATTEMPTS: u32 = 5;

/// What a fop is about.
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    /// An inode, or a name of it.
    Loc(&'a Loc),
    /// An open file.
    Fd(&'a Arc<Fd>),
}

impl<'a> Target<'a> {
    fn inode(self) -> &'a Arc<Inode> {
        match self {
            Target::Loc(loc) => &loc.inode,
            Target::Fd(fd) => &fd.inode,
        }
    }
}

/// Where else than on its first subvolume a file is open.
#[derive(Default)]
pub(super) struct FdState(Mutex<Elsewhere>);

#[derive(Default)]
struct Elsewhere {
    /// Indices of subvolumes.
    opened: Vec<usize>,
    /// For a file that is open for appending: the same file, on the subvolume of that index, open for writing at the
    /// offsets that the source used.
    by_offset: Option<(usize, Arc<Fd>)>,
}

impl Core {
    /// Does a fop on a file: at its subvolume, and wherever else a migration makes it necessary. `call` is the fop; it
    /// gets the subvolume, the xdata, and when it repeats what was done at the source: the source's answer.
    pub(super) async fn on_file<'a, R, F>(
        self: &'a Arc<Self>,
        context: &'a Context,
        target: Target<'a>,
        family: Family,
        xdata: Dict,
        call: impl Fn(&'a Arc<dyn Translator>, Dict, Option<&R>) -> F + Send + Sync,
    ) -> FopResult<R>
    where
        R: Seen + Send + Sync,
        F: Future<Output = FopResult<R>> + Send,
    {
        if let Some(only) = self.only() {
            return call(only, xdata, None).await;
        }
        let at = self.cached(context, target.inode()).await?;
        let result = call(self.child(at), xdata.clone(), None).await;
        match migration::step(family, &result) {
            Step::Answer if !self.is_bereft(at, &result) => result,
            _ => Box::pin(self.follow_file(context, target, family, xdata, &call, at, result)).await,
        }
    }

    async fn follow_file<'a, R, F>(
        self: &'a Arc<Self>,
        context: &'a Context,
        target: Target<'a>,
        family: Family,
        xdata: Dict,
        call: &(impl Fn(&'a Arc<dyn Translator>, Dict, Option<&R>) -> F + Send + Sync),
        mut at: usize,
        mut result: FopResult<R>,
    ) -> FopResult<R>
    where
        R: Seen + Send + Sync,
        F: Future<Output = FopResult<R>> + Send,
    {
        let mut opened = false;
        let mut missing = false;
        for _ in 0..ATTEMPTS {
            let step = match std::mem::take(&mut missing) || self.is_bereft(at, &result) {
                true => Step::Follow,
                false => migration::step(family, &result),
            };
            match step {
                Step::Answer => return result,
                Step::Hide => return result.map(hidden),
                Step::Verify => {
                    let marked = self.is_moving(context, target, at).await;
                    return result.map(|reply| if marked { hidden(reply) } else { reply });
                }
                Step::Repeat => {
                    let done = result?;
                    let Some(to) = self.destination(context, target, at).await? else { return Ok(done) };
                    if let Target::Fd(fd) = target {
                        self.open_there(context, fd, to.index).await?;
                    }
                    match call(self.child(to.index), xdata.clone(), Some(&done)).await {
                        // What was remembered is of an earlier migration.
                        Err(error) if migration::is_missing(error.errno) && to.remembered => {
                            self.remember_file(target.inode(), at);
                            result = Ok(done);
                        }
                        Err(error) if !migration::is_missing(error.errno) => return Err(error),
                        // Without a destination nothing is moved.
                        _ => return Ok(hidden(done)),
                    }
                }
                Step::Open => {
                    let Target::Fd(fd) = target else { return result };
                    if std::mem::replace(&mut opened, true) {
                        return result;
                    }
                    self.forget_opened(fd, at);
                    match self.open_there(context, fd, at).await {
                        Ok(()) => result = call(self.child(at), xdata.clone(), None).await,
                        Err(error) if migration::is_missing(error.errno) => missing = true,
                        Err(_) => return result,
                    }
                }
                Step::Suspect => match self.linkto_of(context, target, at).await {
                    Ok(Some(_)) => missing = true,
                    _ => return result,
                },
                Step::Follow => {
                    let new = match self.new_home(context, target, at, result.is_ok()).await {
                        Ok(Some(new)) => new,
                        Ok(None) => return result,
                        Err(error) => return result.and(Err(error)),
                    };
                    if let Target::Fd(fd) = target {
                        self.open_there(context, fd, new).await?;
                    }
                    at = new;
                    result = call(self.child(at), xdata.clone(), None).await;
                }
            }
        }
        let moves = "rebalance moves the file faster than it can be followed; try again";
        result.and(Err(self.error(Errno::EIO, "follow a file").with_detail(moves)))
    }

    /// Whether a fop failed because a child that leaves the volume is away. Most likely it was taken out when all its files had moved, and
    /// nobody has told us where this one is.
    fn is_bereft<R>(&self, at: usize, result: &FopResult<R>) -> bool {
        matches!(result, Err(error) if error.errno == Errno::ENOTCONN) && self.is_leaving(at)
    }

    /// WRITE. What was appended at the source is written at the destination where the source has put it.
    pub(super) async fn write(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        data: Payload,
        offset: u64,
        flags: u32,
        xdata: Dict,
    ) -> FopResult<WriteReply> {
        self.on_file(context, Target::Fd(fd), Family::Change, xdata, |child, xdata, done: Option<&WriteReply>| {
            let (data, place) = (data.clone(), done.map(|done| done.post.size.saturating_sub(done.written as u64)));
            async move {
                let Some(place) = place else { return child.writev(context, fd, data, offset, flags, xdata).await };
                // Rebalance must not write older data over it.
                let xdata = xdata.with(keys::PROTECT_WRITES, Value::Uint(1));
                if fd.flags & libc::O_APPEND == 0 {
                    return child.writev(context, fd, data, offset, flags, xdata).await;
                }
                let twin = self.by_offset(context, fd, child).await?;
                child.writev(context, &twin, data, place, flags & !libc::O_APPEND.cast_unsigned(), xdata).await
            }
        })
        .await
    }

    /// FLUSH, also where else the file was opened on its way.
    pub(super) async fn flush(self: &Arc<Self>, context: &Context, fd: &Arc<Fd>, xdata: Dict) -> FopResult<Dict> {
        let flush = |child: &'_ Arc<dyn Translator>, xdata| {
            let child = child.clone();
            async move { child.flush(context, fd, xdata).await }
        };
        let reply = self
            .on_file(context, Target::Fd(fd), Family::Lock, xdata.clone(), |child, xdata, _| flush(child, xdata))
            .await?;
        if self.only().is_none() {
            let at = self.cached(context, &fd.inode).await?;
            for index in self.opened_besides(fd, at) {
                match self.child(index).flush(context, fd, xdata.clone()).await {
                    // The migration was given up, and the file removed there.
                    Err(error) if migration::after_failure(Family::Change, error.errno) == Step::Answer => {
                        return Err(error);
                    }
                    _ => {}
                }
            }
        }
        Ok(reply)
    }

    /// The linkto of a file on one subvolume: the name of another one. `None` without.
    async fn linkto_of(&self, context: &Context, target: Target<'_>, at: usize) -> FopResult<Option<Bytes>> {
        let (root, child) = (as_root(context), self.child(at));
        let reply = match target {
            Target::Loc(loc) => {
                let loc = Loc::inode(loc.inode.clone());
                child.getxattr(&root, &loc, Some(keys::LINKTO), Dict::NULL).await
            }
            Target::Fd(fd) => child.fgetxattr(&root, fd, Some(keys::LINKTO), Dict::NULL).await,
        };
        match reply {
            Ok(reply) => Ok(linkto::target(&reply.dict)),
            Err(error) if error.errno == Errno::ENODATA => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the bits that look like marks are marks.
    async fn is_moving(&self, context: &Context, target: Target<'_>, at: usize) -> bool {
        let known = self.file(target.inode()).is_some_and(|file| file.cached == at && file.moving_to.is_some());
        known || matches!(self.linkto_of(context, target, at).await, Ok(Some(_)))
    }

    /// Where a file with marks is being moved to; `None` when the marks are a user's, or there is no destination (any
    /// more).
    pub(super) async fn destination(
        &self,
        context: &Context,
        target: Target<'_>,
        at: usize,
    ) -> FopResult<Option<Destination>> {
        let inode = target.inode();
        let known = self.file(inode).filter(|file| file.cached == at).and_then(|file| file.moving_to);
        if let Some(index) = known {
            return Ok(Some(Destination { index, remembered: true }));
        }
        let name = match self.linkto_of(context, target, at).await {
            Ok(Some(name)) => name,
            Ok(None) => return Ok(None),
            Err(error) if migration::is_missing(error.errno) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(index) = self.index_of(&name) else {
            let detail = format!(
                "the file is being moved to {}, a brick that the volfile at work does not name",
                String::from_utf8_lossy(&name)
            );
            return Err(self.error(Errno::EIO, "find where a file moves to").with_detail(detail));
        };
        if index == at {
            return Ok(None);
        }
        match self.child(index).lookup(&as_root(context), &Loc::inode(inode.clone()), Dict::NULL).await {
            Ok(there) if there.stat.gfid == inode.gfid() => {
                self.remember_moving(inode, at, index);
                Ok(Some(Destination { index, remembered: false }))
            }
            Ok(_) => Err(self.error(Errno::EIO, "find where a file moves to").with_detail("another file is there")),
            Err(error) if migration::is_missing(error.errno) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where a file is that is not at `at` any more; `None` when it is there after all. `has_linkto_mode` tells that an
    /// answer showed what may be its remains.
    pub(super) async fn new_home(
        self: &Arc<Self>,
        context: &Context,
        target: Target<'_>,
        at: usize,
        has_linkto_mode: bool,
    ) -> FopResult<Option<usize>> {
        let inode = target.inode();
        let by_gfid = Loc::inode(inode.clone());
        let root = as_root(context);
        let mut aim = None;
        if has_linkto_mode {
            aim = match self.linkto_of(context, target, at).await {
                // A user likes that mode.
                Ok(None) => return Ok(None),
                Ok(Some(name)) => self.index_of(&name).filter(|index| *index != at),
                Err(_) => None,
            };
        }
        if let Some(index) = aim {
            let request = Dict::empty().with(keys::LINKTO, Value::Uint(256));
            let there = self.child(index).lookup(&root, &by_gfid, request).await;
            if there.is_ok_and(|there| there.stat.gfid == inode.gfid() && !linkto::is_linkto(&there.stat, &there.xdata))
            {
                self.remember_file(inode, index);
                return Ok(Some(index));
            }
        }
        match self.discover(&root, &by_gfid, Dict::NULL).await {
            Ok(found) if found.stat.gfid != inode.gfid() => {
                Err(self.error(Errno::EIO, "find a moved file").with_detail("the children disagree about its gfid"))
            }
            Ok(_) => Ok(self.file(inode).map(|file| file.cached).filter(|index| *index != at)),
            Err(error) => match (target, aim) {
                // It has no name any more, but we have it open.
                (Target::Fd(fd), Some(index)) if self.is_open_there(fd, index) => {
                    self.remember_file(inode, index);
                    Ok(Some(index))
                }
                _ => Err(error),
            },
        }
    }

    /// Opens a file where it is being moved to, or is now. As root: whoever opened it first was checked then, and the
    /// destination has no owner yet.
    async fn open_there(&self, context: &Context, fd: &Arc<Fd>, index: usize) -> FopResult<()> {
        if self.is_open_there(fd, index) {
            return Ok(());
        }
        let loc = Loc::inode(fd.inode.clone());
        self.child(index).open(&as_root(context), &loc, reopen_flags(fd), fd, Dict::NULL).await?;
        self.elsewhere(fd, |elsewhere| elsewhere.opened.push(index));
        Ok(())
    }

    /// The fd through which what was appended at the source is written at the destination.
    pub(super) async fn by_offset(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        child: &Arc<dyn Translator>,
    ) -> FopResult<Arc<Fd>> {
        let index = self.index_of(child.name().as_bytes()).unwrap_or_default();
        let known = self.elsewhere(fd, |elsewhere| elsewhere.by_offset.clone());
        if let Some((_, twin)) = known.filter(|(at, _)| *at == index) {
            return Ok(twin);
        }
        let flags = reopen_flags(fd) & !libc::O_APPEND;
        let twin = Fd::new(fd.inode.clone(), flags, fd.pid);
        child.open(&as_root(context), &Loc::inode(fd.inode.clone()), flags, &twin, Dict::NULL).await?;
        self.elsewhere(fd, |elsewhere| elsewhere.by_offset = Some((index, twin.clone())));
        Ok(twin)
    }

    /// Subvolumes besides `at` where a migration made us open the file. Allocates nothing for a file that never moved.
    pub(super) fn opened_besides(&self, fd: &Fd, at: usize) -> Vec<usize> {
        let Some(state) = fd.contexts.get::<FdState>(self.key) else { return Vec::new() };
        let elsewhere = state.0.lock().unwrap_or_else(PoisonError::into_inner);
        elsewhere.opened.iter().copied().filter(|index| *index != at).collect()
    }

    fn is_open_there(&self, fd: &Fd, index: usize) -> bool {
        let Some(state) = fd.contexts.get::<FdState>(self.key) else { return false };
        state.0.lock().unwrap_or_else(PoisonError::into_inner).opened.contains(&index)
    }

    fn forget_opened(&self, fd: &Fd, index: usize) {
        self.elsewhere(fd, |elsewhere| elsewhere.opened.retain(|opened| *opened != index));
    }

    fn elsewhere<T>(&self, fd: &Fd, change: impl FnOnce(&mut Elsewhere) -> T) -> T {
        let state = fd.contexts.get_or_insert_with(self.key, FdState::default);
        change(&mut state.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Where a file is being moved to.
pub(super) struct Destination {
    /// Index of the subvolume.
    pub(super) index: usize,
    /// Nobody asked whether it is still true.
    remembered: bool,
}

/// Flags without those that make or empty a file: its data is on the way.
fn reopen_flags(fd: &Fd) -> i32 {
    fd.flags & !(libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC)
}

fn hidden<R: Seen>(mut reply: R) -> R {
    reply.hide();
    reply
}
