//! Tables of single decisions, and random histories that are compared with a plain model.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Bytes of value `id`; several after melting.
#[derive(Debug)]
struct Piece {
    writer: u8,
    offset: u64,
    ids: Vec<(u32, usize)>,
}

impl Payload for Piece {
    fn len(&self) -> usize {
        self.ids.iter().map(|(_, len)| len).sum()
    }

    fn accepts(&self, next: &Self) -> bool {
        self.writer == next.writer && self.offset + self.len() as u64 == next.offset
    }

    fn append(&mut self, next: Self) {
        self.ids.extend(next.ids);
    }
}

type TestQueue = Queue<Piece, u32, u32>;

fn piece(id: u32, offset: u64, len: usize) -> Piece {
    Piece { writer: 0, offset, ids: vec![(id, len)] }
}

fn queue() -> TestQueue {
    Queue::new(Limits { window: 4096, aggregate: 1000 })
}

fn accept(queue: &mut TestQueue, id: u32, offset: u64, len: usize) -> bool {
    queue.accept(Extent::new(offset, len as u64), piece(id, offset, len), true).is_ok()
}

/// Starts what may be started: tickets, and the ids that go together.
fn start(queue: &mut TestQueue) -> Vec<(Ticket, Vec<u32>)> {
    let started = std::iter::from_fn(|| queue.start());
    started.map(|(ticket, piece)| (ticket, piece.ids.iter().map(|(id, _)| *id).collect())).collect()
}

fn ids(started: &[(Ticket, Vec<u32>)]) -> Vec<Vec<u32>> {
    started.iter().map(|(_, ids)| ids.clone()).collect()
}

#[test]
fn the_first_write_leaves_at_once_and_neighbours_melt_behind_it() {
    let mut queue = queue();
    assert!(accept(&mut queue, 1, 0, 100));
    let first = start(&mut queue);
    assert_eq!(ids(&first), [[1]]);
    for id in 2..5 {
        assert!(accept(&mut queue, id, u64::from(id - 1) * 100, 100));
        assert!(start(&mut queue).is_empty());
    }
    queue.complete(first[0].0, true);
    assert_eq!(ids(&start(&mut queue)), [vec![2, 3, 4]]);
}

#[test]
fn a_write_of_the_aggregate_size_does_not_wait() {
    let mut queue = queue();
    accept(&mut queue, 1, 0, 1000);
    assert_eq!(ids(&start(&mut queue)), [[1]]);
    accept(&mut queue, 2, 1000, 1000);
    assert_eq!(ids(&start(&mut queue)), [[2]]);
    accept(&mut queue, 3, 2000, 600);
    assert!(start(&mut queue).is_empty());
    accept(&mut queue, 4, 2600, 400);
    assert_eq!(ids(&start(&mut queue)), [[3, 4]]);
}

#[test]
fn a_stranger_or_a_dependent_ends_the_growth() {
    let mut queue = queue();
    accept(&mut queue, 1, 0, 100);
    start(&mut queue);
    accept(&mut queue, 2, 100, 100);
    accept(&mut queue, 3, 5000, 100);
    assert_eq!(ids(&start(&mut queue)), [[2]]);
    queue.wait(Extent::EVERYTHING, 9);
    assert_eq!(ids(&start(&mut queue)), [[3]]);
    accept(&mut queue, 4, 5100, 100);
    accept(&mut queue, 5, 9000, 100);
    assert_eq!(ids(&start(&mut queue)), [[4]]);
}

#[test]
fn growth_stops_at_a_dependent_even_when_the_newer_write_is_gone() {
    let mut queue = queue();
    accept(&mut queue, 1, 0, 100);
    let first = start(&mut queue);
    accept(&mut queue, 2, 50, 100);
    queue.wait(Extent::new(60, 1), 9);
    accept(&mut queue, 3, 5000, 1000);
    let third = start(&mut queue);
    assert_eq!(ids(&third), [[3]]);
    queue.complete(third[0].0, true);
    accept(&mut queue, 4, 150, 100);
    queue.complete(first[0].0, true);
    let second = start(&mut queue);
    assert_eq!(ids(&second)[0], [2]);
    assert_eq!(queue.complete(second[0].0, true).released.as_slice(), [9]);
}

