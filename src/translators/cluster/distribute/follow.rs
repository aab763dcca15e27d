//! Fops on files, which go where the file is, and after it when rebalance moves it (`dht_rebalance_in_progress_check`,
//! `dht_rebalance_complete_check`, `dht_check_and_open_fd_on_subvol`). What an answer means is decided in
//! [`migration`].
//!
//! As long as nothing moves, a fop is one call and one look at its answer.

use std::future::Future;
use std::sync::Arc;

use rgfs_protocol::{Dict, Errno, Iatt};

use super::core::Core;
use super::home::Found;
use super::linkto;
use super::migration::{self, Family, Seen, Step};
use super::settled::Then;
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
    pub(super) fn inode(self) -> &'a Arc<Inode> {
        match self {
            Target::Loc(loc) => &loc.inode,
            Target::Fd(fd) => &fd.inode,
        }
    }
}

impl Core {
    /// Does a fop on a file: at its subvolume, and wherever else a migration makes it necessary. `call` is the fop; it
    /// gets the subvolume, the xdata, and whether it repeats what was done at the source.
    pub(super) async fn on_file<'a, R, F>(
        self: &'a Arc<Self>,
        context: &'a Context,
        target: Target<'a>,
        family: Family,
        xdata: Dict,
        call: impl Fn(&'a Arc<dyn Translator>, Dict, bool) -> F + Send + Sync,
    ) -> FopResult<R>
    where
        R: Seen + Send + Sync,
        F: Future<Output = FopResult<R>> + Send,
    {
        if let Some(only) = self.only() {
            return call(only, xdata, false).await;
        }
        let at = self.cached(context, target.inode()).await?;
        let result = call(self.child(at), xdata.clone(), false).await;
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
        call: &(impl Fn(&'a Arc<dyn Translator>, Dict, bool) -> F + Send + Sync),
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
        let mut redone = false;
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
                                // It has come back.
                                Ok(None) => {
                                    result = call(self.child(at), xdata.clone(), false).await;
                                    continue;
                                }
                                // The file was removed.
                                Err(error) if migration::is_missing(error.errno) => return Ok(hidden(done)),
                                Err(error) => return Err(error),
                            }
                        }
                        Err(error) => return Err(error),
                    };
                    let opened = match target {
                        Target::Fd(fd) => self.open_there(context, fd, to).await,
                        Target::Loc(_) => Ok(()),
                    };
                    let repeated = match opened {
                        Ok(()) => call(self.child(to), xdata.clone(), true).await,
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
                        Ok(repeated) => {
                            match self.after_repeating(context, (at, target), (to, target), &repeated).await {
                                Then::Settled => return Ok(hidden(done)),
                                Then::Elsewhere => {
                                    self.remember_file(target.inode(), at);
                                    result = Ok(done);
                                }
                                // The file was removed.
                                Then::Follow if !self.exists(context, target.inode()).await => return Ok(hidden(done)),
                                Then::Repeat | Then::Follow => {
                                    self.remember_file(target.inode(), to);
                                    at = to;
                                    result = Ok(repeated);
                                }
                            }
                        }
                    }
                }
                Step::Settle => {
                    return match self.met_a_move(context, target, at, &result).await {
                        true => self.redo(context, target, xdata, call, at, result?).await,
                        false => result,
                    };
                }
                Step::Open => {
                    let Target::Fd(fd) = target else { return result };
                    if std::mem::replace(&mut opened, true) {
                        return result;
                    }
                    match self.open_at(context, fd, at).await {
                        Ok(()) => result = call(self.child(at), xdata.clone(), false).await,
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
                            // It was done at the destination before the move was over, and copied over.
                            _ if self.met_a_move(context, target, at, &result).await
                                && !std::mem::replace(&mut redone, true) =>
                            {
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
                        Ok(()) => call(self.child(at), xdata.clone(), false).await,
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

    /// Does once more what was done to the data of a file that moves, where it has come to rest.
    async fn redo<'a, R, F>(
        self: &'a Arc<Self>,
        context: &'a Context,
        target: Target<'a>,
        xdata: Dict,
        call: &(impl Fn(&'a Arc<dyn Translator>, Dict, bool) -> F + Send + Sync),
        at: usize,
        done: R,
    ) -> FopResult<R>
    where
        R: Seen + Send + Sync,
        F: Future<Output = FopResult<R>> + Send,
    {
        let home = match self.settle(context, target, at).await? {
            Found::Home(home) => home,
            Found::Nameless(index) => return call(self.child(index), xdata, false).await,
            Found::Removed(error) if done.mode().is_some_and(is_linkto_mode) => return Err(error),
            Found::Removed(_) => return Ok(hidden(done)),
        };
        let child = self.child(home.at);
        let Target::Fd(fd) = target else {
            self.remember_file(target.inode(), home.at);
            let again = call(child, xdata, false).await;
            home.leave().await;
            return again.map(hidden);
        };
        let mut again = match home.lead(context, fd, at, done.links() == Some(0)).await {
            Ok(()) => call(child, xdata.clone(), false).await,
            Err(error) => Err(error),
        };
        // The fd was open there, and led to what an earlier move has left.
        if is_stranded(&again) {
            again = match home.lead(context, fd, at, true).await {
                Ok(()) => call(child, xdata, false).await,
                Err(error) => Err(error),
            };
        }
        home.leave().await;
        again.map(hidden)
    }

    /// Whether a fop was done on a file with marks, or on a linkto; or on what was one, and is the file by now.
    async fn met_a_move<R: Seen>(
        &self,
        context: &Context,
        target: Target<'_>,
        at: usize,
        result: &FopResult<R>,
    ) -> bool {
        match result.as_ref().ok().and_then(Seen::mode) {
            Some(mode) => !self.has_bits_of_user(context, target, at, mode).await,
            None => false,
        }
    }

    /// Whether a fop failed because a child that leaves the volume is away. Most likely it was taken out when all its files had moved, and
    /// nobody has told us where this one is.
    fn is_bereft<R>(&self, at: usize, result: &FopResult<R>) -> bool {
        matches!(result, Err(error) if error.errno == Errno::ENOTCONN) && self.is_leaving(at)
    }

    /// WRITE at an offset. [`Core::append`] is for those that go to the end.
    pub(super) async fn write(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        data: Payload,
        offset: u64,
        flags: u32,
        xdata: Dict,
    ) -> FopResult<WriteReply> {
        self.on_file(context, Target::Fd(fd), Family::Data, xdata, |child, xdata, _| {
            let data = data.clone();
            async move { child.writev(context, fd, data, offset, flags, xdata).await }
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
}

/// Whether a fop was done on a file that has no name any more. If the file has one, that was what an earlier migration has left of it
/// on that brick, kept alive by a descriptor.
fn is_stranded<R: Seen>(result: &FopResult<R>) -> bool {
    result.as_ref().is_ok_and(|reply| reply.links() == Some(0))
}

fn is_linkto_mode(mode: u32) -> bool {
    linkto::has_linkto_mode(&Iatt { mode, ..Iatt::default() })
}

fn hidden<R: Seen>(mut reply: R) -> R {
    reply.hide();
    reply
}
