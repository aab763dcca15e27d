//! Random work on one file, from seeds: what the brick holds in the end must be what the model says, and every
//! acknowledged byte that is not there must have been reported.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use rgfs_protocol::{Dict, Errno, FileType};

use super::brick::*;
use crate::reply::{Payload, WriteReply};
use crate::translators::performance::write_behind::WriteBehind;
use crate::{Context, Fd, FopResult, Inode, Translator, task};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

const SPAN: u64 = 1 << 20;

struct Write {
    fd: usize,
    offset: usize,
    data: Bytes,
    answer: Answer<FopResult<WriteReply>>,
    result: Option<Result<usize, Errno>>,
    /// Parts of `data` that the brick refused.
    lost: Vec<Range<usize>>,
}

#[derive(Default)]
struct FdModel {
    /// An acknowledged write failed, and no flush or fsync has told so.
    lost: bool,
    warned: bool,
}

struct Read {
    offset: usize,
    answer: Answer<FopResult<Vec<u8>>>,
    /// What the file held for its caller when it asked, and the number of writes before.
    expected: Vec<u8>,
    writes: usize,
}

struct Simulation {
    seed: u64,
    random: Random,
    brick: Arc<Brick>,
    top: Arc<WriteBehind>,
    fds: Vec<Arc<Fd>>,
    models: Vec<FdModel>,
    writes: Vec<Write>,
    reads: Vec<Read>,
    flushes: Vec<(usize, Answer<Option<Errno>>)>,
    failures: bool,
    last_end: u64,
    waited: usize,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let brick = Brick::new();
        let top = write_behind(brick.clone(), &[("cache-size", "512KB"), ("aggregate-size", "16KB")]);
        let inode = Inode::known(GFID, FileType::Regular);
        let fds: Vec<_> = [0, 0, libc::O_SYNC].map(|flags| open(&inode, flags)).into();
        Simulation {
            seed,
            random: Random(seed),
            brick,
            top,
            models: fds.iter().map(|_| FdModel::default()).collect(),
            fds,
            writes: Vec::new(),
            reads: Vec::new(),
            flushes: Vec::new(),
            failures: seed % 2 == 1,
            last_end: 0,
            waited: 0,
        }
    }

    fn step(&mut self) {
        match self.random.below(20) {
            0..=9 => self.write(),
            10..=11 => self.read(),
            12 => self.flush(),
            _ => self.answer(),
        }
        self.collect();
    }

    fn write(&mut self) {
        let fd = self.random.below(20).saturating_sub(17) as usize;
        let large = self.random.one_in(8);
        let len = 1 + self.random.below(if large { 300 << 10 } else { 6 << 10 });
        let sequential = !self.random.one_in(3);
        let offset = if sequential { self.last_end } else { self.random.below(SPAN) };
        self.last_end = (offset + len) % SPAN;
        let model = &mut self.models[fd];
        if model.lost && !model.warned {
            model.warned = true;
            let refused = write(&self.top, &self.fds[fd], offset, "never written").now();
            assert_eq!(refused.unwrap_err().errno, Errno::ENOSPC, "seed {}", self.seed);
            return;
        }
        let data = Bytes::from(vec![(self.writes.len() % 255 + 1) as u8; len as usize]);
        let answer = write(&self.top, &self.fds[fd], offset, data.clone());
        let result = answer.take().map(|result| result.map(|reply| reply.written).map_err(|error| error.errno));
        if fd != 2 {
            assert!(result.is_none_or(|result| result == Ok(len as usize)), "seed {}", self.seed);
            self.waited += usize::from(result.is_none());
        }
        self.writes.push(Write { fd, offset: offset as usize, data, answer, result, lost: Vec::new() });
    }

    fn read(&mut self) {
        let (offset, len) = (self.random.below(SPAN), 1 + self.random.below(50_000));
        let mut expected = self.contents();
        expected.truncate((offset + len) as usize);
        expected.drain(..(offset as usize).min(expected.len()));
        let answer = read(&self.top, &self.fds[0], offset, len as u32);
        self.reads.push(Read { offset: offset as usize, answer, expected, writes: self.writes.len() });
    }

    fn flush(&mut self) {
        let fd = self.random.below(3) as usize;
        let answer =
            if self.random.one_in(2) { flush(&self.top, &self.fds[fd]) } else { fsync(&self.top, &self.fds[fd]) };
        self.flushes.push((fd, answer));
    }

    /// The brick answers one of its writes, in any order.
    fn answer(&mut self) {
        let waiting = self.brick.waiting();
        for (index, a) in waiting.iter().enumerate() {
            let apart = |b: &(u64, usize)| a.0 + a.1 as u64 <= b.0 || b.0 + b.1 as u64 <= a.0;
            assert!(waiting[index + 1..].iter().all(apart), "seed {}: writes overlap in flight", self.seed);
        }
        if waiting.is_empty() {
            return;
        }
        let index = self.random.below(waiting.len() as u64) as usize;
        let slices = self.brick.look(index, |pending| pending.data.clone());
        let of = |write: &Write| write.data.as_ptr_range().contains(&slices[0].as_ptr());
        let synchronous = self.writes.iter().any(|write| write.fd == 2 && of(write));
        let outcome = match self.random.below(10) {
            0 if self.failures => Outcome::Fails(Errno::ENOSPC),
            // Bytes that the caller of a synchronous write must write again are as good as refused.
            1 if self.failures || !synchronous => Outcome::Short(1 + self.random.below(3000) as usize),
            _ => Outcome::Whole,
        };
        let mut before = 0;
        for slice in &slices {
            let write =
                self.writes.iter_mut().find(|write| write.data.as_ptr_range().contains(&slice.as_ptr())).unwrap();
            let start = slice.as_ptr() as usize - write.data.as_ptr() as usize;
            match outcome {
                Outcome::Fails(_) => {
                    write.lost.push(start..start + slice.len());
                    self.models[write.fd].lost |= write.result.is_some();
                }
                // A short answer to a synchronous write is its caller's to continue.
                Outcome::Short(most) if write.fd == 2 && most < before + slice.len() => {
                    write.lost.push(start + most.saturating_sub(before)..start + slice.len());
                }
                _ => {}
            }
            before += slice.len();
        }
        self.brick.answer(index, outcome);
    }

    /// Takes what has been answered by now.
    fn collect(&mut self) {
        for write in self.writes.iter_mut().filter(|write| write.result.is_none()) {
            let Some(result) = write.answer.take() else { continue };
            let result = result.map(|reply| reply.written).map_err(|error| error.errno);
            match (write.lost.first(), result) {
                (None, result) => assert_eq!(result, Ok(write.data.len()), "seed {}", self.seed),
                (Some(lost), result) if lost.start > 0 => assert_eq!(result, Ok(lost.start), "seed {}", self.seed),
                (Some(_), result) => assert_eq!(result, Err(Errno::ENOSPC), "seed {}", self.seed),
            }
            write.result = Some(result);
        }
        self.flushes.retain(|(fd, answer)| {
            let Some(error) = answer.take() else { return true };
            let model = std::mem::take(&mut self.models[*fd]);
            assert_eq!(error, model.lost.then_some(Errno::ENOSPC), "seed {}", self.seed);
            false
        });
        let (writes, failures, seed) = (&self.writes, self.failures, self.seed);
        self.reads.retain(|read| {
            let Some(data) = read.answer.take() else { return true };
            let data = data.unwrap();
            // With failures, what it may see depends on when the brick failed; the end of the test checks the file.
            assert!(failures || data.len() >= read.expected.len(), "seed {seed}: a short read");
            if failures || data == read.expected {
                return false;
            }
            for (index, byte) in data.iter().enumerate() {
                let place = read.offset + index;
                let meanwhile = |write: &Write| (write.offset..write.offset + write.data.len()).contains(&place);
                let fits = read.expected.get(index).unwrap_or(&0) == byte
                    || writes[read.writes..].iter().any(|write| write.data[0] == *byte && meanwhile(write));
                assert!(fits, "seed {seed}: byte {place} is {byte}");
            }
            false
        });
    }

    /// The file as its users believe it to be.
    fn contents(&self) -> Vec<u8> {
        let mut file = Vec::new();
        for write in &self.writes {
            let mut lost = write.lost.clone();
            lost.sort_by_key(|range| range.start);
            lost.push(write.data.len()..write.data.len());
            let mut from = 0;
            for gap in lost {
                let (start, end) = (write.offset + from, write.offset + gap.start);
                if start < end {
                    file.resize(file.len().max(end), 0);
                    file[start..end].fill(write.data[0]);
                }
                from = gap.end;
            }
        }
        file
    }

    /// Ends the work, and returns how many writes had to wait for the window.
    fn finish(mut self) -> usize {
        while !self.brick.waiting().is_empty() {
            self.answer();
            self.collect();
        }
        assert!(self.writes.iter().all(|write| write.result.is_some()), "seed {}: a write hangs", self.seed);
        assert!(self.reads.is_empty() && self.flushes.is_empty(), "seed {}: something hangs", self.seed);
        for (fd, model) in self.fds.iter().zip(&self.models) {
            assert_eq!(flush(&self.top, fd).now(), model.lost.then_some(Errno::ENOSPC), "seed {}", self.seed);
        }
        let mut dumped = Vec::new();
        self.top.dump(&mut |key, value| dumped.push(format!("{key}={value}")));
        assert!(dumped.contains(&"unanswered-bytes=0".to_string()), "{dumped:?}");
        assert!(self.contents() == *lock(&self.brick.file), "seed {}: the file differs from the model", self.seed);
        self.waited
    }
}

