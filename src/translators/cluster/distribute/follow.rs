//! Fops on files, which go where the file is, and after it when rebalance moves it (`dht_rebalance_in_progress_check`,
//! `dht_rebalance_complete_check`, `dht_check_and_open_fd_on_subvol`). What an answer means is decided in
//! [`migration`].
//!
//! As long as nothing moves, a fop is one call and one look at its answer.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::{Dict, Errno, Value};

use super::append::Appended;
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

/// What was done at the source, when it is repeated at the destination.
#[derive(Clone, Copy)]
pub(super) struct Done<'r, R> {
    /// Index of the source.
    pub(super) at: usize,
    /// The source's answer.
    pub(super) reply: &'r R,
}

impl Core {
    /// Does a fop on a file: at its subvolume, and wherever else a migration makes it necessary. `call` is the fop; it
    /// gets the subvolume, the xdata, and when it repeats what was done at the source: that.
    pub(super) async fn on_file<'a, R, F>(
        self: &'a Arc<Self>,
        context: &'a Context,
        target: Target<'a>,
        family: Family,
        xdata: Dict,
        call: impl Fn(&'a Arc<dyn Translator>, Dict, Option<Done<'_, R>>) -> F + Send + Sync,
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
        call: &(impl Fn(&'a Arc<dyn Translator>, Dict, Option<Done<'_, R>>) -> F + Send + Sync),
        mut at: usize,
        mut result: FopResult<R>,
    ) -> FopResult<R>
    where
        R: Seen + Send + Sync,
        F: Future<Output = FopResult<R>> + Send,
    {
        let mut opened = false;
        let mut missing = false;
        let mut reopened = false;
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
                    let to = match self.destination(context, target, at).await {
                        Ok(Some(index)) => index,
                        Ok(None) => return Ok(done),
                        // The move has ended meanwhile, and may have left out what was done.
                        Err(error) if migration::is_missing(error.errno) => {
                            match self.new_home(context, target, at, false).await {
                                Ok(Some(index)) => index,
                                // The file was removed.
                                _ => return Ok(hidden(done)),
                            }
                        }
                        Err(error) => return Err(error),
                    };
                    let opened = match target {
                        Target::Fd(fd) => self.open_there(context, fd, to).await,
                        Target::Loc(_) => Ok(()),
                    };
                    let repeated = match opened {
                        Ok(()) => call(self.child(to), xdata.clone(), Some(Done { at, reply: &done })).await,
                        Err(error) => Err(error),
                    };
                    if let Target::Fd(fd) = target
                        && is_stranded(&repeated)
                        && done.links() != Some(0)
                    {
                        self.remember_file(target.inode(), at);
                        self.forget_opened(fd, to);
                        result = Ok(done);
                        continue;
                    }
                    match repeated {
                        // It is that of an earlier migration, or was given up, or the file moves on.
                        Err(error) if migration::is_missing(error.errno) => {
                            self.remember_file(target.inode(), at);
                            result = Ok(done);
                        }
                        // Another fop has it opened there anew.
                        Err(error) if matches!(error.errno, Errno::EBADF | Errno::EBADFD) && !reopened => {
                            reopened = true;
                            result = Ok(done);
                        }
                        Err(error) => return Err(error),
                        Ok(_) => return Ok(hidden(done)),
                    }
                }
                Step::Open => {
                    let Target::Fd(fd) = target else { return result };
                    if std::mem::replace(&mut opened, true) {
                        return result;
                    }
                    match self.open_at(context, fd, at).await {
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
                        Ok(None) => match target {
                            // It went and came back.
                            Target::Fd(fd) if is_stranded(&result) && !std::mem::replace(&mut opened, true) => {
                                self.forget_opened(fd, at);
                                at
                            }
                            _ => return result,
                        },
                        Err(error) => return result.and(Err(error)),
                    };
                    let opened = match target {
                        Target::Fd(fd) => self.open_there(context, fd, new).await,
                        Target::Loc(_) => Ok(()),
                    };
                    at = new;
                    result = match opened {
                        Ok(()) => call(self.child(at), xdata.clone(), None).await,
                        // It has moved on.
                        Err(error) if migration::is_missing(error.errno) => {
                            missing = true;
                            Err(error)
                        }
                        Err(error) => return Err(error),
                    };
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

    /// WRITE. What was appended at the source is brought to the destination by [`Core::append_there`].
    pub(super) async fn write(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        data: Payload,
        offset: u64,
        flags: u32,
        xdata: Dict,
    ) -> FopResult<WriteReply> {
        self.on_file(
            context,
            Target::Fd(fd),
            Family::Change,
            xdata,
            |child, xdata, done: Option<Done<'_, WriteReply>>| {
                let data = data.clone();
                let done = done.map(|done| (done.at, done.reply.clone()));
                async move {
                    let Some((source, done)) = done else {
                        return child.writev(context, fd, data, offset, flags, xdata).await;
                    };
                    if fd.flags & libc::O_APPEND == 0 {
                        // Rebalance must not write older data over it.
                        let xdata = xdata.with(keys::PROTECT_WRITES, Value::Uint(1));
                        return child.writev(context, fd, data, offset, flags, xdata).await;
                    }
                    let aim = self.index_of(child.name().as_bytes()).unwrap_or_default();
                    let appended = Appended::new(&done, &data);
                    self.append_there(context, fd, (source, aim), appended, xdata).await?;
                    Ok(done)
                }
            },
        )
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

    /// Where a file with marks is being moved to, as an index; `None` when the marks are a user's, or there is no destination (any more).
    /// What is remembered may be of an earlier move.
    ///
    /// # Errors
    /// ENOENT or ESTALE when the source has the file no more.
    pub(super) async fn destination(
        &self,
        context: &Context,
        target: Target<'_>,
        at: usize,
    ) -> FopResult<Option<usize>> {
        let inode = target.inode();
        let known = self.file(inode).filter(|file| file.cached == at).and_then(|file| file.moving_to);
        if let Some(index) = known {
            return Ok(Some(index));
        }
        let name = match self.linkto_of(context, target, at).await {
            Ok(Some(name)) => name,
            Ok(None) => return Ok(None),
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
                Ok(Some(index))
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
}

/// Whether a fop was done on a file that has no name any more. If the file has one, that was what an earlier migration has left of it
/// on that brick, kept alive by a descriptor.
fn is_stranded<R: Seen>(result: &FopResult<R>) -> bool {
    result.as_ref().is_ok_and(|reply| reply.links() == Some(0))
}

fn hidden<R: Seen>(mut reply: R) -> R {
    reply.hide();
    reply
}
