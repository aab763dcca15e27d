//! What goes wrong in a schedule, chosen by the seed.

use std::time::Duration;

use rgfs_protocol::Errno;

use super::super::{Cluster, Random, Verdict};
use super::durability::Power;
use super::history::History;

/// Which faults a schedule has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// None: then everything must succeed.
    None,
    /// One brick comes and goes.
    OneBrick,
    /// Bricks come and go, one at a time.
    BricksInTurn,
    /// Connections of single clients break.
    Network,
    /// Requests fail on one brick: no room, no permission, short writes.
    Errors,
    /// A client dies.
    Crash,
    /// All of that, and more bricks at once than a quorum survives.
    Everything,
    /// One brick loses power, and comes back.
    PowerCut,
    /// Bricks lose power, one at a time; clients die or lose bricks.
    PowerCuts,
    /// Bricks come and go one at a time, clients die, connections break: for those who hold locks.
    Lockers,
}

impl Trouble {
    /// The trouble of a schedule.
    pub(super) fn choose(random: &mut Random) -> Self {
        use Trouble::*;
        *random.pick(&[None, OneBrick, OneBrick, BricksInTurn, BricksInTurn, Network, Errors, Crash, Everything])
    }

    /// True when a change may fail for one client on a brick that others have no complaint about: they do not hear of it
    /// before they look.
    pub(super) fn is_partial(self) -> bool {
        use Trouble::*;
        matches!(self, Network | Errors | Crash | Everything | PowerCuts | Lockers)
    }

    /// What is lost with the power.
    pub(super) fn power(self) -> Power {
        match self {
            Trouble::PowerCut => Power::OneBrick,
            Trouble::PowerCuts => Power::AnyBrick,
            _ => Power::Stays,
        }
    }
}

/// Makes trouble, bit by bit.
pub(super) struct Faults {
    trouble: Trouble,
    random: Random,
    history: History,
    victim: usize,
    down: Vec<usize>,
    cut: Vec<(usize, usize)>,
}

impl Faults {
    pub(super) fn new(trouble: Trouble, seed: u64, cluster: &Cluster, history: &History) -> Self {
        let mut random = Random::new(seed ^ 0xfa17);
        let victim = random.below(cluster.bricks() as u64) as usize;
        Faults { trouble, random, history: history.clone(), victim, down: Vec::new(), cut: Vec::new() }
    }

    /// How long it stays as it is.
    pub(super) fn pause(&mut self) -> Duration {
        let most = if self.random.chance(20) { 2500 } else { 60 };
        self.random.between(Duration::ZERO, Duration::from_millis(most))
    }

    /// Breaks or mends one thing.
    pub(super) fn strike(&mut self, cluster: &Cluster) {
        match self.trouble {
            Trouble::None => {}
            Trouble::OneBrick => self.bricks(cluster, 1, false),
            Trouble::BricksInTurn => self.bricks(cluster, 1, true),
            Trouble::Network => self.network(cluster),
            Trouble::Errors => self.errors(cluster),
            Trouble::Crash => match self.random.below(4) {
                0 => self.crash(cluster),
                1 => self.errors(cluster),
                _ => self.bricks(cluster, 1, false),
            },
            Trouble::Everything => match self.random.below(6) {
                0 | 1 => self.bricks(cluster, cluster.bricks(), true),
                2 => self.network(cluster),
                3 => self.errors(cluster),
                4 => self.slow(cluster),
                _ => self.crash(cluster),
            },
            Trouble::PowerCut => self.bricks(cluster, 1, false),
            Trouble::PowerCuts => match self.random.below(6) {
                0 => self.network(cluster),
                1 if self.random.chance(30) => self.crash(cluster),
                _ => self.bricks(cluster, 1, true),
            },
            Trouble::Lockers => match self.random.below(8) {
                0..=2 => self.bricks(cluster, 1, true),
                3 if self.random.chance(30) => self.crash(cluster),
                4 => self.slow(cluster),
                _ => self.network(cluster),
            },
        }
    }

