//! Every fop on a file, in every phase of its move: which bricks are asked, what the program sees, and what the file is in the end.

use std::pin::Pin;

use rgfs_protocol::types::{SeekWhat, XattropFlags};

use super::*;
use crate::reply::PrePostReply;

/// The bricks that are asked to do a fop: the source, the destination.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Asked {
    /// It says all that is to be known.
    Source,
    /// The source, then the destination.
    Both,
    Destination,
}
use Asked::{Both, Destination, Source};

/// Attributes that a program gets to see.
type Shown = FopResult<Vec<Iatt>>;
type Answer<'a> = Pin<Box<dyn Future<Output = Shown> + 'a>>;
type Call = for<'a> fn(&'a Context, &'a Distribute, &'a Moving) -> Answer<'a>;

/// A fop.
struct Row {
    /// Its name, as the bricks note it.
    fop: &'static str,
    /// Who is asked when the file is moving, when it has moved, and when it is gone from the source.
    asked: [Asked; 3],
    /// The file in the end, see [`Moving::told`].
    leaves: &'static str,
    call: Call,
}

/// What is done at the source is done at the destination, too; later there alone. Changes of [data](SETTLING) when the move is over.
const CHANGES: [Asked; 3] = [Both, Both, Both];
/// The source is right until the file has moved.
const READS: [Asked; 3] = [Source, Both, Both];
/// Answers without attributes: only an error tells.
const BLIND: [Asked; 3] = [Source, Source, Both];
/// The same through a descriptor, which keeps the remains at the source alive: nothing tells.
const BLIND_BY_FD: [Asked; 3] = [Source, Source, Source];

/// What is done when the move is over.
const SETTLING: [&str; 6] = ["WRITE", "TRUNCATE", "FTRUNCATE", "FALLOCATE", "DISCARD", "ZEROFILL"];

/// The file when nothing was changed.
const SAME: &str = "0123456789 uid 0 kept";

fn both(reply: PrePostReply) -> Vec<Iatt> {
    vec![reply.pre, reply.post]
}

/// The attributes in the answer to a change of xattrs.
fn told(xdata: &Dict) -> Vec<Iatt> {
    match xdata.get(keys::IATT_IN_XATTR) {
        Some(Value::Iatt(stat)) => vec![**stat],
        _ => Vec::new(),
    }
}

fn xattr(name: &'static str) -> Dict {
    Dict::empty().with(name, Value::Ptr(Bytes::from_static(&[0, 0, 0, 1])))
}

fn owner() -> Iatt {
    Iatt { uid: 7, ..Iatt::default() }
}

fn whole(kind: LockType) -> Flock {
    Flock { kind, whence: 0, start: 0, len: 0, pid: 42, owner: LockOwner(b"me"[..].into()) }
}

