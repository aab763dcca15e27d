//! Connections against a scripted peer on a socket pair.

use std::io::Write;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rgfs_protocol::callback::Callback;
use rgfs_protocol::rpc::DUMP;

use super::*;
use crate::net::Network;
use crate::net::testing::{PATIENCE, pair, settings, wait};

/// READ of the fop program: the calls of these tests mean nothing to the peer.
const READ: u32 = 12;

fn request(reply: usize) -> Request<'static> {
    Request { reply, data: reply > 0, ..Request::new(FOPS, READ, Caller::NOBODY) }
}

fn call(connection: &Connection, number: u64) -> Call {
    connection.call(request(0), |encoder| encoder.u64(number)).unwrap()
}

#[test]
fn answers_in_any_order_complete_their_calls_on_the_network_thread() {
    let network = Network::start(1).unwrap();
    let (connection, mut peer) = pair(network.handle(), settings());
    let calls: Vec<Call> = (0..3).map(|number| call(&connection, number)).collect();
    let (sender, receiver) = mpsc::channel();
    for (number, call) in calls.into_iter().enumerate() {
        let sender = sender.clone();
        crate::task::spawn(async move {
            let body = call.await.unwrap();
            sender.send((number, body, thread::current().name().map(str::to_owned))).unwrap();
        });
    }
    let incoming: Vec<_> = (0..3).map(|_| peer.next().unwrap()).collect();
    for mut call in incoming.into_iter().rev() {
        let number = call.arguments.u64("number").unwrap();
        peer.answer(call.header.xid, |encoder| encoder.u64(number * 10));
    }
    for expected in [2u64, 1, 0] {
        let (number, body, thread) = receiver.recv_timeout(PATIENCE).unwrap();
        assert_eq!((number as u64, body.as_ref()), (expected, &(expected * 10).to_be_bytes()[..]));
        assert_eq!(thread.as_deref(), Some("net-0"));
    }
    assert_eq!(connection.in_flight(), 0);
}

#[test]
fn a_dropped_call_leaves_an_orphan_and_its_answer_is_ignored() {
    let network = Network::start(1).unwrap();
    let (connection, mut peer) = pair(network.handle(), settings());
    drop(call(&connection, 1));
    assert_eq!(connection.in_flight(), 1);
    let second = call(&connection, 2);
    let (first, other) = (peer.next().unwrap(), peer.next().unwrap());
    peer.answer(first.header.xid, |encoder| encoder.u64(1));
    peer.answer(77, |encoder| encoder.u64(1));
    peer.answer(other.header.xid, |encoder| encoder.u64(2));
    assert_eq!(wait(second).unwrap().as_ref(), 2u64.to_be_bytes());
    assert_eq!(connection.in_flight(), 0);
}

#[test]
fn a_large_answer_is_not_copied() {
    let network = Network::start(1).unwrap();
    let settings = settings();
    let counters = settings.counters.clone();
    let (connection, mut peer) = pair(network.handle(), settings);
    let data: Vec<u8> = (0..1u32 << 20).map(|at| (at % 251) as u8).collect();
    let sent = data.clone();
    let server = thread::spawn(move || {
        while let Some(mut call) = peer.next() {
            let size = call.arguments.u64("size").unwrap() as usize;
            peer.answer(call.header.xid, |encoder| encoder.raw(&sent[..size]));
        }
    });
    for _ in 0..5 {
        // Small answers between the large ones. None is larger than its request allows: bricks keep to that, and more would
        // be taken for the begin of something small.
        let sizes = [1 << 20, 4096, 1 << 20];
        let calls = sizes.map(|size| connection.call(request(size), |encoder| encoder.u64(size as u64)).unwrap());
        for (call, size) in calls.into_iter().zip(sizes) {
            assert!(wait(call).unwrap() == data[..size]);
        }
    }
    assert_eq!(counters.copied.load(Ordering::Relaxed), 0);
    assert_eq!(counters.slot(READ as usize).answered.count(), 15);
    drop(connection);
    server.join().unwrap();
}

#[test]
fn payload_that_does_not_fit_the_socket_arrives_whole_and_later_requests_wait_behind_it() {
    let network = Network::start(1).unwrap();
    let settings = settings();
    let counters = settings.counters.clone();
    let (connection, mut peer) = pair(network.handle(), settings);
    let data = Bytes::from((0..8u32 << 20).map(|at| (at % 253) as u8).collect::<Vec<u8>>());
    let mut large = request(0);
    large.payload = [data.slice(..100), data.slice(100..)].into_iter().collect();
    let first = connection.call(large, |encoder| encoder.u64(0)).unwrap();
    let more: Vec<Call> = (1..100).map(|number| call(&connection, number)).collect();
    let server = thread::spawn(move || {
        for number in 0..100u64 {
            let mut call = peer.next().unwrap();
            assert_eq!(call.arguments.u64("number").unwrap(), number);
            if number == 0 {
                assert!(call.arguments.rest() == data);
            }
            peer.answer(call.header.xid, |encoder| encoder.u64(number));
        }
    });
    wait(first).unwrap();
    for call in more {
        wait(call).unwrap();
    }
    server.join().unwrap();
    let slot = counters.slot(READ as usize);
    assert_eq!(slot.requests.load(Ordering::Relaxed), 100);
    assert!(slot.queued.count() > 0);
}

