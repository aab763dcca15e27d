//! The procedures: their numbers and names, and which request and reply belong to each.

use bytes::Bytes;

use super::message::Fop;
use super::wire::Wire;
use super::{reply, request};
use crate::xdr::{DecodeError, Decoder, Encoder};

macro_rules! procedures {
    ($($number:literal $name:literal $procedure:ident => $reply:ident,)*) => {
        /// A procedure of the program, with the number of the wire (not of the internal enum of logs, which differs
        /// from 41 upward). COMPOUND (49) has no message and is left out.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Procedure {
            $(#[doc = concat!("`", $name, "`")]
            $procedure = $number,)*
        }

        impl Procedure {
            /// Every procedure, by number.
            pub const ALL: &'static [Procedure] = &[$(Procedure::$procedure),*];

            /// GlusterFS's name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Procedure::$procedure => $name,)*
                }
            }

            /// The number of the wire.
            pub fn number(self) -> u32 {
                match self {
                    $(Procedure::$procedure => $number,)*
                }
            }

            /// From the number of the wire; `None` for COMPOUND and for what does not exist.
            pub fn from_number(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(Procedure::$procedure),)*
                    _ => None,
                }
            }
        }

        $(impl Fop for request::$procedure {
            const PROCEDURE: Procedure = Procedure::$procedure;
            type Reply = reply::$reply;
        })*

        /// Any request: for servers, tests and tools. Clients use the request of the fop itself.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs, reason = "a variant is the request of its name")]
        #[allow(clippy::large_enum_variant, reason = "lives on the stack of one call, is never stored in numbers")]
        pub enum Request {
            $($procedure(request::$procedure),)*
        }

        impl Request {
            /// Which procedure it asks for.
            pub fn procedure(&self) -> Procedure {
                match self {
                    $(Request::$procedure(_) => Procedure::$procedure,)*
                }
            }

            /// Appends it. Data of WRITE and PUT is for the caller to append.
            pub fn encode(&self, encoder: &mut Encoder) {
                match self {
                    $(Request::$procedure(message) => message.encode(encoder),)*
                }
            }

            fn fields(procedure: Procedure, decoder: &mut Decoder) -> Result<Self, DecodeError> {
                Ok(match procedure {
                    $(Procedure::$procedure => Request::$procedure(Wire::decode(decoder, $name)?),)*
                })
            }

            /// A random one.
            #[cfg(test)]
            pub(super) fn sample(procedure: Procedure, source: &mut super::tests::Source) -> Self {
                match procedure {
                    $(Procedure::$procedure => Request::$procedure(super::tests::Sample::sample(source)),)*
                }
            }
        }

        /// Any reply: for servers, tests and tools. Clients use the reply of the fop itself.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs, reason = "a variant is the reply to the request of its name")]
        #[allow(clippy::large_enum_variant, reason = "lives on the stack of one call, is never stored in numbers")]
        pub enum Reply {
            $($procedure(reply::$reply),)*
        }

        impl Reply {
            /// Which procedure it answers.
            pub fn procedure(&self) -> Procedure {
                match self {
                    $(Reply::$procedure(_) => Procedure::$procedure,)*
                }
            }

            /// Appends it. Data of READ is for the caller to append.
            pub fn encode(&self, encoder: &mut Encoder) {
                match self {
                    $(Reply::$procedure(message) => message.encode(encoder),)*
                }
            }

            fn fields(procedure: Procedure, decoder: &mut Decoder) -> Result<Self, DecodeError> {
                Ok(match procedure {
                    $(Procedure::$procedure => Reply::$procedure(Wire::decode(decoder, $name)?),)*
                })
            }

            /// A random one.
            #[cfg(test)]
            pub(super) fn sample(procedure: Procedure, source: &mut super::tests::Source) -> Self {
                match procedure {
                    $(Procedure::$procedure => Reply::$procedure(super::tests::Sample::sample(source)),)*
                }
            }
        }
    };
}