const ROWS: &[Row] = &[
    Row {
        fop: "WRITE",
        asked: CHANGES,
        leaves: "012ab56789 uid 0 kept",
        call: |c, top, file| {
            Box::pin(async move {
                let reply = top.writev(c, &file.fd, smallvec![Bytes::from_static(b"ab")], 3, 0, Dict::NULL).await?;
                Ok(vec![reply.pre, reply.post])
            })
        },
    },
    Row {
        fop: "TRUNCATE",
        asked: CHANGES,
        leaves: "01234 uid 0 kept",
        call: |c, top, file| Box::pin(async move { top.truncate(c, &file.loc, 5, Dict::NULL).await.map(both) }),
    },
    Row {
        fop: "FTRUNCATE",
        asked: CHANGES,
        leaves: "0123 uid 0 kept",
        call: |c, top, file| Box::pin(async move { top.ftruncate(c, &file.fd, 4, Dict::NULL).await.map(both) }),
    },
    Row {
        fop: "FALLOCATE",
        asked: CHANGES,
        leaves: "0123456789__ uid 0 kept",
        call: |c, top, file| {
            Box::pin(async move { top.fallocate(c, &file.fd, false, 8, 4, Dict::NULL).await.map(both) })
        },
    },
    Row {
        fop: "DISCARD",
        asked: CHANGES,
        leaves: "0__3456789 uid 0 kept",
        call: |c, top, file| Box::pin(async move { top.discard(c, &file.fd, 1, 2, Dict::NULL).await.map(both) }),
    },
    Row {
        fop: "ZEROFILL",
        asked: CHANGES,
        leaves: "01__456789 uid 0 kept",
        call: |c, top, file| Box::pin(async move { top.zerofill(c, &file.fd, 2, 2, Dict::NULL).await.map(both) }),
    },
    Row {
        fop: "FSYNC",
        asked: CHANGES,
        leaves: SAME,
        call: |c, top, file| Box::pin(async move { top.fsync(c, &file.fd, false, Dict::NULL).await.map(both) }),
    },
    Row {
        fop: "SETXATTR",
        asked: CHANGES,
        leaves: "0123456789 uid 0 kept new",
        call: |c, top, file| {
            Box::pin(async move { Ok(told(&top.setxattr(c, &file.loc, xattr("user.new"), 0, Dict::NULL).await?)) })
        },
    },
    // The destination has no copy of it yet, or has one already.
    Row {
        fop: "SETXATTR",
        asked: CHANGES,
        leaves: SAME,
        call: |c, top, file| {
            let flags = libc::XATTR_REPLACE.cast_unsigned();
            Box::pin(async move { Ok(told(&top.setxattr(c, &file.loc, xattr("user.kept"), flags, Dict::NULL).await?)) })
        },
    },
    Row {
        fop: "FSETXATTR",
        asked: CHANGES,
        leaves: "0123456789 uid 0 kept new",
        call: |c, top, file| {
            let flags = libc::XATTR_CREATE.cast_unsigned();
            Box::pin(async move { Ok(told(&top.fsetxattr(c, &file.fd, xattr("user.new"), flags, Dict::NULL).await?)) })
        },
    },
    Row {
        fop: "FSETXATTR",
        asked: CHANGES,
        leaves: SAME,
        call: |c, top, file| {
            let flags = libc::XATTR_REPLACE.cast_unsigned();
            Box::pin(async move { Ok(told(&top.fsetxattr(c, &file.fd, xattr("user.kept"), flags, Dict::NULL).await?)) })
        },
    },
    // Not copied yet: it is gone from the destination before it came.
    Row {
        fop: "REMOVEXATTR",
        asked: CHANGES,
        leaves: "0123456789 uid 0",
        call: |c, top, file| {
            Box::pin(async move { Ok(told(&top.removexattr(c, &file.loc, "user.kept", Dict::NULL).await?)) })
        },
    },
    Row {
        fop: "FREMOVEXATTR",
        asked: CHANGES,
        leaves: "0123456789 uid 0",
        call: |c, top, file| {
            Box::pin(async move { Ok(told(&top.fremovexattr(c, &file.fd, "user.kept", Dict::NULL).await?)) })
        },
    },
    Row {
        fop: "XATTROP",
        asked: CHANGES,
        leaves: "0123456789 uid 0 kept new",
        call: |c, top, file| {
            Box::pin(async move {
                let add = XattropFlags::AddArray;
                Ok(told(&top.xattrop(c, &file.loc, add, xattr("user.new"), Dict::NULL).await?.xdata))
            })
        },
    },
    Row {
        fop: "FXATTROP",
        asked: CHANGES,
        leaves: "0123456789 uid 0 kept new",
        call: |c, top, file| {
            Box::pin(async move {
                let add = XattropFlags::AddArray;
                Ok(told(&top.fxattrop(c, &file.fd, add, xattr("user.new"), Dict::NULL).await?.xdata))
            })
        },
    },
    // Attributes are copied when all else is.
    Row {
        fop: "SETATTR",
        asked: READS,
        leaves: "0123456789 uid 7 kept",
        call: |c, top, file| {
            Box::pin(async move { top.setattr(c, &file.loc, &owner(), set_attr::UID, Dict::NULL).await.map(both) })
        },
    },
    Row {
        fop: "FSETATTR",
        asked: READS,
        leaves: "0123456789 uid 7 kept",
        call: |c, top, file| {
            Box::pin(async move { top.fsetattr(c, &file.fd, &owner(), set_attr::UID, Dict::NULL).await.map(both) })
        },
    },
    Row {
        fop: "STAT",
        asked: READS,
        leaves: SAME,
        call: |c, top, file| Box::pin(async move { Ok(vec![top.stat(c, &file.loc, Dict::NULL).await?.stat]) }),
    },
    Row {
        fop: "FSTAT",
        asked: READS,
        leaves: SAME,
        call: |c, top, file| Box::pin(async move { Ok(vec![top.fstat(c, &file.fd, Dict::NULL).await?.stat]) }),
    },
    Row {
        fop: "READ",
        asked: READS,
        leaves: SAME,
        call: |c, top, file| {
            Box::pin(async move {
                let reply = top.readv(c, &file.fd, 100, 0, 0, Dict::NULL).await?;
                assert_eq!(reply.data.concat(), b"0123456789");
                Ok(vec![reply.stat])
            })
        },
    },
    Row {
        fop: "OPEN",
        asked: BLIND,
        leaves: SAME,
        call: |c, top, file| {
            Box::pin(async move {
                let fd = Fd::new(file.loc.inode.clone(), libc::O_RDONLY, 42);
                top.open(c, &file.loc, libc::O_RDONLY, &fd, Dict::NULL).await.map(|_| Vec::new())
            })
        },
    },
    Row {
        fop: "ACCESS",
        asked: BLIND,
        leaves: SAME,
        call: |c, top, file| Box::pin(async move { top.access(c, &file.loc, 4, Dict::NULL).await.map(|_| Vec::new()) }),
    },
    Row {
        fop: "READLINK",
        asked: BLIND,
        leaves: SAME,
        call: |c, top, file| {
            Box::pin(async move { top.readlink(c, &file.loc, 99, Dict::NULL).await.map(|_| Vec::new()) })
        },
    },
    Row {
        fop: "GETXATTR user.kept",
        asked: BLIND,
        leaves: SAME,
        call: |c, top, file| {
            Box::pin(async move { top.getxattr(c, &file.loc, Some("user.kept"), Dict::NULL).await.map(|_| Vec::new()) })
        },
    },
    Row {
        fop: "FGETXATTR user.kept",
        asked: BLIND_BY_FD,
        leaves: SAME,
        call: |c, top, file| {
            Box::pin(async move { top.fgetxattr(c, &file.fd, Some("user.kept"), Dict::NULL).await.map(|_| Vec::new()) })
        },
    },
    Row {
        fop: "RCHECKSUM",
        asked: BLIND_BY_FD,
        leaves: SAME,
        call: |c, top, file| {
            Box::pin(async move { top.rchecksum(c, &file.fd, 0, 10, Dict::NULL).await.map(|_| Vec::new()) })
        },
    },
    // The remains are empty, and that tells.
    Row {
        fop: "SEEK",
        asked: BLIND,
        leaves: SAME,
        call: |c, top, file| {
            Box::pin(async move {
                let found = top.seek(c, &file.fd, 3, SeekWhat::Data, Dict::NULL).await?;
                assert_eq!(found.offset, 3);
                Ok(Vec::new())
            })
        },
    },
    Row {
        fop: "SEEK",
        asked: BLIND,
        leaves: SAME,
        call: |c, top, file| {
            Box::pin(async move {
                let found = top.seek(c, &file.fd, 0, SeekWhat::Hole, Dict::NULL).await?;
                assert_eq!(found.offset, 10);
                Ok(Vec::new())
            })
        },
    },
    // Locks go along when the brick says so.
    Row {
        fop: "LK",
        asked: BLIND,
        leaves: SAME,
        call: |c, top, file| {
            Box::pin(async move {
                top.lk(c, &file.fd, LkCmd::SetLk, whole(LockType::Write), Dict::NULL).await.map(|_| Vec::new())
            })
        },
    },
    Row {
        fop: "LK",
        asked: BLIND,
        leaves: SAME,
        call: |c, top, file| {
            Box::pin(async move {
                top.lk(c, &file.fd, LkCmd::SetLkW, whole(LockType::Read), Dict::NULL).await.map(|_| Vec::new())
            })
        },
    },
    Row {
        fop: "LK",
        asked: BLIND,
        leaves: SAME,
        call: |c, top, file| {
            Box::pin(async move {
                top.lk(c, &file.fd, LkCmd::SetLk, whole(LockType::Unlock), Dict::NULL).await.map(|_| Vec::new())
            })
        },
    },
    Row {
        fop: "LK",
        asked: BLIND,
        leaves: SAME,
        call: |c, top, file| {
            Box::pin(async move {
                top.lk(c, &file.fd, LkCmd::GetLk, whole(LockType::Write), Dict::NULL).await.map(|_| Vec::new())
            })
        },
    },
    Row {
        fop: "FLUSH",
        asked: BLIND,
        leaves: SAME,
        call: |c, top, file| Box::pin(async move { top.flush(c, &file.fd, Dict::NULL).await.map(|_| Vec::new()) }),
    },
    // The kernel copies by reading and writing then, and these follow the file.
    Row {
        fop: "COPY_FILE_RANGE",
        asked: [Source, Source, Source],
        leaves: SAME,
        call: |c, top, file| {
            Box::pin(async move {
                let copied = top.copy_file_range(c, &file.fd, 2, &file.fd, 2, 3, 0, Dict::NULL).await;
                assert_eq!(copied.map(|reply| reply.copied).map_err(|error| error.errno), Err(Errno::EXDEV));
                Ok(Vec::new())
            })
        },
    },
];

