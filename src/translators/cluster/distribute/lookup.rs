//! LOOKUP: where is a name, and what is it (`dht_lookup` and all that follows from it).
//!
//! - a fresh name: on its hashed subvolume; a linkto there is followed; a directory is then asked for everywhere;
//! - a known file: where it was last; a known directory: everywhere;
//! - a gfid alone: everywhere (`discover`);
//! - a name that is not where it belongs: everywhere, if the layout does not promise that this is in vain.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use rgfs_protocol::{Dict, Errno, FileType, Gfid, Value};
use smallvec::SmallVec;

use super::core::{Core, DirectoryState, as_root, to_the_end};
use super::directory_view::{self, DirectoryView, NoDirectory};
use super::everywhere::{self, Found, Verdict};
use super::freshness::may_be_settling;
use super::heal_plan::{self, Decision};
use super::options::LookupUnhashed;
use super::{keys, linkto};
use crate::reply::LookupReply;
use crate::translators::cluster::join_all;
use crate::{Context, FopError, FopResult, Inode, Loc};

/// What every lookup asks for: the type may be unknown, or have changed.
pub(super) fn standard_request(mut xdata: Dict, root: bool) -> Dict {
    let mut ask = |key: &'static str, value| xdata.set(key.as_bytes(), value);
    ask(keys::LINKTO, Value::Uint(256));
    ask(keys::OPEN_FD_COUNT, Value::Uint(4));
    ask(keys::LAYOUT, Value::Uint(16));
    ask(keys::MDS, Value::Uint(4));
    ask(keys::ACL_ACCESS, Value::Int(0));
    ask(keys::ACL_DEFAULT, Value::Int(0));
    if root {
        ask(keys::COMMIT_HASH, Value::Uint(4));
    }
    xdata
}

/// What a question to all subvolumes is about.
#[derive(Clone, Copy, Default)]
struct Asked {
    /// Where the name belongs.
    hashed: Option<usize>,
    /// In a revalidation: the gfid of the inode.
    known: Option<Gfid>,
    /// The gfid that an entry without one gets when nothing else is known of it.
    wanted: Option<Gfid>,
    /// The asker holds the lock of the name: no linkto is made, for that takes the same lock.
    locked: bool,
}

impl Core {
    pub(super) async fn lookup(self: &Arc<Self>, context: &Context, loc: &Loc, xdata: Dict) -> FopResult<LookupReply> {
        if let Some(only) = self.only() {
            return only.lookup(context, loc, xdata).await;
        }
        if let Some(file) = self.file(&loc.inode) {
            return self.revalidate_file(context, loc, file.cached, xdata).await;
        }
        let root = loc.gfid().is_root();
        if !root && loc.parent.is_none() {
            return self.discover(context, loc, xdata).await;
        }
        if root || self.directory(&loc.inode).is_some() {
            let mut xdata = standard_request(xdata, root);
            let wanted = take_gfid(&mut xdata);
            return self.lookup_directory(context, loc, xdata, wanted, None).await;
        }
        self.lookup_fresh(context, loc, xdata, false).await
    }

    /// Looks a name up whose lock the caller holds, with a fresh inode.
    pub(super) async fn lookup_locked(self: &Arc<Self>, context: &Context, loc: &Loc) -> FopResult<LookupReply> {
        self.lookup_fresh(context, loc, Dict::NULL, true).await
    }

    async fn lookup_fresh(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        xdata: Dict,
        locked: bool,
    ) -> FopResult<LookupReply> {
        let (inode, mut parent) = self.parent(context, loc).await?;
        let mut xdata = standard_request(xdata, false);
        let wanted = take_gfid(&mut xdata);
        let Some(mut hashed) = self.hashed(&parent, &loc.name) else {
            return self.lookup_directory(context, loc, xdata, wanted, None).await;
        };
        let ask = self.child(hashed).lookup(context, loc, xdata.clone());
        let ((mut reply, changed), ()) = tokio::join!(
            self.beside(context, &inode, &parent, hashed, ask),
            self.confirm_commit_hash(context, hashed),
        );
        if let Some(changed) = changed {
            let Some(home) = self.hashed(&changed, &loc.name) else {
                return self.lookup_directory(context, loc, xdata, wanted, None).await;
            };
            if home != hashed {
                reply = self.child(home).lookup(context, loc, xdata.clone()).await;
            }
            (hashed, parent) = (home, changed);
        }
        match reply {
            Ok(reply) if reply.stat.is_dir() => {
                self.lookup_directory(context, loc, xdata, wanted, Some((hashed, reply))).await
            }
            Ok(reply) if linkto::is_linkto(&reply.stat, &reply.xdata) => {
                self.follow(context, loc, reply, xdata, Asked { hashed: Some(hashed), known: None, wanted, locked })
                    .await
            }
            Ok(reply) => Ok(self.found(loc, hashed, reply)),
            Err(error) if error.errno == Errno::ENOENT => match self.may_be_elsewhere(&inode, &parent) {
                true => {
                    let asked = Asked { hashed: Some(hashed), known: None, wanted, locked };
                    self.lookup_everywhere(context, loc, xdata, asked).await
                }
                false => Err(error),
            },
            Err(error) if matches!(error.errno, Errno::ENOTCONN | Errno::ENODATA) => {
                self.lookup_directory(context, loc, xdata, wanted, None).await
            }
            Err(error) => Err(error),
        }
    }

