//! Links against a scripted brick: on a loopback port, of either family, and behind a unix socket.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use rgfs_protocol::auth::Credential;
use rgfs_protocol::callback::{CacheInvalidation, Callback};
use rgfs_protocol::dump::{DumpReply, ProgramDetail};
use rgfs_protocol::handshake::DictReply;
use rgfs_protocol::old_dict::OldDict;
use rgfs_protocol::portmap::PortByBrickReply;
use rgfs_protocol::rpc::{self, Program};
use rgfs_protocol::{Gfid, Iatt};

use super::*;
use crate::event::{Event, Status};
use crate::graph::testing::{environment, graph, volume};
use crate::net::testing::{PATIENCE, Peer, refusing_port, wait};

const LOOKUP: u32 = 27;
const OPEN: u32 = 11;

/// A brick that a test plays.
struct Brick {
    listener: TcpListener,
}

impl Brick {
    fn new() -> Self {
        Brick { listener: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// The next connection, after it was told that `program` is spoken here.
    fn accept(&self, program: Program) -> Peer<TcpStream> {
        let (stream, _) = self.listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        greet(stream, program)
    }

    /// The next connection, with the handshake done; also what the client said about itself.
    fn serve(&self, reply: &DictReply) -> (Peer<TcpStream>, OldDict) {
        let mut peer = self.accept(rpc::FOPS);
        let said = welcome_with(&mut peer, reply);
        (peer, said)
    }
}

/// Tells a client that has just connected that `program` is spoken here.
fn greet<S: Read + Write>(stream: S, program: Program) -> Peer<S> {
    let mut peer = Peer { stream };
    let dump = peer.next().unwrap();
    assert_eq!((dump.header.program, dump.header.procedure), (rpc::DUMP, 1));
    let detail =
        ProgramDetail { name: Bytes::new(), number: u64::from(program.number), version: u64::from(program.version) };
    let reply = DumpReply { programs: vec![detail], ..DumpReply::default() };
    peer.answer(dump.header.xid, |encoder| reply.encode(encoder));
    peer
}

/// Answers the client's introduction, which is returned.
fn welcome_with<S: Read + Write>(peer: &mut Peer<S>, reply: &DictReply) -> OldDict {
    let mut call = peer.next().unwrap();
    assert_eq!((call.header.program, call.header.procedure), (rpc::HANDSHAKE, 1));
    let said = OldDict::decode(&mut call.arguments).unwrap();
    peer.answer(call.header.xid, |encoder| reply.encode(encoder));
    said
}

fn welcome() -> DictReply {
    let dict = OldDict::default().with("ERROR", "Success").with("volume-id", "id-1").with("child_up", "1");
    DictReply { op_ret: 0, op_errno: 22, dict }
}

/// Hooks that send one OPEN when connected, and report.
struct Reopen {
    news: Mutex<Sender<String>>,
}

#[async_trait]
impl Hooks for Reopen {
    async fn connected(&self, channel: &Channel) {
        let call = FopCall::new(OPEN, "OPEN");
        let answer = channel.fop(&Context::internal(), call, |encoder| encoder.u32(7)).await;
        let text =
            format!("reopened on {}: {:?}", channel.generation(), answer.map(|body| body.len()).map_err(|e| e.errno));
        self.news.lock().unwrap().send(text).unwrap();
    }

    fn disconnected(&self, generation: u64) {
        self.news.lock().unwrap().send(format!("lost {generation}")).unwrap();
    }
}

/// A link, what it announces, and what its hooks heard.
struct Setup {
    link: Arc<Link>,
    events: Receiver<Event>,
    hooks: Receiver<String>,
    _keep: Arc<Reopen>,
}

impl Setup {
    fn new(port: u16, more: &[(&str, &str)]) -> Self {
        Self::in_environment(&environment(), port, more)
    }

    fn in_environment(environment: &Environment, port: u16, more: &[(&str, &str)]) -> Self {
        let port = port.to_string();
        let base = [("remote-host", "127.0.0.1"), ("remote-port", &port), ("remote-subvolume", "/b")];
        Self::of_volume(environment, &volume("protocol/client", &[&base[..], more].concat()))
    }

    /// The link that a volfile of one volume describes.
    fn of_volfile(options: &str) -> Self {
        let text = format!("volume test\n type protocol/client\n option remote-subvolume /b\n{options}\nend-volume\n");
        Self::of_volume(&environment(), &graph(&text).volumes[0])
    }

    fn of_volume(environment: &Environment, volume: &Volume) -> Self {
        let link = Link::new(volume, environment).unwrap();
        let (sender, events) = mpsc::channel();
        let sender = Mutex::new(sender);
        link.events().subscribe(move |event| sender.lock().unwrap().send(event.clone()).unwrap_or(()));
        let (sender, hooks) = mpsc::channel();
        let keep = Arc::new(Reopen { news: Mutex::new(sender) });
        let weak: Weak<Reopen> = Arc::downgrade(&keep);
        link.start(weak);
        Setup { link, events, hooks, _keep: keep }
    }

    fn status(&self) -> Status {
        loop {
            match self.events.recv_timeout(PATIENCE).unwrap() {
                Event::Status(Status::Connecting) => {}
                Event::Status(status) => return status,
                other => panic!("{other:?}"),
            }
        }
    }

    fn hook(&self) -> String {
        self.hooks.recv_timeout(PATIENCE).unwrap()
    }

    fn lookup(&self) -> FopFuture {
        self.link.fop(&Context::internal(), FopCall::new(LOOKUP, "LOOKUP"), |encoder| encoder.u32(1))
    }
}

/// Answers the reopening of a fresh connection.
fn answer_open<S: Read + Write>(peer: &mut Peer<S>) {
    let call = peer.next().unwrap();
    assert_eq!((call.header.program, call.header.procedure), (rpc::FOPS, OPEN));
    peer.answer(call.header.xid, |encoder| encoder.u32(0));
}

#[test]
fn files_are_reopened_before_anybody_else_passes() {
    let brick = Brick::new();
    let setup = Setup::new(brick.port(), &[("username", "u"), ("password", "p")]);
    let (mut peer, said) = brick.serve(&welcome());
    assert_eq!((said.text("username"), said.text("password")), (Some("u"), Some("p")));
    let open = peer.next().unwrap();
    assert_eq!(setup.link.generation(), None);
    let early = wait(setup.lookup()).unwrap_err();
    assert_eq!((early.errno, early.detail.as_deref()), (Errno::ENOTCONN, Some("not connected yet")));
    peer.answer(open.header.xid, |encoder| encoder.u32(0));
    assert_eq!(setup.status(), Status::Up);
    assert_eq!(setup.hook(), "reopened on 0: Ok(4)");
    assert_eq!(setup.link.generation(), Some(0));

    let context = Context { pid: 1, groups: Arc::from([4, 5]), gid: 9, ..Context::internal() };
    let waiting = setup.link.fop(&context, FopCall::new(LOOKUP, "LOOKUP").on(0), |encoder| encoder.u32(1));
    let call = peer.next().unwrap();
    let credential = Credential::decode(&call.header.credential).unwrap();
    assert_eq!((credential.pid, credential.gid, credential.groups), (2, 9, vec![4, 5]));
    peer.answer(call.header.xid, |encoder| encoder.u64(3));
    assert_eq!(wait(waiting).unwrap().len(), 8);
    assert_eq!((context.rounds.count(), context.rounds.requests()), (1, 1));
    let stale = setup.link.fop(&context, FopCall::new(LOOKUP, "LOOKUP").on(5), |_| {});
    assert_eq!(wait(stale).unwrap_err().errno, Errno::ENOTCONN);
}

/// Goes through a whole connection: greeting, introduction, reopening, one fop.
fn serve_one_lookup<S: Read + Write>(setup: &Setup, stream: S) {
    let mut peer = greet(stream, rpc::FOPS);
    welcome_with(&mut peer, &welcome());
    answer_open(&mut peer);
    assert_eq!(setup.status(), Status::Up);
    let waiting = setup.lookup();
    let call = peer.next().unwrap();
    assert_eq!(call.header.procedure, LOOKUP);
    peer.answer(call.header.xid, |encoder| encoder.u32(0));
    wait(waiting).unwrap();
}

#[test]
fn a_brick_behind_a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("brick.socket");
    let path = path.to_str().unwrap();
    // Not there yet: the link says so, and comes back.
    let options = format!(" option transport-type unix\n option transport.socket.connect-path {path}");
    let setup = Setup::of_volfile(&options);
    assert_eq!(setup.status(), Status::Down(format!("test: {path}: no such socket").into()));
    let listener = UnixListener::bind(path).unwrap();
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    serve_one_lookup(&setup, stream);
}

#[test]
fn a_brick_on_an_ipv6_address() {
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for family in ["", " option transport.address-family inet6\n", " option address-family inet6\n"] {
        let setup = Setup::of_volfile(&format!("{family} option remote-host ::1\n option remote-port {port}"));
        let (stream, client) = listener.accept().unwrap();
        assert!(client.is_ipv6());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        serve_one_lookup(&setup, stream);
    }
}

#[test]
fn only_addresses_of_the_wanted_family_are_tried() {
    for (host, family, name) in [("::1", "inet", "IPv4"), ("127.0.0.1", "inet6", "IPv6")] {
        let setup = Setup::of_volfile(&format!(
            " option remote-host {host}\n option remote-port 1\n option transport.address-family {family}"
        ));
        let Status::Down(text) = setup.status() else { panic!("connected") };
        assert!(text.ends_with(&format!("{host} has no {name} address")), "{text}");
    }
}

#[test]
fn a_lost_brick_is_connected_again_under_a_new_identity() {
    let brick = Brick::new();
    let setup = Setup::new(brick.port(), &[]);
    let (mut peer, first) = brick.serve(&welcome());
    answer_open(&mut peer);
    assert_eq!(setup.status(), Status::Up);
    setup.hook();
    let waiting = setup.lookup();
    peer.next().unwrap();
    drop(peer);
    let error = wait(waiting).unwrap_err();
    let cause = format!("127.0.0.1:{}: connection closed by the peer", brick.port());
    assert_eq!(error.to_string(), format!("test: LOOKUP: ENOTCONN ({cause})"));
    assert_eq!(setup.hook(), "lost 0");
    assert_eq!(setup.status(), Status::Down(format!("test: {cause}").into()));
    let (mut peer, second) = brick.serve(&welcome());
    assert_ne!(first.text("process-uuid"), second.text("process-uuid"));
    assert_eq!(second.text("volume-id"), Some("id-1"));
    answer_open(&mut peer);
    assert_eq!(setup.status(), Status::Up);
    assert_eq!(setup.link.generation(), Some(1));
    drop(setup);
    assert!(peer.next().is_none(), "a dropped link hangs up");
}

#[test]
fn glusterd_is_asked_for_the_port() {
    let (glusterd, brick) = (Brick::new(), Brick::new());
    let setup = Setup::new(glusterd.port(), &[]);
    // The brick does not run at first.
    for port in [0, brick.port()] {
        let mut peer = glusterd.accept(rpc::PORTMAP);
        let mut call = peer.next().unwrap();
        assert_eq!((call.header.program, call.header.procedure), (rpc::PORTMAP, 1));
        assert_eq!(call.arguments.opaque("brick", 99).unwrap(), "/b");
        let op_ret = if port == 0 { -1 } else { 0 };
        let reply = PortByBrickReply { op_ret, port: i32::from(port), ..Default::default() };
        peer.answer(call.header.xid, |encoder| reply.encode(encoder));
        assert!(peer.next().is_none());
        if port == 0 {
            let text = format!("test: 127.0.0.1:{}: glusterd says that brick /b does not run", glusterd.port());
            assert_eq!(setup.status(), Status::Down(text.into()));
        }
    }
    let (mut peer, _) = brick.serve(&welcome());
    answer_open(&mut peer);
    assert_eq!(setup.status(), Status::Up);
}

#[test]
fn a_brick_that_refuses_says_why() {
    let brick = Brick::new();
    let setup = Setup::new(brick.port(), &[]);
    let dict = OldDict::default().with("ERROR", "Authentication failed");
    let _peer = brick.serve(&DictReply { op_ret: -1, op_errno: 13, dict });
    let Status::Refused(text) = setup.status() else { panic!("not refused") };
    assert!(text.contains("brick /b refuses this client (Authentication failed); check auth.allow"), "{text}");
    assert!(text.starts_with(&format!("test: 127.0.0.1:{}: ", brick.port())), "{text}");
    let error = wait(setup.lookup()).unwrap_err();
    assert!(error.to_string().contains("Authentication failed"), "{error}");
}

#[test]
fn nobody_there_and_somebody_silent() {
    let (_nobody, port) = refusing_port();
    let setup = Setup::new(port, &[]);
    assert_eq!(setup.status(), Status::Down(format!("test: 127.0.0.1:{port}: connection refused").into()));

    let silent = Brick::new();
    let environment = Environment { connect_timeout: Duration::from_millis(100), ..environment() };
    let setup = Setup::in_environment(&environment, silent.port(), &[]);
    let expected = format!("test: 127.0.0.1:{}: connected, but no answer to DUMP within 0.1 s", silent.port());
    assert_eq!(setup.status(), Status::Down(expected.into()));
}

#[test]
fn storage_that_fails_takes_the_brick_down_but_not_the_connection() {
    let brick = Brick::new();
    let setup = Setup::new(brick.port(), &[]);
    let mut reply = welcome();
    reply.dict.set_text("child_up", "0");
    let (mut peer, _) = brick.serve(&reply);
    let down = Status::Down(format!("test: 127.0.0.1:{}: the brick's storage is down", brick.port()).into());
    assert_eq!(setup.status(), down);
    peer.callback(&Callback::ChildUp);
    answer_open(&mut peer);
    assert_eq!(setup.status(), Status::Up);
    setup.hook();
    let waiting = setup.lookup();
    let call = peer.next().unwrap();
    peer.callback(&Callback::ChildDown);
    assert_eq!(setup.status(), down);
    assert_eq!(wait(setup.lookup()).unwrap_err().errno, Errno::ENOTCONN);
    peer.answer(call.header.xid, |_| {});
    wait(waiting).unwrap();
    peer.callback(&Callback::ChildUp);
    assert_eq!(setup.status(), Status::Up);
    assert_eq!(setup.link.generation(), Some(0));
}

#[test]
fn callbacks_become_events() {
    let brick = Brick::new();
    let setup = Setup::new(brick.port(), &[]);
    let (mut peer, _) = brick.serve(&welcome());
    answer_open(&mut peer);
    assert_eq!(setup.status(), Status::Up);
    let absent = Iatt::default();
    peer.callback(&Callback::CacheInvalidation(CacheInvalidation {
        gfid: Gfid([9; 16]),
        event_type: 1,
        flags: 0x18,
        expire: 60,
        stat: absent,
        parent: absent,
        old_parent: absent,
        xdata: OldDict::default(),
    }));
    let event = setup.events.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(event, Event::CacheInvalidation { gfid: Gfid([9, ..]), flags: 0x18 }), "{event:?}");
}