#[test]
fn overlapping_writes_leave_one_after_the_other() {
    let mut queue = queue();
    accept(&mut queue, 1, 0, 1000);
    accept(&mut queue, 2, 500, 1000);
    accept(&mut queue, 3, 2000, 1000);
    let started = start(&mut queue);
    assert_eq!(ids(&started), [[1], [3]]);
    queue.complete(started[1].0, true);
    assert!(start(&mut queue).is_empty());
    queue.complete(started[0].0, true);
    assert_eq!(ids(&start(&mut queue)), [[2]]);
}

#[test]
fn an_append_keeps_its_place_among_all() {
    let mut queue = queue();
    accept(&mut queue, 1, 0, 1000);
    queue.accept(Extent::EVERYTHING, piece(2, 7000, 1000), true).unwrap();
    accept(&mut queue, 3, 90_000, 1000);
    let first = start(&mut queue);
    assert_eq!(ids(&first), [[1]]);
    queue.complete(first[0].0, true);
    let second = start(&mut queue);
    assert_eq!(ids(&second), [[2]]);
    queue.complete(second[0].0, true);
    assert_eq!(ids(&start(&mut queue)), [[3]]);
}

#[test]
fn the_window_overshoots_by_one_write_and_opens_in_order() {
    let mut queue = queue();
    assert!(accept(&mut queue, 1, 0, 4000));
    assert!(accept(&mut queue, 2, 10_000, 4000));
    assert!(!accept(&mut queue, 3, 20_000, 4000));
    queue.enqueue(Extent::new(20_000, 4000), piece(3, 20_000, 4000), 3, true);
    queue.enqueue(Extent::new(30_000, 10), piece(4, 30_000, 10), 4, true);
    let started = start(&mut queue);
    assert_eq!(ids(&started), [[1], [2], [3], [4]]);
    assert!(!accept(&mut queue, 5, 40_000, 10), "nobody overtakes those who wait");
    let completion = queue.complete(started[1].0, true);
    assert_eq!((completion.acknowledged.as_slice(), completion.unanswered), (&[3][..], None));
    assert_eq!(queue.complete(started[3].0, true).unanswered, Some(4));
    assert_eq!(queue.complete(started[2].0, true).unanswered, None);
    assert_eq!(queue.acknowledged(), 4000);
}

#[test]
fn without_room_nothing_is_acknowledged_early() {
    let mut queue = queue();
    assert!(queue.accept(Extent::new(0, 10), piece(1, 0, 10), false).is_err());
    queue.enqueue(Extent::new(0, 10), piece(1, 0, 10), 1, true);
    assert!(!accept(&mut queue, 2, 50, 10), "nobody overtakes those who wait");
    let started = start(&mut queue);
    assert_eq!(queue.complete(started[0].0, false).unanswered, Some(1));
}

#[test]
fn a_synchronous_write_gets_the_answer_of_the_child() {
    let mut queue = queue();
    accept(&mut queue, 1, 0, 100);
    let first = start(&mut queue);
    queue.enqueue(Extent::new(50, 100), piece(2, 50, 100), 2, false);
    assert!(start(&mut queue).is_empty());
    assert!(queue.complete(first[0].0, true).acknowledged.is_empty());
    let second = start(&mut queue);
    assert_eq!(queue.complete(second[0].0, true).unanswered, Some(2));
}

#[test]
fn tiny_writes_are_bounded_in_number() {
    let mut queue = queue();
    let accepted = (0..10_000).filter(|id| accept(&mut queue, *id, u64::from(*id) * 1000, 1)).count();
    assert_eq!(accepted, 4096 / MINIMUM_WEIGHT + 1);
}

