//! LOOKUP: all copies are asked at once, and the answers tell which of them are good (`afr_lookup`, `afr_discover`).
//!
//! By name, the answers must agree on what the name is. By gfid (the root too) there is nothing to disagree about.

use std::sync::{Arc, PoisonError};

use rgfs_protocol::{Dict, Errno, Value};

use super::changelog::Kind;
use super::child_set::ChildSet;
use super::core::{Core, successes};
use super::errors::final_error;
use super::family::Snapshot;
use super::inode_state::Behind;
use super::lookup_choice::{
    Answers, Judgement, Rules, is_changing, judge_gfid, judge_name, needs_name_heal, parent_source, without_good_copy,
};
use super::private::is_private;
use super::quota_size::{self, QUOTA_SIZE};
use super::readable::{Verdict, View, Views};
use super::refresh::AskedForHeals;
use super::requests::GFID_REQ;
use crate::reply::LookupReply;
use crate::{Context, FopResult, Inode, Loc};

/// Content of a small file, told along.
const CONTENT: &str = "glusterfs.content";
/// How often the lock of a name is waited for while others go on changing what it names.
const PATIENCE: u32 = 16;

impl Core {
    pub(super) async fn lookup(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        mut xdata: Dict,
    ) -> FopResult<LookupReply> {
        let gfid = xdata.remove(GFID_REQ);
        let request = self.requests.lookup(xdata);
        match &loc.parent {
            Some(parent) if !loc.name.is_empty() => self.lookup_name(context, loc, parent, gfid, request).await,
            _ => self.lookup_gfid(context, loc, request).await,
        }
    }

    async fn lookup_name(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        parent: &Arc<Inode>,
        gfid: Option<Value>,
        request: Dict,
    ) -> FopResult<LookupReply> {
        if is_private(&parent.gfid(), &loc.name, context.pid) {
            return Err(self.error(Errno::EPERM, "lookup").with_detail("a private directory of replicate"));
        }
        let asked = self.begin_lookup(loc)?;
        let mut answers = self.ask_for(context, loc, &request, asked.snapshot.up).await;
        let directory = self.inode(parent).readable();
        let good_parents = directory.map_or(ChildSet::EMPTY, |readable| readable.data);
        let mut patience = PATIENCE;
        while patience > 0 && needs_name_heal(&answers, good_parents, self.rules()) {
            patience -= 1;
            match self.heal_name(context, loc, gfid.clone(), &request).await {
                Err(error) if error.errno == Errno::EIO => return Err(error),
                Err(error) => tracing::debug!(%error, "a name is looked up again without heal"),
                Ok(()) => {}
            }
            let before = std::mem::replace(&mut answers, self.ask_for(context, loc, &request, asked.snapshot.up).await);
            // The next change may be under way already. What stays as it was, after the lock was waited for, will stay.
            if !is_changing(&before, &answers) {
                break;
            }
        }
        if self.options.metadata_heal && self.heal_silent_difference(&answers).await {
            answers = self.ask_for(context, loc, &request, asked.snapshot.up).await;
        }
        let judgement = judge_name(&answers, good_parents, self.rules());
        let chosen = self.choose_answer(loc, &answers, judgement, asked)?;
        let read_from = directory.and_then(|readable| {
            let both = readable.both();
            let candidates = if both.is_empty() { readable.data } else { both };
            self.policy().choose(candidates, &parent.gfid(), true, |child| self.load(child))
        });
        let source = parent_source(successes(&answers), read_from, good_parents);
        let postparent = answers.iter().find(|(index, _)| Some(*index) == source);
        let postparent = postparent.and_then(|(_, answer)| Some(answer.as_ref().ok()?.postparent));
        let mut reply = self.take_answer(answers, chosen)?;
        reply.postparent = postparent.unwrap_or(reply.postparent);
        Ok(reply)
    }

    async fn lookup_gfid(self: &Arc<Self>, context: &Context, loc: &Loc, request: Dict) -> FopResult<LookupReply> {
        let asked = self.begin_lookup(loc)?;
        let answers = self.ask_for(context, loc, &request, asked.snapshot.up).await;
        if loc.gfid().is_root() {
            self.look_for_local_child(&loc.inode, successes(&answers));
            if let Some(arbiter) = &self.thin_arbiter {
                arbiter.prepare();
            }
        }
        let judgement = judge_gfid(&answers, self.rules());
        let chosen = self.choose_answer(loc, &answers, judgement, asked)?;
        self.take_answer(answers, chosen)
    }

    fn begin_lookup(&self, loc: &Loc) -> FopResult<Asked> {
        let (snapshot, heals) = (self.snapshot(), self.ask_for_heals());
        if snapshot.up.is_empty() {
            return Err(self.no_quorum(snapshot.up, "lookup"));
        }
        // Nothing was noted of an inode that nobody knows yet; a name that is not there shall cost nothing.
        if loc.gfid().is_null() {
            return Ok(Asked { snapshot, heals, doubts: 0, behind: Behind::default() });
        }
        let state = self.inode(&loc.inode);
        Ok(Asked { snapshot, heals, doubts: state.doubts(), behind: state.behind() })
    }