#[test]
fn a_one_way_fop_leaves_nobody_waiting() {
    let brick = Brick::new();
    let setup = Setup::new(brick.port(), &[("send-gids", "off")]);
    let (mut peer, _) = brick.serve(&welcome());
    answer_open(&mut peer);
    assert_eq!(setup.status(), Status::Up);
    let context = Context { gid: 9, groups: Arc::from([4, 5]), ..Context::internal() };
    setup.link.send(&context, FopCall::new(41, "RELEASE").on(3), |_| {});
    setup.link.send(&context, FopCall::new(41, "RELEASE").on(0), |_| {});
    let call = peer.next().unwrap();
    assert_eq!(call.header.procedure, 41);
    assert_eq!(Credential::decode(&call.header.credential).unwrap().groups, [9]);
    peer.answer(call.header.xid, |_| {});
    let waiting = setup.lookup();
    let call = peer.next().unwrap();
    peer.reject(call.header.xid, Rejection::ProcedureUnavailable);
    assert_eq!(wait(waiting).unwrap_err().errno, Errno::EOPNOTSUPP);
    assert_eq!(setup.link.in_flight(), 0);
}

#[test]
fn what_is_closed_while_files_are_reopened_or_the_storage_is_down_is_told_to_the_brick() {
    let brick = Brick::new();
    let setup = Setup::new(brick.port(), &[]);
    let (mut peer, _) = brick.serve(&welcome());
    let open = peer.next().unwrap();
    let release = || setup.link.send(&Context::internal(), FopCall::new(41, "RELEASE").on(0), |_| {});
    assert_eq!(setup.link.generation(), None);
    release();
    assert_eq!(peer.next().unwrap().header.procedure, 41);
    peer.answer(open.header.xid, |encoder| encoder.u32(0));
    assert_eq!(setup.status(), Status::Up);
    peer.callback(&Callback::ChildDown);
    assert!(matches!(setup.status(), Status::Down(_)));
    release();
    assert_eq!(peer.next().unwrap().header.procedure, 41);
}
