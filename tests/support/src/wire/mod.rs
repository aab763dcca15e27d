//! What a client says to its bricks, recorded and made comparable.
//!
//! A [`Recorder`] is one [`Proxy`] per brick, between a client and the real bricks. It decodes every file operation and its answer
//! (`log`). What was said since the last time is taken as a [`Step`]: the changes to files and what `cluster/replicate` does around
//! them (internal locks, changelogs), as text that does not depend on chance (`describe`, `step`):
//!
//! ```text
//! C0 C1 C2 data file
//!     FINODELK file SETLK WR 0,0 v-replicate-0  I -> 0
//!     FXATTROP file AddArray {dirty[1,0,0] client-0[0,0,0] client-1[0,0,0] client-2[0,0,0]}  I -> 0
//!     WRITE file off=0 size=12 xdata{...}  A -> 12 xdata{...}
//!     FXATTROP file AddArray {dirty[-1,0,0] client-0[0,0,0] client-1[0,0,0] client-2[0,0,0]}  I -> 0
//!     FINODELK file SETLK UNLCK 0,0 v-replicate-0  I -> 0
//! ```
//!
//! - A block is one transaction as some bricks see it: its kind (entry, data, metadata, mark of a new entry, flush), the object,
//!   and the bricks that were told exactly the same.
//! - Objects bear the first name they were seen with, the root is `/`.
//! - Calls stand in the order in which they were sent; neighbours of one fop are sorted, for these go out together.
//! - The letter is the class of the lock owner: `I` and `T` that of the inode or entry lock of the transaction, `A` another one,
//!   which is the application's, `?` an unlock with another owner than the lock.
//! - `->` is the answer: what it counts, or the error, or `lost` when the connection ended before; then the counts in xdata.
//!
//! [`Step::disorder`] says where a phase of a transaction (lock, pre-op, op, post-op, unlock) began before all bricks had answered the
//! one before, which the text of single bricks cannot show. [`aftermath()`] tells what changelogs and indices say afterwards.

mod aftermath;
mod describe;
mod log;
mod step;
mod values;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};

use crate::proxy::Proxy;
use crate::wait;

pub use aftermath::aftermath;
pub use log::{Answer, Call};
pub use step::{Phase, Step};

use log::{BrickTap, Log};

/// Proxies in front of bricks, and the log of what passed them.
#[derive(Debug)]
pub struct Recorder {
    proxies: Vec<Proxy>,
    log: Arc<Log>,
}

impl Recorder {
    /// One proxy for each pair of an address to listen on and a brick's address, in the order of the volfile.
    pub fn start(lines: &[(SocketAddr, SocketAddr)]) -> Result<Self> {
        let log = Arc::new(Log::default());
        let proxy = |(index, &(listen, brick)): (usize, &(SocketAddr, SocketAddr))| {
            Proxy::start_tapped(listen, brick, Some(Arc::new(BrickTap::new(index, log.clone()))))
        };
        let proxies = lines.iter().enumerate().map(proxy).collect::<Result<_>>()?;
        Ok(Self { proxies, log })
    }

    /// The proxy of a brick (from 0): to cut and to restore.
    pub fn proxy(&mut self, brick: usize) -> Result<&mut Proxy> {
        self.proxies.get_mut(brick).ok_or_else(|| anyhow!("no brick {brick}"))
    }

    /// Takes what was said since the last step, once it is complete: every call is answered, every internal lock given back.
    pub fn step(&self, name: &str, limit: Duration) -> Result<Step> {
        let calls = wait::for_value(&format!("the end of '{name}' on the wire"), limit, || self.log.take_if_settled())
            .map_err(|error| anyhow!("{error:#}; {}", self.log.unsettled()))?;
        Ok(Step::new(name, calls, self.log.names()))
    }
    /// What was said since the last step, which goes on.
    pub fn so_far(&self) -> Step {
        Step::new("so far", self.log.so_far(), self.log.names())
    }

    /// Waits until a brick (from 0) was told something whose line starts with `start`, answered or not.
    pub fn wait_for(&self, brick: usize, start: &str, limit: Duration) -> Result<()> {
        wait::for_value(&format!("'{start}' on the wire to brick {brick}"), limit, || {
            Ok(self.so_far().lines(brick).iter().any(|line| line.starts_with(start)).then_some(()))
        })
    }
}