#[test]
fn many_threads_share_a_connection() {
    let network = Network::start(2).unwrap();
    let (connection, mut peer) = pair(network.handle(), settings());
    let server = thread::spawn(move || {
        while let Some(mut call) = peer.next() {
            let number = call.arguments.u64("number").unwrap();
            peer.answer(call.header.xid, |encoder| encoder.u64(number));
        }
    });
    thread::scope(|scope| {
        for thread in 0..4u64 {
            let connection = &connection;
            scope.spawn(move || {
                for number in 0..500 {
                    let number = thread * 1000 + number;
                    let body = wait(call(connection, number)).unwrap();
                    assert_eq!(body.as_ref(), number.to_be_bytes());
                }
            });
        }
    });
    drop(connection);
    server.join().unwrap();
}

#[test]
fn a_peer_that_leaves_fails_all_calls_and_names_itself() {
    let network = Network::start(1).unwrap();
    let (connection, mut peer) = pair(network.handle(), settings());
    let waiting = call(&connection, 1);
    // A socket that is closed with unread bytes in it is reset instead.
    peer.next().unwrap();
    drop(peer);
    let error = wait(waiting).unwrap_err();
    assert_eq!(error.to_string(), "server:49152: connection closed by the peer");
    let connection = Arc::new(connection);
    let watched = connection.clone();
    let cause = wait(async move { watched.closed().await });
    assert_eq!(&*cause, error.to_string());
    let again = connection.call(request(0), |_| {}).map(|_| ()).unwrap_err();
    assert_eq!(again.to_string(), error.to_string());
}

#[test]
fn rubbish_ends_the_connection() {
    for (rubbish, expected) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "a record of"),
        (&b"\x80\0\0\x08\0\0\0\x02\0\0\0\x07"[..], "message type has the unknown value 7"),
    ] {
        let network = Network::start(1).unwrap();
        let (connection, mut peer) = pair(network.handle(), settings());
        let waiting = call(&connection, 1);
        peer.next().unwrap();
        peer.stream.write_all(rubbish).unwrap();
        let error = wait(waiting).unwrap_err().to_string();
        assert!(error.starts_with("server:49152: ") && error.contains(expected), "{error}");
    }
}

#[test]
fn a_refusal_reaches_the_caller() {
    let network = Network::start(1).unwrap();
    let (connection, mut peer) = pair(network.handle(), settings());
    let waiting = call(&connection, 1);
    let xid = peer.next().unwrap().header.xid;
    peer.reject(xid, Rejection::ProcedureUnavailable);
    assert!(matches!(wait(waiting), Err(CallError::Rejected(Rejection::ProcedureUnavailable))));
}

#[test]
fn callbacks_come_between_answers() {
    let network = Network::start(1).unwrap();
    let (sender, receiver) = mpsc::channel();
    let settings = Settings { callbacks: Arc::new(move |callback| sender.send(callback).unwrap()), ..settings() };
    let (connection, mut peer) = pair(network.handle(), settings);
    let waiting = call(&connection, 1);
    let xid = peer.next().unwrap().header.xid;
    peer.callback(&Callback::ChildDown);
    peer.answer(xid, |_| {});
    peer.callback(&Callback::ChildUp);
    assert!(wait(waiting).unwrap().is_empty());
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), Callback::ChildDown);
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), Callback::ChildUp);
}

#[test]
fn a_silent_peer_is_pinged_and_given_up() {
    let network = Network::start(1).unwrap();
    let timing = Timing { ping: Duration::from_millis(200), ..Timing::default() };
    let (connection, mut peer) = pair(network.handle(), Settings { timing, ..settings() });
    let waiting = call(&connection, 1);
    peer.next_with_pings().unwrap();
    let ping = peer.next_with_pings().unwrap();
    assert_eq!((ping.header.program, ping.header.procedure), (DUMP, rgfs_protocol::dump::PING));
    ping.arguments.finish().unwrap();
    let error = wait(waiting).unwrap_err();
    assert_eq!(error.to_string(), "server:49152: no sign of life for 0.2 s (ping-timeout)");
}

#[test]
fn a_late_call_fails_alone() {
    let network = Network::start(1).unwrap();
    let timing = Timing { ping: Duration::ZERO, frame: Duration::from_millis(100) };
    let (connection, mut peer) = pair(network.handle(), Settings { timing, ..settings() });
    let lock = connection.call(Request { exempt: true, ..request(0) }, |_| {}).unwrap();
    let late = call(&connection, 1);
    assert!(matches!(wait(late), Err(CallError::TimedOut(_))));
    let xid = peer.next().unwrap().header.xid;
    peer.answer(xid, |_| {});
    wait(lock).unwrap();
}

#[test]
fn what_does_not_fit_the_wire_is_refused_here() {
    let network = Network::start(1).unwrap();
    let (connection, _peer) = pair(network.handle(), settings());
    let caller = Caller { owner: &[0; 92], ..Caller::NOBODY };
    let error = connection.call(Request::new(FOPS, READ, caller), |_| {}).map(|_| ()).unwrap_err();
    assert!(matches!(error, CallError::Credential(_)));
    assert_eq!(connection.in_flight(), 0);
}

#[test]
fn a_reader_that_panics_leaves_nobody_waiting() {
    let network = Network::start(1).unwrap();
    let callbacks: CallbackHandler = Arc::new(|_| panic!("on purpose"));
    let (connection, mut peer) = pair(network.handle(), Settings { callbacks, ..settings() });
    let waiting = call(&connection, 1);
    peer.next().unwrap();
    peer.callback(&Callback::ChildUp);
    assert!(matches!(wait(waiting), Err(CallError::Disconnected(_))));
    assert!(peer.next().is_none(), "the connection is closed");
}