impl Moving {
    /// The file at its destination: its data, its owner, and the xattrs that users have set.
    fn told(&self) -> String {
        let aim = &self.cluster.bricks[1];
        let names = aim.xattr_names(&self.path).into_iter();
        let xattrs: String = names
            .filter_map(|name| {
                let shown = name.strip_prefix("user.").map(|name| format!(" {name}"))?;
                assert_eq!(aim.xattr(&self.path, &name).as_deref(), Some(&[0, 0, 0, 1][..]), "{name}");
                Some(shown)
            })
            .collect();
        format!("{} uid {}{xattrs}", self.data(), aim.stat_of(&self.path).unwrap().uid)
    }

    /// Does a fop; answers who was asked for it. A move whose end is awaited ends.
    fn does(&self, row: &Row) -> Asked {
        self.cluster.forget();
        while_awaited(self, 0, complete);
        let shown = self.ask(|context, top, file| async move { (row.call)(&context, &top, file).await });
        let shown = shown.unwrap_or_else(|error| panic!("{}: {error}", row.fop));
        for stat in shown {
            assert_eq!(stat.mode, 0o100_644, "{} shows {:o}", row.fop, stat.mode);
        }
        let traces = self.cluster.traces();
        let asked = |brick: usize| {
            let called = |call: &&String| {
                *call == row.fop || *call != "WRITE nothing" && call.split(' ').next() == Some(row.fop)
            };
            traces[brick].iter().filter(called).count()
        };
        match (asked(0), asked(1)) {
            (1, 0) => Source,
            (1, 1) => Both,
            (0, 1) => Destination,
            other => panic!("{}: {other:?} calls, {traces:?}", row.fop),
        }
    }
}

