//! Fetching volfiles from scripted servers, and from our own.

use std::io::Write;
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;

use rgfs_protocol::old_dict::OldDict;

use super::*;
use crate::net::testing::{Incoming, PATIENCE, Peer, refusing_port, wait};

fn listen() -> (TcpListener, Endpoint) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = Endpoint::tcp("127.0.0.1", listener.local_addr().unwrap().port());
    (listener, endpoint)
}

fn try_fetch(
    servers: &[&Endpoint],
    id: &str,
    per_server: Duration,
) -> Result<(Network, FetchRequest, Fetched), String> {
    let network = Network::start(1).unwrap();
    let request =
        FetchRequest { per_server, ..FetchRequest::new(servers.iter().map(|server| (*server).clone()).collect(), id) };
    let asked = request.clone();
    let on = network.clone();
    let fetched = wait(async move { fetch(&on, &asked).await }).map_err(|error| error.to_string())?;
    Ok((network, request, fetched))
}

fn answer(peer: &mut Peer<std::net::TcpStream>, call: &Incoming, reply: &GetspecReply) {
    peer.answer(call.header.xid, |encoder| reply.encode(encoder));
}

fn reply(op_ret: i32, op_errno: i32, spec: &'static str) -> GetspecReply {
    GetspecReply { op_ret, op_errno, spec: Bytes::from_static(spec.as_bytes()), xdata: OldDict::default() }
}

/// A server that answers one GETSPEC and waits until the client goes.
fn server(listener: TcpListener, reply: GetspecReply) -> thread::JoinHandle<Bytes> {
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut peer = Peer { stream };
        let mut call = peer.next().unwrap();
        assert_eq!((call.header.program, call.header.procedure), (HANDSHAKE, procedure::GETSPEC));
        let asked = GetspecRequest::decode(&mut call.arguments).unwrap();
        assert_eq!((asked.flags, asked.xdata.text("min-op-version")), (1, Some("1")));
        answer(&mut peer, &call, &reply);
        assert!(peer.next().is_none());
        asked.key
    })
}

#[test]
fn the_first_server_that_answers_decides() {
    let (_nobody, port) = refusing_port();
    let dead_endpoint = Endpoint::tcp("127.0.0.1", port);
    let (listener, endpoint) = listen();
    let mut good = reply(6, 2, "volumejunk");
    good.xdata.set_text("cluster.brick-vol-servers", "other:24007 ");
    let serving = server(listener, good);
    let (network, _, fetched) = try_fetch(&[&dead_endpoint, &endpoint], "/vol", PATIENCE).unwrap();
    assert_eq!((fetched.volfile.as_ref(), &fetched.server), (&b"volume"[..], &endpoint));
    assert_eq!(fetched.others, [Endpoint::tcp("other", 24007)]);
    drop(fetched);
    assert_eq!(serving.join().unwrap(), "/vol");
    drop(network);
}

#[test]
fn errors_name_the_server_and_the_step() {
    let (second, second_endpoint) = listen();
    for (op_ret, op_errno, spec, id, expected) in [
        (-1, 2, "", "/gone", "volume 'gone' does not exist on 127.0.0.1"),
        (-1, 95, "", "vol", "op-version"),
        (-1, 38, "this method is not in use", "vol", "a brick answers there"),
        (372, 22, "", "vol", "does not accept 'vol'"),
        (-1, 2, "", "", "--volfile-id=VOLUME"),
    ] {
        let (listener, endpoint) = listen();
        let serving = server(listener, reply(op_ret, op_errno, spec));
        let error = try_fetch(&[&endpoint, &second_endpoint], id, PATIENCE).map(|_| ()).unwrap_err();
        assert!(error.contains(&format!("{endpoint}: ")) && error.contains(expected), "{error}");
        assert!(!error.contains(&second_endpoint.to_string()), "an answer is final: {error}");
        serving.join().unwrap();
    }
    drop(second);
}

#[test]
fn silent_and_strange_servers() {
    let (silent, endpoint) = listen();
    let error = try_fetch(&[&endpoint], "vol", Duration::from_millis(100)).map(|_| ()).unwrap_err();
    let expected =
        format!("cannot fetch the volfile of 'vol': {endpoint}: connected, but no answer to GETSPEC within 0.1 s");
    assert_eq!(error, expected);
    drop(silent);

    let (_nobody, port) = refusing_port();
    let endpoint = Endpoint::tcp("127.0.0.1", port);
    let error = try_fetch(&[&endpoint], "vol", PATIENCE).map(|_| ()).unwrap_err();
    assert!(error.ends_with(&format!("{endpoint}: connection refused")), "{error}");

    for rubbish in [&b"SSH-2.0-OpenSSH_9.2\r\n"[..], b"HTTP/1.1 400 Bad Request\r\n\r\n", b""] {
        let (listener, endpoint) = listen();
        let strange = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut peer = Peer { stream: stream.try_clone().unwrap() };
            peer.next().unwrap();
            stream.write_all(rubbish).unwrap();
        });
        let error = try_fetch(&[&endpoint], "vol", PATIENCE).map(|_| ()).unwrap_err();
        assert!(error.contains(&endpoint.to_string()) && error.contains("is this a volfile server?"), "{error}");
        strange.join().unwrap();
    }
    let error = try_fetch(&[&Endpoint::tcp("no-such-host.invalid", 1)], "vol", PATIENCE).map(|_| ()).unwrap_err();
    assert!(error.contains("cannot resolve the name no-such-host.invalid"), "{error}");
    assert_eq!(try_fetch(&[], "vol", PATIENCE).map(|_| ()).unwrap_err(), "no volfile server is named");
}

#[test]
fn a_change_is_heard_and_a_non_change_is_not() {
    let (listener, endpoint) = listen();
    let (told, changes) = mpsc::channel();
    let serving = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut peer = Peer { stream };
        for spec in ["one", "one", "two", "two", "six"] {
            let call = peer.next().unwrap();
            answer(&mut peer, &call, &reply(3, 0, spec));
            if spec != "six" {
                peer.callback(&Callback::FetchSpec);
            }
        }
        assert!(peer.next().is_none());
    });
    let (network, request, fetched) = try_fetch(&[&endpoint], "vol", PATIENCE).unwrap();
    let subscription = fetched.subscribe(&network, request, move |volfile| told.send(volfile).unwrap());
    assert_eq!(changes.recv_timeout(PATIENCE).unwrap(), "two");
    assert_eq!(changes.recv_timeout(PATIENCE).unwrap(), "six");
    drop(subscription);
    serving.join().unwrap();
    assert!(changes.try_recv().is_err());
}