#[test]
fn the_file_is_what_its_writers_were_told() {
    let mut waited = 0;
    for seed in 0..60 {
        let mut simulation = Simulation::new(seed);
        for _ in 0..150 {
            simulation.step();
        }
        waited += simulation.finish();
    }
    assert!(waited > 0, "the window was never full: the test tests too little");
}

/// Waits for a fop as a process in a system call does.
fn wait<T: Send + 'static>(fop: impl Future<Output = T> + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    task::spawn(async move {
        let _ = sender.send(fop.await);
    });
    receiver.recv_timeout(Duration::from_secs(60)).expect("the fop hangs")
}

#[test]
fn threads_read_what_they_wrote() {
    const REGION: u64 = 20_000;
    let brick = Brick::new();
    let top = write_behind(brick.clone(), &[("cache-size", "512KB"), ("aggregate-size", "2KB")]);
    let inode = Inode::known(GFID, FileType::Regular);
    let done = AtomicBool::new(false);
    let models = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random(7);
            while !done.load(Ordering::Acquire) {
                match brick.waiting().len() {
                    0 => std::thread::yield_now(),
                    waiting => brick.answer(random.below(waiting as u64) as usize, Outcome::Whole),
                }
            }
        });
        let writers: Vec<_> = (0..3u64)
            .map(|thread| {
                let (top, fd) = (top.clone(), open(&inode, 0));
                scope.spawn(move || work(thread, &top, &fd, REGION))
            })
            .collect();
        let models: Vec<_> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        done.store(true, Ordering::Release);
        models
    });
    for (thread, model) in models.iter().enumerate() {
        let start = thread * REGION as usize;
        assert!(lock(&brick.file)[start..].starts_with(model), "region {thread}");
    }
}

