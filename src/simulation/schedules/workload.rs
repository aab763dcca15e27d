//! What the programs on a client do: a row of operations, chosen by the seed, each noted in the history.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rgfs_protocol::open_flags::host;
use rgfs_protocol::types::set_attr;
use rgfs_protocol::{Dict, Errno, Gfid, Iatt, Value};

use super::durability::Change;
use super::history::{EMPTY, Field, History, Strictness, Try, Unmarked};
use super::lock_book::LockBook;
use super::mount::Mount;
use crate::reply::Payload;
use crate::simulation::Random;
use crate::{Context, Fd, FopResult, Inode, Loc};

/// Bytes of a value, and of a record of a log.
pub(super) const VALUE: usize = 16;
/// Values in a file.
pub(super) const REGIONS: usize = 6;
/// Files with registers: `/f0`...
pub(super) const FILES: usize = 3;
/// Files to append to: `/log0`...
pub(super) const LOGS: usize = 1;
/// Directories: `/d0`...
pub(super) const DIRECTORIES: usize = 2;
/// The xattr that is a register.
const XATTR: &str = "user.value";

/// Text of a value, as it is written into files.
pub(super) fn encode(value: u64) -> Bytes {
    format!("{value:>15}\n").into()
}

/// The values in the data of a file; what is not there or zero is 0.
pub(super) fn decode(data: &[u8]) -> Vec<Option<u64>> {
    let pieces = data.chunks(VALUE).map(|piece| {
        if piece.iter().all(|byte| *byte == 0) {
            return Some(0);
        }
        std::str::from_utf8(piece).ok()?.trim().parse().ok()
    });
    pieces.collect()
}

/// What programs do, and how often.
#[derive(Clone)]
pub(super) struct Habits {
    /// Chance of each operation on names, in percent.
    pub(super) names: u64,
    /// Look a file up before it is read, and count the read from there. A client does not hear of what another one could not
    /// write, before it looks.
    pub(super) revalidate: bool,
    /// Chance of a sync more than usual, in percent.
    pub(super) syncs: u64,
    /// Locks are taken, and noted there.
    pub(super) locks: Option<LockBook>,
}

/// Chance of each operation on locks, in percent, where there are any.
const LOCKS: u64 = 45;

/// One program: a row of operations.
pub(super) struct Program {
    pub(super) mount: Arc<Mount>,
    /// Its number, unique in the cluster; also its lock owner.
    pub(super) task: u64,
    pub(super) random: Random,
    pub(super) habits: Habits,
    /// Open files, by number, and whether it is a log.
    pub(super) open: BTreeMap<(usize, bool), Arc<Fd>>,
    /// Names that only this program uses, by directory and name: what is there, as far as that is certain.
    own: BTreeMap<(usize, String), Option<Gfid>>,
    /// Names that only this program used, and that are gone: it was told so.
    gone: Vec<(usize, String)>,
    made: u64,
}

/// A name with what must be there: directory, name, gfid; `None` when it was removed and must not be there.
pub(super) type Owned = (usize, String, Option<Gfid>);

impl Program {
    pub(super) fn new(mount: &Arc<Mount>, task: u64, seed: u64, habits: Habits) -> Self {
        Program {
            mount: mount.clone(),
            task,
            random: Random::new(seed),
            habits,
            open: BTreeMap::new(),
            own: BTreeMap::new(),
            gone: Vec::new(),
            made: 0,
        }
    }

