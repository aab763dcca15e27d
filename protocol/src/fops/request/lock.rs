//! Locks: posix locks of applications, and the internal ones of translators. The owner that counts is the credential's.

use bytes::Bytes;

use crate::types::{ActiveLock, EntrylkCmd, EntrylkType, Flock, InodelkCmd, Lease as LeaseValue, LkCmd, LockType};
use crate::{Dict, Gfid};

messages! {
    /// Posix lock. `kind` counts, `flock.kind` repeats it.
    Lk { gfid: Gfid, fd: i64, cmd: LkCmd, kind: LockType, flock: Flock, xdata: Dict }

    /// Internal lock of a range.
    Inodelk { gfid: Gfid, cmd: InodelkCmd, kind: LockType, flock: Flock, volume: Bytes, xdata: Dict }

    /// Internal lock of a range of an open file.
    Finodelk { gfid: Gfid, fd: i64, cmd: InodelkCmd, kind: LockType, flock: Flock, volume: Bytes, xdata: Dict }

    /// Internal lock of a name, or of a whole directory.
    Entrylk {
        gfid: Gfid,
        cmd: EntrylkCmd,
        kind: EntrylkType,
        namelen: u64,
        name: Bytes,
        volume: Bytes,
        xdata: Dict,
    }

    /// Internal lock of a name in an open directory.
    Fentrylk {
        gfid: Gfid,
        fd: i64,
        cmd: EntrylkCmd,
        kind: EntrylkType,
        namelen: u64,
        name: Bytes,
        volume: Bytes,
        xdata: Dict,
    }

    /// Gets, sets or returns a lease.
    Lease { gfid: Gfid, lease: LeaseValue, xdata: Dict }

    /// Asks for the posix locks of all clients.
    Getactivelk { gfid: Gfid, xdata: Dict }

    /// Sets posix locks for other clients (migration of files).
    Setactivelk { gfid: Gfid, locks: Vec<ActiveLock>, xdata: Dict }
}