    fn note(&self, cluster: &Cluster, text: &str) {
        self.history.note(format!("{:?} FAULT {text}", cluster.now()));
    }

    fn bricks(&mut self, cluster: &Cluster, most: usize, any: bool) {
        if !self.down.is_empty() && (self.down.len() >= most || self.random.chance(50)) {
            let at = self.random.below(self.down.len() as u64) as usize;
            let brick = self.down.remove(at);
            self.note(cluster, &format!("brick {brick} starts"));
            return cluster.restart_brick(brick);
        }
        let brick = if any { self.random.below(cluster.bricks() as u64) as usize } else { self.victim };
        if !self.down.contains(&brick) {
            self.down.push(brick);
            if self.trouble.power() != Power::Stays {
                self.note(cluster, &format!("brick {brick} loses power"));
                self.history.power_cut(cluster.now());
                return cluster.power_cut_brick(brick);
            }
            self.note(cluster, &format!("brick {brick} dies"));
            cluster.kill_brick(brick);
        }
    }

    fn network(&mut self, cluster: &Cluster) {
        if !self.cut.is_empty() && self.random.chance(50) {
            let at = self.random.below(self.cut.len() as u64) as usize;
            let (client, brick) = self.cut.remove(at);
            self.note(cluster, &format!("client {client} and brick {brick} see each other again"));
            return cluster.heal_cut(client, brick);
        }
        let client = self.random.below(cluster.client_count() as u64 - 1) as usize;
        let brick = self.random.below(cluster.bricks() as u64) as usize;
        if !self.cut.contains(&(client, brick)) {
            self.cut.push((client, brick));
            self.note(cluster, &format!("client {client} and brick {brick} lose each other"));
            cluster.cut(client, brick);
        }
    }

    fn errors(&mut self, cluster: &Cluster) {
        const POSSIBLE: [(&str, Verdict); 10] = [
            ("WRITE", Verdict::Fail(Errno::ENOSPC)),
            ("WRITE", Verdict::Short(16)),
            ("WRITE", Verdict::AnswerLate(Duration::from_millis(80))),
            ("CREATE", Verdict::Fail(Errno::EPERM)),
            ("FXATTROP", Verdict::Fail(Errno::EIO)),
            ("XATTROP", Verdict::Fail(Errno::EIO)),
            ("SETATTR", Verdict::Fail(Errno::EIO)),
            ("RENAME", Verdict::Fail(Errno::ENOSPC)),
            ("UNLINK", Verdict::Fail(Errno::EIO)),
            ("FSYNC", Verdict::Fail(Errno::EIO)),
        ];
        let (fop, verdict) = *self.random.pick(&POSSIBLE);
        self.note(cluster, &format!("the next {fop} of brick {}: {verdict:?}", self.victim));
        cluster.next(self.victim, fop, verdict);
    }

    fn slow(&mut self, cluster: &Cluster) {
        let times = *self.random.pick(&[1, 30]);
        self.note(cluster, &format!("brick {} is {times} times as slow", self.victim));
        cluster.slow_down(self.victim, times);
    }

    /// One of the working clients dies, once.
    fn crash(&mut self, cluster: &Cluster) {
        // The very last one looks at the end.
        let client = cluster.client_count() - 2;
        if cluster.is_alive(client) {
            self.note(cluster, &format!("client {client} dies"));
            self.history.crashed(client);
            cluster.crash_client(client);
        }
    }

    /// Mends everything.
    pub(super) fn mend(&mut self, cluster: &Cluster) {
        self.note(cluster, "all is mended");
        for brick in 0..cluster.bricks() {
            cluster.clear_rules(brick);
            cluster.slow_down(brick, 1);
        }
        for (client, brick) in std::mem::take(&mut self.cut) {
            cluster.heal_cut(client, brick);
        }
        for brick in std::mem::take(&mut self.down) {
            cluster.restart_brick(brick);
        }
    }
}
