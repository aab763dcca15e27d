//! Names: finding, making, moving and removing them.

use bytes::Bytes;

use crate::{Dict, Gfid};

messages! {
    /// Finds a name in a directory (then `gfid` does not count), or with an empty name an inode by its gfid.
    Lookup { gfid: Gfid, parent: Gfid, flags: u32, name: Bytes, xdata: Dict }

    /// Makes a file, device node, fifo or socket; xdata holds `gfid-req`.
    Mknod { parent: Gfid, rdev: u64, mode: u32, umask: u32, name: Bytes, xdata: Dict }

    /// Makes a directory; xdata holds `gfid-req`.
    Mkdir { parent: Gfid, mode: u32, umask: u32, name: Bytes, xdata: Dict }

    /// Removes a name of a non-directory.
    Unlink { parent: Gfid, name: Bytes, xflags: u32, xdata: Dict }

    /// Removes a directory.
    Rmdir { parent: Gfid, xflags: i32, name: Bytes, xdata: Dict }

    /// Makes a symbolic link; xdata holds `gfid-req`.
    Symlink { parent: Gfid, name: Bytes, umask: u32, target: Bytes, xdata: Dict }

    /// Moves a name.
    Rename { old_parent: Gfid, new_parent: Gfid, old_name: Bytes, new_name: Bytes, xdata: Dict }

    /// Gives an inode a further name.
    Link { gfid: Gfid, new_parent: Gfid, new_name: Bytes, xdata: Dict }

    /// Makes (or without EXCL opens) a file and opens it; xdata holds `gfid-req`.
    Create { parent: Gfid, flags: u32, mode: u32, umask: u32, name: Bytes, xdata: Dict }

    /// Makes an inode without a name. No brick serves it.
    Icreate { gfid: Gfid, mode: u32, xdata: Dict }

    /// Gives an inode made by ICREATE a name. Never to be sent: bricks die of it.
    Namelink { parent: Gfid, name: Bytes, xdata: Dict }

    /// Makes a file with its xattrs and its data, which follows. No brick serves it.
    Put {
        parent: Gfid,
        name: Bytes,
        mode: u32,
        umask: u32,
        flag: u32,
        offset: u64,
        size: u32,
        dict: Dict,
        xdata: Dict,
    }
}