    async fn ask_for(&self, context: &Context, loc: &Loc, request: &Dict, children: ChildSet) -> Answers {
        self.ask(children, |_, child| child.lookup(context, loc, request.clone())).await
    }

    fn rules(&self) -> Rules {
        Rules { quorum: self.options.quorum, count: self.count() }
    }

    /// Chooses whose answer is given, and remembers which copies are good.
    fn choose_answer(&self, loc: &Loc, answers: &Answers, judgement: Judgement, asked: Asked) -> FopResult<Chosen> {
        match judgement {
            Judgement::Fails(errno, why) => return Err(self.error(errno, "lookup").with_detail(why)),
            Judgement::Absent => {
                let error = final_error(answers);
                return Err(error.unwrap_or_else(|| self.no_quorum(ChildSet::EMPTY, "lookup")));
            }
            Judgement::Agreed | Judgement::Doubtful => {}
        }
        self.note_heals(asked.heals, answers.iter().map(|(_, answer)| answer.as_ref().ok().map(|reply| &reply.xdata)));
        let state = self.inode(&loc.inode);
        let mut chosen = None;
        if judgement == Judgement::Agreed {
            let found = || answers.iter().filter_map(|(index, answer)| Some((*index, answer.as_ref().ok()?)));
            let views: Views =
                found().map(|(index, reply)| View::read(&self.keys, index, &reply.stat, &reply.xdata)).collect();
            let verdict = Verdict::of(&views, self.options.arbiter);
            let mut readable = verdict.readable(asked.snapshot.generation).without(asked.behind);
            // By name, it may be a file that is being written under another inode of this client's.
            let gfid = found().next().map(|(_, reply)| reply.stat.gfid);
            if let Some(writing) = gfid.and_then(|gfid| self.sessions.find(gfid, Kind::Data)) {
                readable = readable.without(writing.behind());
            }
            state.settle(readable, asked.doubts);
            if !verdict.accused.and(successes(answers)).is_empty() {
                // The sizes may be of different moments; who reads asks once more.
                state.set_stale();
            }
            // The inode may be fresh, so what the bricks say counts.
            if let Some((_, any)) = found().next() {
                let load = |child| self.load(child);
                let index = self.policy().choose(readable.both(), &any.stat.gfid, any.stat.is_dir(), load);
                // A copy that is alone may be stale, and not know it.
                let with_content = verdict.accused.is_empty() && self.lone_copy(asked.snapshot.up).is_none();
                chosen = index.map(|index| Chosen { index, with_content });
            }
        }
        let chosen = chosen.or_else(|| {
            let choice = *state.split_brain_choice.lock().unwrap_or_else(PoisonError::into_inner);
            let stats = answers.iter().filter_map(|(_, answer)| Some(&answer.as_ref().ok()?.stat));
            let choice = choice.or_else(|| self.favorite(stats));
            let index = without_good_copy(successes(answers), choice, self.rules())?;
            Some(Chosen { index, with_content: false })
        });
        // The arbiter's attributes are of an empty file.
        chosen
            .filter(|chosen| self.data_children().contains(chosen.index))
            .ok_or_else(|| self.error(Errno::ENOTCONN, "lookup").with_detail("no good copy can be reached"))
    }

    fn take_answer(&self, mut answers: Answers, chosen: Chosen) -> FopResult<LookupReply> {
        let Some(at) = answers.iter().position(|(index, _)| *index == chosen.index) else {
            return Err(self.error(Errno::EIO, "lookup").with_detail("the chosen copy was not asked"));
        };
        let has_size = matches!(answers.get(at), Some((_, Ok(reply))) if reply.xdata.contains(QUOTA_SIZE));
        let size = if has_size { self.largest_quota_size(&answers) } else { None };
        let mut reply = answers.swap_remove(at).1?;
        if let Some(size) = size {
            reply.xdata.set(QUOTA_SIZE, size);
        }
        if !chosen.with_content {
            reply.xdata.remove(CONTENT);
        }
        Ok(reply)
    }

    fn largest_quota_size(&self, answers: &Answers) -> Option<Value> {
        quota_size::largest(answers.iter().filter_map(|(_, answer)| Some(&answer.as_ref().ok()?.xdata)))
    }
}

/// What was true when the children were asked.
#[derive(Clone, Copy)]
struct Asked {
    snapshot: Snapshot,
    heals: AskedForHeals,
    doubts: u32,
    behind: Behind,
}

/// Whose answer is given.
#[derive(Clone, Copy)]
struct Chosen {
    index: usize,
    /// The content told along may be used.
    with_content: bool,
}
