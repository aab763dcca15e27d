//! Locks: internal ones, and those of programs.

use bytes::Bytes;
use rgfs_protocol::types::{EntrylkCmd, EntrylkType, Flock, InodelkCmd, LkCmd, LockType};
use rgfs_protocol::{Dict, Gfid};

use super::super::brick::{ANONYMOUS, Brick, Caller, Done, Target};
use super::super::locks::{Granted, Lock, Scope, domain_of_range};
use crate::reply::*;

impl Brick {
    /// The object of an unlock: a lock keeps its inode known, even when the last name is gone.
    fn locked(&self, caller: &Caller, target: Target) -> Gfid {
        match target {
            Target::Inode(gfid) => gfid,
            Target::File(gfid, number) => self.file(caller, number).map_or(gfid, |file| file.gfid),
        }
    }

    pub(in super::super) fn inodelk(
        &mut self,
        caller: &Caller,
        (target, domain): (Target, &str),
        cmd: InodelkCmd,
        flock: &Flock,
        granted: Granted,
    ) {
        let domain = domain_of_range(domain, flock);
        let scope = Scope::range(flock);
        if flock.kind == LockType::Unlock {
            let (gfid, mut ready) = (self.locked(caller, target), Vec::new());
            granted(self.inodelks.unlock((gfid, &domain), &caller.holder(), &scope, &mut ready));
            return self.grant(ready);
        }
        let gfid = match self.find(caller, target) {
            Ok(gfid) => gfid,
            Err(failure) => return granted(Err(failure.errno)),
        };
        let lock = Lock { holder: caller.holder(), scope, exclusive: flock.kind == LockType::Write };
        let wait = cmd == InodelkCmd::SetLkW;
        self.inodelks.lock((gfid, &domain), lock, wait, self.now, granted, &mut self.contentions);
    }

    pub(in super::super) fn entrylk(
        &mut self,
        caller: &Caller,
        (target, domain): (Target, &str),
        name: Option<Bytes>,
        cmd: EntrylkCmd,
        kind: EntrylkType,
        granted: Granted,
    ) {
        let scope = Scope::Name(name);
        if cmd == EntrylkCmd::Unlock {
            let (gfid, mut ready) = (self.locked(caller, target), Vec::new());
            granted(self.entrylks.unlock((gfid, domain), &caller.holder(), &scope, &mut ready));
            return self.grant(ready);
        }
        let gfid = match self.find(caller, target) {
            Ok(gfid) => gfid,
            Err(failure) => return granted(Err(failure.errno)),
        };
        let lock = Lock { holder: caller.holder(), scope, exclusive: kind == EntrylkType::Write };
        // Nobody is told of waiters for names: clients do nothing about it.
        self.entrylks.lock((gfid, domain), lock, cmd == EntrylkCmd::Lock, self.now, granted, &mut Vec::new());
    }

    /// LK, apart from GETLK.
    pub(in super::super) fn lk(
        &mut self,
        caller: &Caller,
        target: Target,
        cmd: LkCmd,
        flock: &Flock,
        granted: Granted,
    ) {
        let gfid = match self.find(caller, target) {
            Ok(gfid) => gfid,
            Err(failure) => return granted(Err(failure.errno)),
        };
        let number = match target {
            Target::File(_, number) => number,
            Target::Inode(_) => ANONYMOUS,
        };
        let mut ready = Vec::new();
        self.posix_locks.set(gfid, caller.holder(), flock, number, cmd == LkCmd::SetLkW, granted, &mut ready);
        self.grant(ready);
    }

    pub(in super::super) fn test_lock(&mut self, caller: &Caller, target: Target, flock: &Flock) -> Done<LkReply> {
        let gfid = self.find(caller, target)?;
        Ok(LkReply { flock: self.posix_locks.test(gfid, caller.holder(), flock), xdata: Dict::NULL })
    }
}