    async fn revalidate_file(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        cached: usize,
        xdata: Dict,
    ) -> FopResult<LookupReply> {
        let mut xdata = standard_request(xdata, false);
        xdata.remove(keys::GFID_REQ);
        match self.child(cached).lookup(context, loc, xdata.clone()).await {
            Ok(reply) if linkto::is_linkto(&reply.stat, &reply.xdata) => {
                self.follow(context, loc, reply, xdata, Asked { known: Some(loc.gfid()), ..Asked::default() }).await
            }
            Ok(reply) if !loc.gfid().is_null() && reply.stat.gfid != loc.gfid() => {
                Err(self.error(Errno::ESTALE, "revalidate").with_detail("another file has the name now"))
            }
            Ok(reply) => Ok(self.found(loc, cached, reply)),
            // A regular file may have moved to another subvolume.
            Err(error)
                if (error.errno == Errno::ENOENT || error.errno == Errno::ESTALE && loc.parent.is_none())
                    && loc.inode.file_type() == FileType::Regular =>
            {
                let known = Some(loc.gfid()).filter(|gfid| !gfid.is_null());
                self.lookup_everywhere(context, loc, xdata, Asked { known, ..Asked::default() }).await
            }
            Err(error) => Err(error),
        }
    }

    /// Follows a linkto file to the file.
    async fn follow(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        link: LookupReply,
        xdata: Dict,
        asked: Asked,
    ) -> FopResult<LookupReply> {
        let target = linkto::target(&link.xdata).and_then(|name| self.index_of(&name));
        if let Some(target) = target.filter(|target| Some(*target) != asked.hashed) {
            match self.child(target).lookup(context, loc, xdata.clone()).await {
                Ok(reply) if is_data_of(&reply, link.stat.gfid) => return Ok(self.found(loc, target, reply)),
                // The linkto is all that is left of the name: leave it alone.
                Err(error) if error.errno == Errno::ENOTCONN => return Err(error),
                _ => {}
            }
        }
        self.lookup_everywhere(context, loc, xdata, asked).await
    }

    /// The file is there: remembers it and shows it as users see it.
    pub(super) fn found(&self, loc: &Loc, cached: usize, mut reply: LookupReply) -> LookupReply {
        self.remember_file(&loc.inode, cached);
        if reply.xdata.contains(keys::LINKTO) {
            linkto::strip_migration_marks(&mut reply.stat);
        }
        super::merge::normalise_directory(&mut reply.postparent);
        reply
    }

    /// Whether a name that its hashed subvolume does not have may be on another one (`dht_should_lookup_everywhere`).
    fn may_be_elsewhere(&self, parent: &Inode, state: &DirectoryState) -> bool {
        if self.options.lookup_optimize {
            let volume = self.commit_hash.load(Ordering::Relaxed);
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            return state.layout.commit_hash() != volume || may_be_settling(volume, now);
        }
        self.options.lookup_unhashed == LookupUnhashed::Always || self.has_names_off_home(parent)
    }