    /// Runs `operations` of them; returns the names that must be there at the end, and those that must not.
    pub(super) async fn run(mut self, operations: usize) -> Vec<Owned> {
        for _ in 0..operations {
            let pause = match self.random.below(20) {
                0 => 1500,
                1..=4 => 30,
                5..=10 => 3,
                _ => 0,
            };
            self.mount.clock.sleep(Duration::from_millis(pause)).await;
            let result = self.one().await;
            if let Err(error) = &result
                && error.errno == Errno::EINVAL
            {
                self.mount.history.violation(format!("task {}: {error}", self.task));
            }
        }
        if let Some(book) = self.habits.locks.clone() {
            self.give_locks_back(&book).await;
        }
        let context = self.mount.context(self.task);
        for fd in std::mem::take(&mut self.open).into_values() {
            let _ = self.mount.top.flush(&context, &fd, Dict::NULL).await;
        }
        let certain = std::mem::take(&mut self.own).into_iter().filter(|(_, gfid)| gfid.is_some());
        let certain = certain.map(|((directory, name), gfid)| (directory, name, gfid));
        certain.chain(self.gone.into_iter().map(|(directory, name)| (directory, name, None))).collect()
    }

    async fn one(&mut self) -> FopResult<()> {
        if self.random.chance(self.habits.names) {
            return self.change_names().await;
        }
        if let Some(book) = self.habits.locks.clone()
            && self.random.chance(LOCKS)
        {
            return self.change_locks(&book).await;
        }
        let file = self.random.below(FILES as u64) as usize;
        if self.habits.syncs > 0 && self.random.chance(self.habits.syncs) {
            return if self.random.chance(30) { self.sync_log(0).await } else { self.sync(file).await };
        }
        match self.random.below(100) {
            0..=39 => self.write(file).await,
            40..=56 => self.read(file).await,
            57..=65 => self.append(0).await,
            66..=68 => self.read_log(0).await,
            69..=72 => self.truncate(file).await,
            73..=77 => self.sync(file).await,
            78..=84 => self.change_owner(file).await,
            85..=91 => self.change_xattr(file).await,
            92..=96 => self.check_attributes(file).await,
            _ => self.close(file).await,
        }
    }