/// Writes and reads in a region of its own; returns what must be there.
fn work(thread: u64, top: &Arc<WriteBehind>, fd: &Arc<Fd>, region: u64) -> Vec<u8> {
    let mut random = Random(thread);
    let mut model = vec![0; region as usize];
    for round in 0..400 {
        let (from, len) = (random.below(region - 1000), 1 + random.below(1000));
        let range = from as usize..(from + len) as usize;
        let (top, fd, offset) = (top.clone(), fd.clone(), thread * region + from);
        match random.below(8) {
            0 => wait(async move { top.flush(&Context::internal(), &fd, Dict::NULL).await.map(drop) }).unwrap(),
            1..=2 => {
                let reply =
                    wait(async move { top.readv(&Context::internal(), &fd, len as u32, offset, 0, Dict::NULL).await });
                let mut data = reply.unwrap().data.concat();
                data.resize(len as usize, 0);
                assert!(data == model[range], "thread {thread}, round {round}");
            }
            _ => {
                model[range].fill(round as u8);
                let data = Payload::from_iter([Bytes::from(vec![round as u8; len as usize])]);
                let reply =
                    wait(async move { top.writev(&Context::internal(), &fd, data, offset, 0, Dict::NULL).await });
                assert_eq!(reply.unwrap().written, len as usize);
            }
        }
    }
    wait({
        let (top, fd) = (top.clone(), fd.clone());
        async move { top.flush(&Context::internal(), &fd, Dict::NULL).await.map(drop) }
    })
    .unwrap();
    // A region whose end was never written ends with the file.
    while model.last() == Some(&0) {
        model.pop();
    }
    model
}