    async fn lookup_everywhere(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        mut xdata: Dict,
        asked: Asked,
    ) -> FopResult<LookupReply> {
        let Asked { hashed, known, wanted, locked } = asked;
        let (mut retried, mut cleared) = (false, false);
        loop {
            let lookups = self.children.iter().map(|child| child.lookup(context, loc, xdata.clone()));
            let replies = join_all(lookups).await;
            let classify = |reply| everywhere::classify(reply, |name| self.index_of(name));
            let found: Vec<Found> = replies.iter().map(classify).collect();
            match everywhere::judge(&found, hashed, known) {
                Verdict::Directory => {
                    let stale = everywhere::stale_linktos(&found);
                    if !stale.is_empty() && !cleared {
                        cleared = true;
                        self.remove_stale_linktos(context, loc, stale).await;
                        continue;
                    }
                    match directory_view::aggregate(replies, known) {
                        Ok(view) => return self.found_directory(context, loc, view).await,
                        Err(NoDirectory::Failed(error)) => return Err(error),
                        Err(NoDirectory::Mixed(gfid)) if !xdata.contains(keys::GFID_REQ) => {
                            // The bricks give it to the entry that has none.
                            let Some(gfid) = gfid.or(wanted) else { break };
                            xdata.set(keys::GFID_REQ.as_bytes(), Value::Gfuuid(gfid));
                        }
                        Err(NoDirectory::Mixed(_)) => break,
                    }
                }
                Verdict::File { cached, link } => {
                    let Some(Ok(reply)) = replies.into_iter().nth(cached) else { break };
                    if let (true, Some(hashed)) = (link && !locked, hashed)
                        && let Err(error) = self.link_found_file(context, loc, hashed, cached, &reply).await
                    {
                        tracing::info!(%error, "no linkto for a file off its place");
                    }
                    return Ok(self.found(loc, cached, reply));
                }
                Verdict::Relink { cached } => {
                    let Some(Ok(reply)) = replies.into_iter().nth(cached) else { break };
                    let changed = match hashed.filter(|_| !locked) {
                        Some(hashed) => !self.link_found_file(context, loc, hashed, cached, &reply).await?,
                        None => false,
                    };
                    if !changed || std::mem::replace(&mut retried, true) {
                        return Ok(self.found(loc, cached, reply));
                    }
                }
                Verdict::Missing { again: true } if !retried => retried = true,
                Verdict::Missing { .. } => {
                    self.remove_stale_linktos(context, loc, everywhere::stale_linktos(&found)).await;
                    return Err(self.error(Errno::ENOENT, "lookup everywhere"));
                }
                Verdict::Error(errno) => match wanted.filter(|_| errno == Errno::ENODATA) {
                    Some(gfid) if !xdata.contains(keys::GFID_REQ) => {
                        xdata.set(keys::GFID_REQ.as_bytes(), Value::Gfuuid(known.unwrap_or(gfid)));
                    }
                    _ => return Err(self.cause(errno, replies)),
                },
            }
        }
        let error = self.error(Errno::EIO, "lookup everywhere");
        Err(error.with_detail("a directory on some children, a linkto or an entry without gfid on others"))
    }

    /// The child's own error, where it was one. A child that leaves the volume comes last: without it the name could be told to be
    /// missing, and the graph above waits for that.
    fn cause(&self, errno: Errno, replies: Vec<FopResult<LookupReply>>) -> FopError {
        let failures = replies.into_iter().enumerate().filter_map(|(at, reply)| Some((at, reply.err()?)));
        let cause = failures.filter(|(_, error)| error.errno == errno).min_by_key(|(at, _)| self.is_leaving(*at));
        cause.map_or_else(|| self.error(errno, "lookup everywhere"), |(_, error)| error)
    }

    async fn remove_stale_linktos(&self, context: &Context, loc: &Loc, stale: Vec<usize>) {
        for at in stale {
            if let Err(error) = self.remove_stale_linkto(context, loc, at).await {
                tracing::info!(%error, "a linkto that leads nowhere stays");
            }
        }
    }