    fn gfid(&mut self) -> Gfid {
        let (a, b) = (self.random.next().to_be_bytes(), self.random.next().to_be_bytes());
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&a);
        bytes[8..].copy_from_slice(&b);
        Gfid::from_random(bytes)
    }

    async fn find(&self, name: &str) -> FopResult<Arc<Inode>> {
        let context = self.mount.context(self.task);
        self.mount.lookup(&context, &self.mount.root(), name).await
    }

    async fn look(&self, name: &str) -> FopResult<()> {
        if self.habits.revalidate { self.find(name).await.map(drop) } else { Ok(()) }
    }

    /// An open file; looked up and opened when it is not.
    pub(super) async fn file(&mut self, number: usize, log: bool) -> FopResult<Arc<Fd>> {
        if let Some(fd) = self.open.get(&(number, log)) {
            return Ok(fd.clone());
        }
        let (name, flags) = match log {
            true => (format!("log{number}"), host::O_APPEND | 2),
            false => (format!("f{number}"), 2),
        };
        let inode = self.find(&name).await?;
        let fd = self.mount.open(&self.mount.context(self.task), &inode, flags).await?;
        self.open.insert((number, log), fd.clone());
        Ok(fd)
    }

    async fn close(&mut self, number: usize) -> FopResult<()> {
        let Some(fd) = self.open.remove(&(number, false)) else { return Ok(()) };
        if let Some(book) = &self.habits.locks {
            // Closing ends what the process has locked.
            book.released(self.task, number);
        }
        let context = self.mount.context(self.task);
        self.mount.top.flush(&context, &fd, Dict::NULL).await.map(drop)
    }

    pub(super) fn noted<T>(&self, what: String, result: &FopResult<T>) {
        let result = result.as_ref().map_or_else(ToString::to_string, |_| "ok".to_owned());
        let (client, now) = (self.mount.client, self.mount.clock.now());
        self.mount.history.note(format!("{now:?} c{client} task {}: {what}: {result}", self.task));
    }

    async fn write(&mut self, file: usize) -> FopResult<()> {
        let fd = self.file(file, false).await?;
        let first = self.random.below(REGIONS as u64) as usize;
        let count = 1 + self.random.below(3.min((REGIONS - first) as u64)) as usize;
        let (mount, context) = (self.mount.clone(), self.mount.context(self.task));
        let values: Vec<u64> = (0..count).map(|_| mount.history.value()).collect();
        let data: Vec<u8> = values.iter().flat_map(|value| encode(*value)).collect();
        let begun: Vec<_> = values
            .iter()
            .enumerate()
            .map(|(at, value)| mount.history.begin(mount.writer(), (file, Field::Region(first + at)), *value))
            .collect();
        let offset = (first * VALUE) as u64;
        let sync = if self.random.chance(5) { host::O_SYNC as u32 } else { 0 };
        let payload = Payload::from_iter([Bytes::from(data)]);
        let result = mount.top.writev(&context, &fd, payload, offset, sync, Dict::NULL).await;
        let whole = result.as_ref().is_ok_and(|reply| reply.written == count * VALUE);
        let adds = result.as_ref().map_or(true, |reply| reply.pre.size == offset);
        let change = if adds { Change::Size } else { Change::Overwrite };
        for begun in begun {
            mount.history.fades(begun, change, sync != 0);
            mount.history.end(mount.writer(), begun, whole, mount.clock.now());
        }
        self.noted(format!("write f{file} {first}: {values:?}"), &result);
        result.map(drop)
    }

    async fn read(&mut self, file: usize) -> FopResult<()> {
        let fd = self.file(file, false).await?;
        let (mount, context) = (self.mount.clone(), self.mount.context(self.task));
        let begin = mount.history.moment();
        self.look(&format!("f{file}")).await?;
        let result = mount.read(&context, &fd, (REGIONS * VALUE) as u32).await;
        let values = result.as_ref().map(|data| decode(data)).unwrap_or_default();
        self.noted(format!("read f{file}: {values:?}"), &result);
        result?;
        check_file(
            &mount.history,
            &format!("c{} task {}", mount.client, self.task),
            file,
            &values,
            (begin, mount.settled()),
        );
        Ok(())
    }

    async fn append(&mut self, log: usize) -> FopResult<()> {
        let fd = self.file(log, true).await?;
        let (mount, context) = (self.mount.clone(), self.mount.context(self.task));
        let record = mount.history.value();
        mount.history.append(mount.writer(), log, record);
        let payload = Payload::from_iter([encode(record)]);
        let result = mount.top.writev(&context, &fd, payload, 0, host::O_APPEND as u32, Dict::NULL).await;
        if result.as_ref().is_ok_and(|reply| reply.written == VALUE) {
            mount.history.appended(mount.writer(), log, record, mount.clock.now());
        }
        self.noted(format!("append log{log}: {record}"), &result);
        result.map(drop)
    }

    async fn read_log(&mut self, log: usize) -> FopResult<()> {
        let fd = self.file(log, true).await?;
        let (mount, context) = (self.mount.clone(), self.mount.context(self.task));
        let begin = mount.history.moment();
        self.look(&format!("log{log}")).await?;
        let result = mount.read(&context, &fd, 1 << 16).await;
        let records = result.as_ref().map(|data| decode(data)).unwrap_or_default();
        self.noted(format!("read log{log}: {records:?}"), &result);
        result?;
        check_log(
            &mount.history,
            &format!("c{} task {}", mount.client, self.task),
            log,
            &records,
            (begin, mount.settled()),
        );
        Ok(())
    }

    /// Cuts the file between two regions; what is behind reads as 0 from then on.
    async fn truncate(&mut self, file: usize) -> FopResult<()> {
        let inode = self.find(&format!("f{file}")).await?;
        let keep = 1 + self.random.below(REGIONS as u64 - 1) as usize;
        let (mount, context) = (self.mount.clone(), self.mount.context(self.task));
        let begun: Vec<_> = (keep..REGIONS)
            .map(|region| {
                mount.history.begin(mount.writer(), (file, Field::Region(region)), EMPTY + mount.history.value())
            })
            .collect();
        let size = (keep * VALUE) as u64;
        let result = mount.top.truncate(&context, &Loc::inode(inode), size, Dict::NULL).await;
        begun.into_iter().for_each(|begun| mount.history.end(mount.writer(), begun, result.is_ok(), mount.clock.now()));
        self.noted(format!("truncate f{file} to {keep}"), &result);
        result.map(drop)
    }

    async fn sync(&mut self, file: usize) -> FopResult<()> {
        let fd = self.file(file, false).await?;
        let context = self.mount.context(self.task);
        let begin = self.mount.history.moment();
        let result = self.mount.top.fsync(&context, &fd, self.random.chance(50), Dict::NULL).await;
        if result.is_ok() {
            self.mount.history.synced(self.mount.client, file, begin);
        }
        self.noted(format!("fsync f{file}"), &result);
        result.map(drop)
    }

    async fn sync_log(&mut self, log: usize) -> FopResult<()> {
        let fd = self.file(log, true).await?;
        let context = self.mount.context(self.task);
        let begin = self.mount.history.moment();
        let result = self.mount.top.fsync(&context, &fd, false, Dict::NULL).await;
        if result.is_ok() {
            self.mount.history.log_synced(self.mount.client, log, begin);
        }
        self.noted(format!("fsync log{log}"), &result);
        result.map(drop)
    }

    async fn change_owner(&mut self, file: usize) -> FopResult<()> {
        let inode = self.find(&format!("f{file}")).await?;
        let (mount, context) = (self.mount.clone(), self.mount.context(self.task));
        let value = mount.history.value();
        let begun = mount.history.begin(mount.writer(), (file, Field::Owner), value);
        let _under_way = mount.history.unmarked(Unmarked::Attributes, &[inode.gfid()]);
        let stat = Iatt { uid: value as u32, ..Iatt::default() };
        let result = mount.top.setattr(&context, &Loc::inode(inode), &stat, set_attr::UID, Dict::NULL).await;
        mount.history.end(mount.writer(), begun, result.is_ok(), mount.clock.now());
        self.noted(format!("chown f{file}: {value}"), &result);
        result.map(drop)
    }

    async fn change_xattr(&mut self, file: usize) -> FopResult<()> {
        let inode = self.find(&format!("f{file}")).await?;
        let (mount, context) = (self.mount.clone(), self.mount.context(self.task));
        let value = mount.history.value();
        let begun = mount.history.begin(mount.writer(), (file, Field::Xattr), value);
        let _under_way = mount.history.unmarked(Unmarked::Attributes, &[inode.gfid()]);
        let dict = Dict::empty().with(XATTR, Value::Ptr(value.to_string().into()));
        let result = mount.top.setxattr(&context, &Loc::inode(inode), dict, 0, Dict::NULL).await;
        mount.history.end(mount.writer(), begun, result.is_ok(), mount.clock.now());
        self.noted(format!("setxattr f{file}: {value}"), &result);
        result.map(drop)
    }

    async fn check_attributes(&mut self, file: usize) -> FopResult<()> {
        let looked_at = self.mount.history.moment();
        let inode = self.find(&format!("f{file}")).await?;
        let (mount, context) = (self.mount.clone(), self.mount.context(self.task));
        let who = format!("c{} task {}", mount.client, self.task);
        let begin = if self.habits.revalidate { looked_at } else { mount.history.moment() };
        let result = check_attributes(&mount, &context, &who, (file, &inode), (begin, mount.settled())).await;
        self.noted(format!("stat f{file}"), &result);
        result
    }

    /// Makes, moves or removes a name: mostly one of its own, at times one that all programs use.
    async fn change_names(&mut self) -> FopResult<()> {
        let directory = self.random.below(DIRECTORIES as u64) as usize;
        let parent = self.find(&format!("d{directory}")).await?;
        if self.random.chance(35) {
            return self.change_shared_names(directory, &parent).await;
        }
        let known: Vec<(usize, String)> =
            self.own.iter().filter(|(_, gfid)| gfid.is_some()).map(|(at, _)| at.clone()).collect();
        if known.is_empty() || self.random.chance(40) {
            self.made += 1;
            let name = format!("t{}-{}", self.task, self.made);
            return self.make(directory, &parent, name).await;
        }
        let (at, name) = self.random.pick(&known).clone();
        let from = self.find(&format!("d{at}")).await?;
        let gfid = self.own.insert((at, name.clone()), None).flatten();
        if self.random.chance(35) {
            self.remove(&from, &name).await?;
            self.gone.push((at, name));
            return Ok(());
        }
        self.made += 1;
        let new = format!("t{}-{}", self.task, self.made);
        let result = self.rename((&from, &name), (&parent, &new)).await;
        if result.is_ok() {
            self.own.insert((directory, new), gfid);
            self.gone.push((at, name));
        }
        result
    }

    async fn change_shared_names(&mut self, directory: usize, parent: &Arc<Inode>) -> FopResult<()> {
        let name = format!("shared{}", self.random.below(3));
        match self.random.below(4) {
            0 => self.remove(parent, &name).await,
            1 => {
                let new = format!("shared{}", self.random.below(3));
                // The kernel knows that there is nothing to do.
                if new == name { Ok(()) } else { self.rename((parent, &name), (parent, &new)).await }
            }
            2 => {
                let name = format!("dir{}", self.random.below(2));
                self.directory(parent, &name).await
            }
            _ => self.make(directory, parent, name).await,
        }
    }

    async fn make(&mut self, directory: usize, parent: &Arc<Inode>, name: String) -> FopResult<()> {
        let gfid = self.gfid();
        let context = self.mount.context(self.task);
        let result = self.mount.create(&context, (parent, &name), 2, gfid).await;
        self.noted(format!("create d{directory}/{name} {gfid}"), &result);
        let (inode, fd) = result?;
        if !name.starts_with("shared") {
            self.own.insert((directory, name), Some(inode.gfid()));
        }
        let payload = Payload::from_iter([encode(self.mount.history.value())]);
        let written = self.mount.top.writev(&context, &fd, payload, 0, 0, Dict::NULL).await;
        let flushed = self.mount.top.flush(&context, &fd, Dict::NULL).await;
        written.map(drop).and(flushed.map(drop))
    }

    /// Makes a directory, or removes it when it is there.
    async fn directory(&mut self, parent: &Arc<Inode>, name: &str) -> FopResult<()> {
        let (context, gfid) = (self.mount.context(self.task), self.gfid());
        let result = self.mount.mkdir(&context, (parent, name), gfid).await;
        self.noted(format!("mkdir {name} {gfid}"), &result);
        match result {
            Err(error) if error.errno == Errno::EEXIST => {
                let inode = self.mount.lookup(&context, parent, name).await?;
                let loc = Loc::entry(parent.clone(), name.to_owned(), inode);
                let _under_way = self.mount.history.unmarked(Unmarked::Names, &[parent.gfid()]);
                let tried = self.mount.history.tries(parent.gfid(), name);
                let result = self.mount.top.rmdir(&context, &loc, 0, Dict::NULL).await;
                if result.is_ok() {
                    tried.done();
                }
                self.noted(format!("rmdir {name}"), &result);
                result.map(drop)
            }
            result => result.map(drop),
        }
    }

    async fn remove(&mut self, parent: &Arc<Inode>, name: &str) -> FopResult<()> {
        let context = self.mount.context(self.task);
        let inode = self.mount.lookup(&context, parent, name).await?;
        let gfid = inode.gfid();
        let loc = Loc::entry(parent.clone(), name.to_owned(), inode);
        let _under_way = self.mount.history.unmarked(Unmarked::Names, &[parent.gfid()]);
        self.mount.history.dooms(gfid);
        let tried = self.mount.history.tries(parent.gfid(), name);
        let result = self.mount.top.unlink(&context, &loc, 0, Dict::NULL).await;
        if result.is_ok() {
            tried.done();
            self.mount.history.removed(gfid);
        }
        self.noted(format!("unlink {name}"), &result);
        result.map(drop)
    }

    async fn rename(&mut self, old: (&Arc<Inode>, &str), new: (&Arc<Inode>, &str)) -> FopResult<()> {
        let context = self.mount.context(self.task);
        let inode = self.mount.lookup(&context, old.0, old.1).await?;
        // As the kernel does: it knows whether something is there.
        let target = self.mount.lookup(&context, new.0, new.1).await.unwrap_or_else(|_| Inode::fresh());
        let from = Loc::entry(old.0.clone(), old.1.to_owned(), inode);
        let to = Loc::entry(new.0.clone(), new.1.to_owned(), target);
        let _under_way = self.mount.history.unmarked(Unmarked::Names, &[old.0.gfid(), new.0.gfid()]);
        let moves = self.mount.history.moves(from.inode.gfid(), new.0.gfid(), new.1);
        let tried = [old, new].map(|(parent, name)| self.mount.history.tries(parent.gfid(), name));
        let result = self.mount.top.rename(&context, &from, &to, Dict::NULL).await;
        match &result {
            Ok(_) => tried.into_iter().for_each(Try::done),
            // A brick may have done it.
            Err(error) if matches!(error.errno, Errno::ENOTCONN | Errno::ENOSPC) => moves.stays_unknown(),
            Err(_) => {}
        }
        self.noted(format!("rename {} {}", old.1, new.1), &result);
        result.map(drop)
    }
}