procedures! {
    0 "NULL" Null => Null,
    1 "STAT" Stat => Stat,
    2 "READLINK" Readlink => Readlink,
    3 "MKNOD" Mknod => Entry,
    4 "MKDIR" Mkdir => Entry,
    5 "UNLINK" Unlink => PrePost,
    6 "RMDIR" Rmdir => PrePost,
    7 "SYMLINK" Symlink => Entry,
    8 "RENAME" Rename => Rename,
    9 "LINK" Link => Entry,
    10 "TRUNCATE" Truncate => PrePost,
    11 "OPEN" Open => Open,
    12 "READ" Read => Read,
    13 "WRITE" Write => PrePost,
    14 "STATFS" Statfs => Statfs,
    15 "FLUSH" Flush => Common,
    16 "FSYNC" Fsync => PrePost,
    17 "SETXATTR" Setxattr => Common,
    18 "GETXATTR" Getxattr => Xattr,
    19 "REMOVEXATTR" Removexattr => Common,
    20 "OPENDIR" Opendir => Open,
    21 "FSYNCDIR" Fsyncdir => Common,
    22 "ACCESS" Access => Common,
    23 "CREATE" Create => Create,
    24 "FTRUNCATE" Ftruncate => PrePost,
    25 "FSTAT" Fstat => Stat,
    26 "LK" Lk => Lk,
    27 "LOOKUP" Lookup => Lookup,
    28 "READDIR" Readdir => Readdir,
    29 "INODELK" Inodelk => Common,
    30 "FINODELK" Finodelk => Common,
    31 "ENTRYLK" Entrylk => Common,
    32 "FENTRYLK" Fentrylk => Common,
    33 "XATTROP" Xattrop => Xattr,
    34 "FXATTROP" Fxattrop => Xattr,
    35 "FGETXATTR" Fgetxattr => Xattr,
    36 "FSETXATTR" Fsetxattr => Common,
    37 "RCHECKSUM" Rchecksum => Rchecksum,
    38 "SETATTR" Setattr => PrePost,
    39 "FSETATTR" Fsetattr => PrePost,
    40 "READDIRP" Readdirp => Readdirp,
    41 "RELEASE" Release => Common,
    42 "RELEASEDIR" Releasedir => Common,
    43 "FREMOVEXATTR" Fremovexattr => Common,
    44 "FALLOCATE" Fallocate => PrePost,
    45 "DISCARD" Discard => PrePost,
    46 "ZEROFILL" Zerofill => PrePost,
    47 "IPC" Ipc => Common,
    48 "SEEK" Seek => Seek,
    50 "LEASE" Lease => Lease,
    51 "GETACTIVELK" Getactivelk => ActiveLocks,
    52 "SETACTIVELK" Setactivelk => Common,
    53 "ICREATE" Icreate => Stat,
    54 "NAMELINK" Namelink => PrePost,
    55 "PUT" Put => Entry,
    56 "COPY_FILE_RANGE" CopyFileRange => CopyFileRange,
}

impl Procedure {
    /// True when file data follows the request.
    pub fn request_has_data(self) -> bool {
        matches!(self, Procedure::Write | Procedure::Put)
    }

    /// True when file data follows the reply.
    pub fn reply_has_data(self) -> bool {
        self == Procedure::Read
    }
}

impl Request {
    /// Takes a whole request and the file data behind it, a slice of `body`. Bytes behind a request that has no data
    /// are an error.
    pub fn decode(procedure: Procedure, body: Bytes) -> Result<(Self, Bytes), DecodeError> {
        let mut decoder = Decoder::new(body);
        let request = Self::fields(procedure, &mut decoder)?;
        Ok((request, data(decoder, procedure.request_has_data())?))
    }
}

impl Reply {
    /// Takes a whole reply and the file data behind it, a slice of `body`. Bytes behind a reply that has no data are an
    /// error.
    pub fn decode(procedure: Procedure, body: Bytes) -> Result<(Self, Bytes), DecodeError> {
        let mut decoder = Decoder::new(body);
        let reply = Self::fields(procedure, &mut decoder)?;
        Ok((reply, data(decoder, procedure.reply_has_data())?))
    }
}

fn data(decoder: Decoder, expected: bool) -> Result<Bytes, DecodeError> {
    if expected {
        return Ok(decoder.rest());
    }
    decoder.finish()?;
    Ok(Bytes::new())
}