    /// Looks a directory up on all subvolumes; `seen` is an answer that is there already.
    async fn lookup_directory(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        mut xdata: Dict,
        wanted: Option<Gfid>,
        seen: Option<(usize, LookupReply)>,
    ) -> FopResult<LookupReply> {
        let inode = Some(loc.gfid()).filter(|gfid| !gfid.is_null());
        let known = seen.as_ref().map(|(_, reply)| reply.stat.gfid).or(inode);
        if let Some(gfid) = known {
            xdata.set(keys::GFID_REQ.as_bytes(), Value::Gfuuid(gfid));
        }
        let others = self.children.iter().enumerate();
        let others = others.filter(|(index, _)| seen.as_ref().is_none_or(|(known, _)| known != index));
        let mut replies = join_all(others.map(|(_, child)| child.lookup(context, loc, xdata.clone()))).await;
        if let Some((index, reply)) = seen {
            replies.insert(index.min(replies.len()), Ok(reply));
        }
        let prevailing = directory_view::prevailing(&replies, known);
        if inode.is_some() && prevailing != inode && prevailing.is_some() {
            return Err(self.error(Errno::ESTALE, "revalidate").with_detail("another directory has the name now"));
        }
        let mut gfids: SmallVec<[Gfid; 4]> = replies.iter().flatten().map(|reply| reply.stat.gfid).collect();
        gfids.sort_unstable();
        gfids.dedup();
        match directory_view::aggregate(replies, prevailing.or(known)) {
            Ok(view) if view.gfids_differ && loc.parent.is_some() => {
                // A rename over this directory may have been interrupted.
                for gfid in gfids {
                    if self.finish_rename(context, loc, gfid).await.unwrap_or(false) {
                        return Box::pin(self.lookup_directory(context, loc, xdata, wanted, None)).await;
                    }
                }
                self.found_directory(context, loc, view).await
            }
            Ok(view) => self.found_directory(context, loc, view).await,
            Err(NoDirectory::Failed(error)) => Err(error),
            Err(NoDirectory::Mixed(_)) if loc.parent.is_some() => {
                let (_, parent) = self.parent(context, loc).await?;
                let hashed = self.hashed(&parent, &loc.name);
                self.lookup_everywhere(context, loc, xdata, Asked { hashed, known: inode, wanted, locked: false }).await
            }
            Err(NoDirectory::Mixed(_)) => {
                Err(self.error(Errno::EIO, "lookup").with_detail("directory on some children only"))
            }
        }
    }

    /// Takes over a directory's layout; heals what can be healed while all subvolumes are there.
    pub(super) async fn found_directory(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        view: DirectoryView,
    ) -> FopResult<LookupReply> {
        if let Some(hash) = view.commit_hash {
            self.commit_hash.store(hash, Ordering::Relaxed);
        }
        let gfid = view.reply.stat.gfid;
        if view.gfids_differ {
            tracing::warn!(%gfid, "children disagree about the gfid of a directory");
        }
        let hashed = match &loc.parent {
            Some(parent) => self.directory(parent).and_then(|parent| self.hashed(&parent, &loc.name)),
            None => None,
        };
        let seen = |view: &DirectoryView| DirectoryState::new(view.layout.clone(), view.mds);
        let (mut state, reply) = match heal_plan::decide(&view, hashed) {
            Decision::Nothing => (seen(&view), view.reply),
            Decision::Refused(reason) => {
                tracing::info!(%gfid, reason, "a directory differs between children and stays so");
                (seen(&view), view.reply)
            }
            Decision::ByPath => {
                let mut state = seen(&view);
                match self.heal_by_path(context, gfid, view.source).await {
                    Ok(()) => {
                        let inode = Inode::known(gfid, FileType::Directory);
                        state.layout = self.read_layout(&as_root(context), &inode).await?;
                    }
                    Err(error) => tracing::info!(%error, %gfid, "a directory is missing on some children"),
                }
                (state, view.reply)
            }
            Decision::Heal(plan) => {
                let (core, healer, loc) = (self.clone(), as_root(context), loc.clone());
                to_the_end(self, "heal", async move {
                    let state = core.heal_directory(&healer, &loc, &view, plan, hashed).await?;
                    Ok((state, view.reply))
                })
                .await?
            }
        };
        if gfid.is_root() {
            state.mds = Some(0);
        }
        if let Some(older) = self.directory(&loc.inode) {
            state.layout = state.layout.remembering(&older.layout);
        }
        self.remember_directory(&loc.inode, state);
        Ok(reply)
    }
}

/// The gfid that the layer above wants a new object to have. A brick would give it to an entry that has none, and the next
/// brick another one: it is kept aside.
fn take_gfid(xdata: &mut Dict) -> Option<Gfid> {
    match xdata.remove(keys::GFID_REQ)? {
        Value::Gfuuid(gfid) => Some(gfid),
        other => other.as_bytes().and_then(|bytes| Some(Gfid(bytes.as_ref().try_into().ok()?))),
    }
}

fn is_data_of(reply: &LookupReply, gfid: Gfid) -> bool {
    reply.stat.gfid == gfid && !reply.stat.is_dir() && !linkto::is_linkto(&reply.stat, &reply.xdata)
}