#[test]
fn every_fop_goes_where_the_file_is() {
    for row in ROWS {
        for (when, expected) in ALL.into_iter().zip(row.asked) {
            let file = Moving::new(libc::O_RDWR);
            file.cluster.bricks[0].put_xattr(&file.path, "user.kept", Some(&[0, 0, 0, 1]));
            file.advance(None, when);
            assert_eq!(file.does(row), expected, "{} {when:?}", row.fop);
            if !(when == When::Moving && SETTLING.contains(&row.fop)) {
                file.advance(Some(when), When::Gone);
            }
            assert_eq!(file.told(), row.leaves, "{} {when:?}", row.fop);
            assert_eq!(file.cluster.bricks[0].list("/"), [] as [String; 0], "{} {when:?}", row.fop);
        }
    }
}

#[test]
fn where_the_file_has_gone_is_remembered() {
    for row in ROWS {
        for (when, first) in ALL.into_iter().zip(row.asked) {
            // What was done at a place that is gone by now cannot be done again.
            if row.fop.contains("REMOVEXATTR") || row.fop == "FSETXATTR" || row.fop == "COPY_FILE_RANGE" {
                continue;
            }
            let file = Moving::new(libc::O_RDWR);
            file.cluster.bricks[0].put_xattr(&file.path, "user.kept", Some(&[0, 0, 0, 1]));
            file.advance(None, when);
            file.does(row);
            let over = when != When::Moving || SETTLING.contains(&row.fop);
            let expected = if over && first == Both { Destination } else { first };
            assert_eq!(file.does(row), expected, "{} {when:?}", row.fop);
        }
    }
}