#[test]
fn touching_extents_do_not_overlap() {
    for (a, b, overlap) in [
        ((0, 10), (10, 10), false),
        ((0, 10), (9, 1), true),
        ((5, 0), (0, 10), false),
        ((u64::MAX - 1, 100), (0, u64::MAX), true),
    ] {
        let (a, b) = (Extent::new(a.0, a.1), Extent::new(b.0, b.1));
        assert_eq!((a.overlaps(b), b.overlaps(a)), (overlap, overlap));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write {
        writer: u8,
        offset: u64,
        len: usize,
        append: bool,
        synchronous: bool,
        room: bool,
    },
    /// Continues the last write.
    Continue {
        len: usize,
    },
    Wait {
        offset: u64,
        len: u64,
        everything: bool,
    },
    Answer {
        which: usize,
        fails: bool,
        room: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2u8, 0..6000u64, 1..900usize, prop::bool::weighted(0.05), prop::bool::weighted(0.1), prop::bool::weighted(0.95))
            .prop_map(|(writer, offset, len, append, synchronous, room)| Step::Write { writer, offset, len, append, synchronous, room }),
        4 => (1..300usize).prop_map(|len| Step::Continue { len }),
        2 => (0..6000u64, 0..900u64, any::<bool>()).prop_map(|(offset, len, everything)| Step::Wait { offset, len, everything }),
        5 => (any::<usize>(), prop::bool::weighted(0.2), prop::bool::weighted(0.95)).prop_map(|(which, fails, room)| Step::Answer { which, fails, room }),
    ]
}

const LIMITS: Limits = Limits { window: 3000, aggregate: 700 };

/// A queue, and all that is known about the writes that went into it.
struct Simulation {
    queue: TestQueue,
    /// By id: place, extent for conflicts, and what became of it.
    written: Vec<(u64, usize, Extent, Fate)>,
    in_flight: Vec<(Ticket, Piece)>,
    disk: Vec<u32>,
    /// By handle: the writes that must be answered first.
    waits: Vec<Option<Vec<u32>>>,
    tail: (u8, u64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Waiting,
    Acknowledged,
    Done { told: bool, ok: bool },
}

impl Simulation {
    fn write(&mut self, writer: u8, offset: u64, len: usize, append: bool, synchronous: bool, room: bool) {
        let id = self.written.len() as u32;
        let extent = if append { Extent::EVERYTHING } else { Extent::new(offset, len as u64) };
        let payload = Piece { writer, offset, ids: vec![(id, len)] };
        self.tail = (writer, offset + len as u64);
        let before = self.queue.acknowledged();
        let refused = if synchronous { Some(payload) } else { self.queue.accept(extent, payload, room).err() };
        let fate = if refused.is_none() { Fate::Acknowledged } else { Fate::Waiting };
        assert!(refused.is_some() || before <= LIMITS.window);
        self.written.push((offset, len, extent, fate));
        if let Some(payload) = refused {
            self.queue.enqueue(extent, payload, id, !synchronous);
        }
    }

    fn unanswered(&self, extent: Extent) -> Vec<u32> {
        let open = self.written.iter().enumerate();
        let open = open.filter(|(_, (_, _, other, fate))| !matches!(fate, Fate::Done { .. }) && other.overlaps(extent));
        open.map(|(id, _)| id as u32).collect()
    }

    fn wait(&mut self, extent: Extent) {
        let before = self.unanswered(extent);
        assert_eq!(self.queue.is_clear(extent), before.is_empty());
        if !before.is_empty() {
            self.queue.wait(extent, self.waits.len() as u32);
            self.waits.push(Some(before));
        }
    }

    fn extent(&self, piece: &Piece) -> Vec<Extent> {
        piece.ids.iter().map(|(id, _)| self.written[*id as usize].2).collect()
    }

