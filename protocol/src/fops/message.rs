//! How a message is declared, and what all messages of a kind have in common.

use super::Procedure;
use super::wire::Wire;
use crate::{Dict, Errno};

/// A request of the program.
pub trait Fop: Wire {
    /// Its procedure.
    const PROCEDURE: Procedure;
    /// What the brick answers.
    type Reply: Reply;
}

/// A reply of the program: all begin with `op_ret` and `op_errno`, and a failed one carries all its fields, as zeros.
pub trait Reply: Wire {
    /// −1, or what the fop counts: bytes, entries, locks; 0 when it counts nothing.
    fn op_ret(&self) -> i32;

    /// The error number of a failure. Garbage on success, but for READ and READDIR(P): see [`Reply::at_end`].
    fn op_errno(&self) -> i32;

    /// Further values; a failure may have some too.
    fn xdata(&self) -> &Dict;

    /// `op_ret` of a success, or why it failed.
    fn outcome(&self) -> Result<u32, Errno> {
        u32::try_from(self.op_ret()).map_err(|_| Errno::from_wire(self.op_errno()))
    }

    /// READ and READDIR(P) succeed with `ENOENT` when they saw the end of the file or directory.
    fn at_end(&self) -> bool {
        self.op_ret() >= 0 && self.op_errno() == Errno::ENOENT.raw()
    }
}

/// What a field means; the same name means the same in every message.
macro_rules! field_meaning {
    (gfid) => {
        "The object."
    };
    (parent) => {
        "Directory that holds the name."
    };
    (name) => {
        "A name: of an entry in its directory, of an xattr, of an entry lock."
    };
    (xdata) => {
        "Further values that go along."
    };
    (fd) => {
        "The brick's number of an open file, or [`ANONYMOUS_FD`](crate::fops::ANONYMOUS_FD). Never −1."
    };
    (flags) => {
        "Flags of this fop: open flags of the wire for OPEN and CREATE."
    };
    (mode) => {
        "Permission bits, and for MKNOD the type."
    };
    (umask) => {
        "Umask of the caller, applied by the brick unless the parent has a default ACL."
    };
    (rdev) => {
        "Device number in the encoding of Linux' `dev_t`."
    };
    (xflags) => {
        "0. Bit 0 of RMDIR's removes a full directory."
    };
    (target) => {
        "Target of a symbolic link, without NUL."
    };
    (old_parent) => {
        "Directory that holds the old name."
    };
    (new_parent) => {
        "Directory that gets the new name."
    };
    (old_name) => {
        "The old name."
    };
    (new_name) => {
        "The new name."
    };
    (offset) => {
        "Position in bytes; in a directory the cookie of an entry."
    };
    (size) => {
        "How many bytes."
    };
    (flag) => {
        "Open flags of the sender's machine, untranslated."
    };
    (datasync) => {
        "1 when attributes need not be stable."
    };
    (dict) => {
        "Names and values of xattrs."
    };
    (namelen) => {
        "0 when there is no name, anything else when there is."
    };
    (mask) => {
        "R_OK 4, W_OK 2, X_OK 1."
    };
    (cmd) => {
        "What to do with the lock."
    };
    (kind) => {
        "Kind of lock."
    };
    (flock) => {
        "Range, kind and owner of a lock."
    };
    (volume) => {
        "Domain: locks of different domains do not conflict."
    };
    (len) => {
        "How many bytes."
    };
    (stat) => {
        "Attributes of the object."
    };
    (valid) => {
        "Which attributes count: bits of [`set_attr`](crate::types::set_attr)."
    };
    (op) => {
        "Which message between translators."
    };
    (what) => {
        "Data or hole."
    };
    (lease) => {
        "The lease."
    };
    (locks) => {
        "Locks of the object."
    };
    (source) => {
        "Object to copy from."
    };
    (destination) => {
        "Object to copy to."
    };
    (source_fd) => {
        "The brick's number of the open source."
    };
    (destination_fd) => {
        "The brick's number of the open destination."
    };
    (source_offset) => {
        "Position in the source in bytes."
    };
    (destination_offset) => {
        "Position in the destination in bytes."
    };
    (op_ret) => {
        "−1, or what the fop counts."
    };
    (op_errno) => {
        "Error number of a failure."
    };
    (pre) => {
        "Attributes before."
    };
    (post) => {
        "Attributes after."
    };
    (preparent) => {
        "Attributes of the directory before."
    };
    (postparent) => {
        "Attributes of the directory after."
    };
    (pre_old_parent) => {
        "Attributes of the old directory before."
    };
    (post_old_parent) => {
        "Attributes of the old directory after."
    };
    (pre_new_parent) => {
        "Attributes of the new directory before."
    };
    (post_new_parent) => {
        "Attributes of the new directory after."
    };
    (source_stat) => {
        "Attributes of the source."
    };
    (statfs) => {
        "Figures of the file system."
    };
    (weak) => {
        "rsync's rolling sum."
    };
    (strong) => {
        "SHA-256, or MD5 and zeros: 32 bytes."
    };
    (entries) => {
        "Entries in the order of the brick."
    };
}

/// Declares messages as lists of typed fields, in the order of the wire.
macro_rules! messages {
    ($($(#[$meta:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? })*) => {
        $($(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $(#[doc = field_meaning!($field)]
            pub $field: $type,)*
        }

        impl $crate::fops::Wire for $name {
            fn encode(&self, _encoder: &mut $crate::xdr::Encoder) {
                $($crate::fops::Wire::encode(&self.$field, _encoder);)*
            }

            fn decode(
                _decoder: &mut $crate::xdr::Decoder,
                _what: &'static str,
            ) -> Result<Self, $crate::xdr::DecodeError> {
                $(let $field = $crate::fops::Wire::decode(
                    _decoder,
                    concat!(stringify!($name), ".", stringify!($field)),
                )?;)*
                Ok($name { $($field),* })
            }

            fn encoded_len(&self) -> usize {
                0 $(+ $crate::fops::Wire::encoded_len(&self.$field))*
            }
        }

        #[cfg(test)]
        impl $crate::fops::tests::Sample for $name {
            fn sample(_source: &mut $crate::fops::tests::Source) -> Self {
                $name { $($field: $crate::fops::tests::Sample::sample(_source)),* }
            }
        })*
    };
}

/// Declares replies: messages that begin with `op_ret` and `op_errno`.
macro_rules! replies {
    ($($(#[$meta:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? })*) => {
        messages! {
            $($(#[$meta])* $name { op_ret: i32, op_errno: i32, $($field: $type),* })*
        }

        $(impl $crate::fops::ReplyStatus for $name {
            fn op_ret(&self) -> i32 {
                self.op_ret
            }

            fn op_errno(&self) -> i32 {
                self.op_errno
            }

            fn xdata(&self) -> &$crate::Dict {
                &self.xdata
            }
        })*
    };
}
