//! Open flags: what open(2) of this machine calls them, and what the wire calls them.
//!
//! OPEN, CREATE and PUT carry the values of Linux on x86-64, whatever the machine (`glusterfs3.h`, `gf_flags_from_flags`).
//! READ's and WRITE's flags and UNLINK's are not translated by anybody.

/// The wire's flags.
pub mod wire {
    /// Mask of the access mode: 0 read, 1 write, 2 both.
    pub const ACCESS_MODE: u32 = 0o3;
    /// Access is checked for execution.
    pub const FMODE_EXEC: u32 = 0o40;
    /// `O_CREAT`.
    pub const CREAT: u32 = 0o100;
    /// `O_EXCL`.
    pub const EXCL: u32 = 0o200;
    /// `O_NOCTTY`.
    pub const NOCTTY: u32 = 0o400;
    /// `O_TRUNC`.
    pub const TRUNC: u32 = 0o1000;
    /// `O_APPEND`.
    pub const APPEND: u32 = 0o2000;
    /// `O_NONBLOCK`.
    pub const NONBLOCK: u32 = 0o4000;
    /// `O_SYNC` or `O_DSYNC`: the brick opens with full `O_SYNC`.
    pub const SYNC: u32 = 0o10000;
    /// `O_ASYNC`.
    pub const ASYNC: u32 = 0o20000;
    /// `O_DIRECT`.
    pub const DIRECT: u32 = 0o40000;
    /// `O_LARGEFILE`.
    pub const LARGEFILE: u32 = 0o100_000;
    /// `O_DIRECTORY`.
    pub const DIRECTORY: u32 = 0o200_000;
    /// `O_NOFOLLOW`.
    pub const NOFOLLOW: u32 = 0o400_000;
    /// `O_NOATIME`.
    pub const NOATIME: u32 = 0o1_000_000;
    /// `O_CLOEXEC`.
    pub const CLOEXEC: u32 = 0o2_000_000;
}

/// This machine's flags, as the kernel means them (not libc, whose `O_LARGEFILE` is 0 on 64-bit machines).
pub mod host {
    #[cfg(any(target_arch = "mips", target_arch = "mips64", target_arch = "sparc", target_arch = "sparc64"))]
    compile_error!("this architecture has open flags of its own: add them to open_flags.rs");

    /// Mask of the access mode: 0 read, 1 write, 2 both.
    pub const O_ACCMODE: i32 = 0o3;
    /// The kernel's mark of an open for execution, which FUSE passes on.
    pub const FMODE_EXEC: i32 = 0o40;
    /// Make the file.
    pub const O_CREAT: i32 = 0o100;
    /// Fail when it is there.
    pub const O_EXCL: i32 = 0o200;
    /// No controlling terminal.
    pub const O_NOCTTY: i32 = 0o400;
    /// Empty it.
    pub const O_TRUNC: i32 = 0o1000;
    /// Write at the end.
    pub const O_APPEND: i32 = 0o2000;
    /// Do not wait.
    pub const O_NONBLOCK: i32 = 0o4000;
    /// Data is stable when write returns.
    pub const O_DSYNC: i32 = 0o10000;
    /// Data and attributes are stable when write returns; contains `O_DSYNC`.
    pub const O_SYNC: i32 = 0o4_010_000;
    /// Signals.
    pub const O_ASYNC: i32 = 0o20000;
    /// Do not touch the access time.
    pub const O_NOATIME: i32 = 0o1_000_000;
    /// Close on exec.
    pub const O_CLOEXEC: i32 = 0o2_000_000;

    #[cfg(any(target_arch = "arm", target_arch = "aarch64"))]
    const DIFFERING: [i32; 4] = [0o200_000, 0o400_000, 0o40_000, 0o100_000];
    #[cfg(any(target_arch = "powerpc", target_arch = "powerpc64"))]
    const DIFFERING: [i32; 4] = [0o400_000, 0o200_000, 0o40_000, 0o100_000];
    #[cfg(not(any(target_arch = "arm", target_arch = "aarch64", target_arch = "powerpc", target_arch = "powerpc64")))]
    const DIFFERING: [i32; 4] = [0o40_000, 0o100_000, 0o200_000, 0o400_000];

    /// Past the page cache.
    pub const O_DIRECT: i32 = DIFFERING[0];
    /// Offsets of 64 bits.
    pub const O_LARGEFILE: i32 = DIFFERING[1];
    /// Only a directory.
    pub const O_DIRECTORY: i32 = DIFFERING[2];
    /// Not a symbolic link.
    pub const O_NOFOLLOW: i32 = DIFFERING[3];
}

const TABLE: [(i32, u32); 14] = [
    (host::FMODE_EXEC, wire::FMODE_EXEC),
    (host::O_CREAT, wire::CREAT),
    (host::O_EXCL, wire::EXCL),
    (host::O_NOCTTY, wire::NOCTTY),
    (host::O_TRUNC, wire::TRUNC),
    (host::O_APPEND, wire::APPEND),
    (host::O_NONBLOCK, wire::NONBLOCK),
    (host::O_ASYNC, wire::ASYNC),
    (host::O_DIRECT, wire::DIRECT),
    (host::O_LARGEFILE, wire::LARGEFILE),
    (host::O_DIRECTORY, wire::DIRECTORY),
    (host::O_NOFOLLOW, wire::NOFOLLOW),
    (host::O_NOATIME, wire::NOATIME),
    (host::O_CLOEXEC, wire::CLOEXEC),
];

/// This machine's flags as the wire's. Flags that the wire cannot express (`O_PATH`, `O_TMPFILE`...) fall away.
pub fn to_wire(host: i32) -> u32 {
    let mut flags = (host & self::host::O_ACCMODE) as u32;
    for (from, to) in TABLE {
        if host & from != 0 {
            flags |= to;
        }
    }
    if host & self::host::O_SYNC != 0 {
        flags |= wire::SYNC;
    }
    flags
}

/// The wire's flags as this machine's; SYNC becomes full `O_SYNC`.
pub fn from_wire(flags: u32) -> i32 {
    let mut host = (flags & wire::ACCESS_MODE) as i32;
    for (to, from) in TABLE {
        if flags & from != 0 {
            host |= to;
        }
    }
    if flags & wire::SYNC != 0 {
        host |= self::host::O_SYNC;
    }
    host
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_goes_there_and_back() {
        for (host, flag) in TABLE {
            assert_eq!(to_wire(host), flag);
            assert_eq!(from_wire(flag), host);
        }
        for mode in 0..=2 {
            assert_eq!(to_wire(mode), mode as u32);
            assert_eq!(from_wire(mode as u32), mode);
        }
    }

    #[test]
    fn either_kind_of_synchronous_is_sync_and_the_inexpressible_falls_away() {
        assert_eq!(to_wire(host::O_DSYNC), wire::SYNC);
        assert_eq!(to_wire(host::O_SYNC), wire::SYNC);
        assert_eq!(from_wire(wire::SYNC), host::O_SYNC);
        const O_PATH: i32 = 0o10_000_000;
        assert_eq!(to_wire(O_PATH | host::O_CLOEXEC), wire::CLOEXEC);
    }
}