    fn start(&mut self) {
        while let Some((ticket, piece)) = self.queue.start() {
            assert!(piece.ids.len() == 1 || piece.len() <= LIMITS.aggregate);
            for other in self.in_flight.iter().flat_map(|(_, other)| self.extent(other)) {
                assert!(self.extent(&piece).iter().all(|extent| !extent.overlaps(other)), "overlap in flight");
            }
            for (id, _) in &piece.ids {
                let extent = self.written[*id as usize].2;
                let earlier = self.unanswered(extent).into_iter().filter(|other| other < id);
                assert!(earlier.into_iter().all(|other| piece.ids.iter().any(|(id, _)| *id == other)), "overtaken");
            }
            self.in_flight.push((ticket, piece));
        }
        assert!(self.queue.is_idle() || !self.in_flight.is_empty(), "stuck");
        let most = LIMITS.window + 900;
        assert!(self.queue.acknowledged() <= most, "{} bytes acknowledged", self.queue.acknowledged());
    }

    fn answer(&mut self, which: usize, fails: bool, room: bool) {
        if self.in_flight.is_empty() {
            return;
        }
        let (ticket, piece) = self.in_flight.swap_remove(which % self.in_flight.len());
        let mut offset = piece.offset as usize;
        for (id, len) in &piece.ids {
            if !fails {
                self.disk[offset..offset + len].fill(id + 1);
            }
            offset += len;
            let fate = &mut self.written[*id as usize].3;
            assert!(!matches!(fate, Fate::Done { .. }), "answered twice");
            *fate = Fate::Done { told: *fate == Fate::Waiting, ok: !fails };
        }
        let completion = self.queue.complete(ticket, room);
        // A caller that waits gets the answer itself; a failure of any other is the fd's to report.
        let told =
            piece.ids.iter().any(|(id, _)| matches!(self.written[*id as usize].3, Fate::Done { told: true, .. }));
        assert_eq!(completion.unanswered, told.then(|| piece.ids[0].0));
        for id in completion.acknowledged {
            assert_eq!(std::mem::replace(&mut self.written[id as usize].3, Fate::Acknowledged), Fate::Waiting);
        }
        for handle in completion.released {
            let before = self.waits[handle as usize].take().expect("released twice");
            assert!(before.iter().all(|id| matches!(self.written[*id as usize].3, Fate::Done { .. })), "too early");
        }
        for before in self.waits.iter().flatten() {
            let open = before.iter().any(|id| !matches!(self.written[*id as usize].3, Fate::Done { .. }));
            assert!(open, "released too late");
        }
    }
}

proptest! {
    #[test]
    fn random_histories_end_like_the_model(steps in vec(step(), 1..120)) {
        let mut simulation = Simulation {
            queue: Queue::new(LIMITS),
            written: Vec::new(),
            in_flight: Vec::new(),
            disk: vec![0; 100_000],
            waits: Vec::new(),
            tail: (0, 0),
        };
        for step in steps {
            match step {
                Step::Write { writer, offset, len, append, synchronous, room } => {
                    simulation.write(writer, offset, len, append, synchronous, room);
                }
                Step::Continue { len } => {
                    let (writer, offset) = simulation.tail;
                    simulation.write(writer, offset, len, false, false, true);
                }
                Step::Wait { everything: true, .. } => simulation.wait(Extent::EVERYTHING),
                Step::Wait { offset, len, .. } => simulation.wait(Extent::new(offset, len)),
                Step::Answer { which, fails, room } => simulation.answer(which, fails, room),
            }
            simulation.start();
        }
        while !simulation.in_flight.is_empty() {
            simulation.answer(0, false, true);
            simulation.start();
        }
        prop_assert!(simulation.queue.is_idle());
        prop_assert_eq!(simulation.queue.acknowledged(), 0);
        prop_assert!(simulation.waits.iter().all(Option::is_none));
        let mut model = vec![0; 100_000];
        for (id, (offset, len, _, fate)) in simulation.written.iter().enumerate() {
            let answered = matches!(fate, Fate::Done { .. });
            prop_assert!(answered);
            if matches!(fate, Fate::Done { ok: true, .. }) {
                model[*offset as usize..*offset as usize + len].fill(id as u32 + 1);
            }
        }
        prop_assert!(model == simulation.disk, "the file differs from the model");
    }
}