/// When a read began, and how much it must know.
pub(super) type When = (u64, Strictness);

/// Checks the regions of a file that a read saw.
pub(super) fn check_file(history: &History, who: &str, file: usize, values: &[Option<u64>], when: When) {
    for region in 0..REGIONS {
        match values.get(region).copied().unwrap_or(Some(0)) {
            Some(value) => history.check(who, (file, Field::Region(region)), value, when),
            None => history.violation(format!("{who}: f{file} has something torn in region {region}")),
        }
    }
}

/// Checks the records of a log.
pub(super) fn check_log(history: &History, who: &str, log: usize, records: &[Option<u64>], when: When) {
    if records.iter().any(Option::is_none) {
        history.violation(format!("{who}: log {log} has something torn: {records:?}"));
    }
    let seen: Vec<u64> = records.iter().flatten().copied().collect();
    history.check_log(who, log, &seen, when);
}

/// Reads and checks the attributes of a file that are registers. Where a brick may fail changes for one client alone, the read
/// begins with the lookup, as [`Habits::revalidate`] says: answers from before the failure was noted know nothing of it.
pub(super) async fn check_attributes(
    mount: &Mount,
    context: &Context,
    who: &str,
    (file, inode): (usize, &Arc<Inode>),
    when: When,
) -> FopResult<()> {
    let loc = Loc::inode(inode.clone());
    let stat = mount.top.stat(context, &loc, Dict::NULL).await?.stat;
    mount.history.check(who, (file, Field::Owner), stat.uid.into(), when);
    let value = match mount.top.getxattr(context, &loc, Some(XATTR), Dict::NULL).await {
        Ok(reply) => reply.dict.int(XATTR).or_else(|| text(&reply.dict)).unwrap_or(-1),
        Err(error) if error.errno == Errno::ENODATA => 0,
        Err(error) => return Err(error),
    };
    mount.history.check(who, (file, Field::Xattr), value as u64, when);
    Ok(())
}

fn text(dict: &Dict) -> Option<i64> {
    std::str::from_utf8(&dict.bytes(XATTR)?).ok()?.parse().ok()
}
