//! From nothing to a brick that knows this client (`client-handshake.c`): find the port, see what the peer can, introduce
//! ourselves. What answers mean is decided by plain functions; [`establish`] asks the questions.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rgfs_protocol::auth::Caller;
use rgfs_protocol::dump::{self, DumpReply, DumpRequest};
use rgfs_protocol::handshake::{DictReply, procedure};
use rgfs_protocol::old_dict::OldDict;
use rgfs_protocol::portmap::{PORTBYBRICK, PortByBrickReply, PortByBrickRequest};
use rgfs_protocol::rpc::{self, Program, Rejection};
use rgfs_protocol::xdr::{Decoder, Encoder};
use rgfs_protocol::{DecodeError, Errno};
use tokio::runtime::Handle;

use super::options::LinkOptions;
use crate::graph::Environment;
use crate::net::connection::{CallError, CallbackHandler, Connection, Request, Settings};
use crate::net::endpoint::Endpoint;
use crate::net::stream;
use crate::observe::ConnectionCounters;

/// Why there is no connection. The text names the peer, the step and the remedy, if one is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) text: String,
    /// The brick knows us and does not want us: waiting will not help, somebody must change something.
    pub(super) refused: bool,
}

impl Failure {
    fn down(peer: &Endpoint, reason: impl std::fmt::Display) -> Self {
        Failure { text: format!("{peer}: {reason}"), refused: false }
    }

    fn refused(peer: &Endpoint, reason: impl std::fmt::Display) -> Self {
        Failure { text: format!("{peer}: {reason}"), refused: true }
    }
}

/// A brick that has let us in.
pub(super) struct Established {
    pub(super) connection: Connection,
    /// The storage behind the brick works.
    pub(super) storage: bool,
}

/// What a peer is, by its programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Brick,
    OldBrick,
    Portmapper,
    Stranger,
}

impl Role {
    fn of(reply: &DumpReply) -> Self {
        if reply.has(rpc::FOPS) {
            Role::Brick
        } else if reply.has(rpc::PORTMAP) {
            Role::Portmapper
        } else if reply.has(rpc::FOPS_3_3) {
            Role::OldBrick
        } else {
            Role::Stranger
        }
    }
}

/// What is needed to reach one brick.
pub(super) struct Attempt<'a> {
    pub(super) name: &'a Arc<str>,
    pub(super) options: &'a LinkOptions,
    pub(super) environment: &'a Environment,
    pub(super) counters: &'a Arc<ConnectionCounters>,
    pub(super) handle: &'a Handle,
    /// Number of this attempt, never used before.
    pub(super) number: u64,
}

/// Connects and introduces this client, all within the connect timeout. `callbacks` serves the brick connection.
pub(super) async fn establish(attempt: &Attempt<'_>, callbacks: &CallbackHandler) -> Result<Established, Failure> {
    let deadline = Instant::now() + attempt.environment.connect_timeout;
    let mut endpoint = attempt.options.first_endpoint();
    let (mut connection, mut role) = attempt.reach(&endpoint, callbacks, deadline).await?;
    if role == Role::Portmapper {
        let port = attempt.ask_port(&endpoint, &connection, deadline).await?;
        endpoint = attempt.options.on_port(port);
        drop(connection);
        (connection, role) = attempt.reach(&endpoint, callbacks, deadline).await?;
    }
    match role {
        Role::Brick => {}
        Role::Portmapper => {
            return Err(Failure::down(&endpoint, "glusterd answers on the port that it says is the brick's"));
        }
        Role::OldBrick => {
            return Err(Failure::refused(
                &endpoint,
                "the brick runs a GlusterFS release before 4.0; upgrade it to connect",
            ));
        }
        Role::Stranger => return Err(Failure::down(&endpoint, "neither a brick nor a glusterd listens there")),
    }
    let request = introduction(attempt.name, attempt.options, attempt.environment, attempt.number);
    let body = attempt
        .ask(&endpoint, &connection, (rpc::HANDSHAKE, procedure::SETVOLUME, "SETVOLUME"), deadline, |encoder| {
            request.encode(encoder);
        })
        .await?;
    let reply = decode(&endpoint, "SETVOLUME", body, DictReply::decode)?;
    let storage = judge(&endpoint, attempt.options, attempt.environment, &reply)?;
    Ok(Established { connection, storage })
}

impl Attempt<'_> {
    /// Connects and asks what the peer is.
    async fn reach(
        &self,
        endpoint: &Endpoint,
        callbacks: &CallbackHandler,
        deadline: Instant,
    ) -> Result<(Connection, Role), Failure> {
        let stream = stream::connect(endpoint, &self.options.socket, deadline)
            .await
            .map_err(|error| Failure::down(endpoint, error))?;
        let settings = Settings {
            peer: endpoint.to_string().into(),
            timing: self.options.timing,
            counters: self.counters.clone(),
            callbacks: callbacks.clone(),
        };
        let connection = Connection::start(self.handle, stream, settings);
        let body = self
            .ask(endpoint, &connection, (rpc::DUMP, dump::DUMP, "DUMP"), deadline, |encoder| {
                DumpRequest::default().encode(encoder);
            })
            .await?;
        let role = Role::of(&decode(endpoint, "DUMP", body, DumpReply::decode)?);
        Ok((connection, role))
    }

    async fn ask_port(&self, endpoint: &Endpoint, connection: &Connection, deadline: Instant) -> Result<u16, Failure> {
        let request = PortByBrickRequest { brick: Bytes::copy_from_slice(self.options.subvolume.as_bytes()) };
        let body = self
            .ask(endpoint, connection, (rpc::PORTMAP, PORTBYBRICK, "PORTBYBRICK"), deadline, |encoder| {
                request.encode(encoder);
            })
            .await?;
        let reply = decode(endpoint, "PORTBYBRICK", body, PortByBrickReply::decode)?;
        reply.port().ok_or_else(|| {
            Failure::down(endpoint, format!("glusterd says that brick {} does not run", self.options.subvolume))
        })
    }

    async fn ask(
        &self,
        endpoint: &Endpoint,
        connection: &Connection,
        (program, procedure, step): (Program, u32, &str),
        deadline: Instant,
        encode: impl FnOnce(&mut Encoder),
    ) -> Result<Bytes, Failure> {
        let failed = |error: CallError| match error {
            // The cause of a lost connection names the peer itself.
            CallError::Disconnected(cause) => Failure { text: format!("{cause} ({step})"), refused: false },
            CallError::Rejected(Rejection::Authentication(2)) => Failure::refused(
                endpoint,
                "the brick wants a privileged source port; set server.allow-insecure on for the volume",
            ),
            error => Failure::down(endpoint, format!("{step}: {error}")),
        };
        let call = connection.call(Request::new(program, procedure, Caller::NOBODY), encode).map_err(failed)?;
        match tokio::time::timeout_at(deadline.into(), call).await {
            Ok(answer) => answer.map_err(failed),
            Err(_) => {
                let after = seconds(self.environment.connect_timeout);
                Err(Failure::down(endpoint, format!("connected, but no answer to {step} within {after}")))
            }
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f32())
}

fn decode<T>(
    endpoint: &Endpoint,
    step: &str,
    body: Bytes,
    decode: impl FnOnce(&mut Decoder) -> Result<T, DecodeError>,
) -> Result<T, Failure> {
    decode(&mut Decoder::new(body))
        .map_err(|error| Failure::down(endpoint, format!("the answer to {step} makes no sense: {error}")))
}

/// The dictionary of SETVOLUME: every option as it was written, and who we are.
fn introduction(name: &str, options: &LinkOptions, environment: &Environment, attempt: u64) -> OldDict {
    let mut dict = OldDict::default();
    for (key, value) in &options.verbatim {
        dict.set_text(key, value);
    }
    let identity = &environment.identity;
    dict.set_text("remote-subvolume", &options.subvolume);
    // Not the version, 400, but the program number: so it is in C, and so bricks want it.
    dict.set_text("fops-version", &rpc::FOPS.number.to_string());
    dict.set_text("process-uuid", &identity.process_uuid(name, attempt));
    dict.set_text("process-name", &identity.process_name);
    dict.set_text("client-version", concat!("rgfs-", env!("CARGO_PKG_VERSION")));
    dict.set_text("clnt-lk-version", "1");
    dict.set_text("opversion", "100000");
    if !environment.volfile_key.is_empty() {
        dict.set_text("volfile-key", &environment.volfile_key);
    }
    if let Some(directory) = &environment.subdir_mount {
        dict.set_text("subdir-mount", directory);
    }
    if let Some(id) = environment.volume_id.get() {
        dict.set_text("volume-id", id);
    }
    dict
}

/// What the brick says to our introduction: whether its storage works, or why we cannot stay.
fn judge(
    endpoint: &Endpoint,
    options: &LinkOptions,
    environment: &Environment,
    reply: &DictReply,
) -> Result<bool, Failure> {
    let brick = &options.subvolume;
    let said = reply.dict.text("ERROR").filter(|text| !text.is_empty()).unwrap_or("no reason given");
    if reply.op_ret < 0 {
        return Err(match Errno::from_wire(reply.op_errno) {
            Errno::EACCES => Failure::refused(
                endpoint,
                format!(
                    "brick {brick} refuses this client ({said}); check auth.allow, auth.reject and the login of the volume"
                ),
            ),
            Errno::ENOENT if environment.subdir_mount.is_some() && said.contains("subdirectory") => {
                Failure::refused(endpoint, format!("brick {brick}: {said}; create the directory before it is mounted"))
            }
            Errno::EINVAL if said.contains("Volume-ID") => Failure::refused(
                endpoint,
                format!("brick {brick}: {said}; the volume was made anew: unmount and mount again"),
            ),
            Errno::EINVAL => Failure::refused(endpoint, format!("brick {brick} does not accept our SETVOLUME: {said}")),
            errno => Failure::down(endpoint, format!("brick {brick}: {said} ({errno})")),
        });
    }
    if let Some(id) = reply.dict.text("volume-id").filter(|id| !id.is_empty()) {
        let known = environment.volume_id.get_or_init(|| id.into());
        if **known != *id {
            return Err(Failure::refused(
                endpoint,
                format!(
                    "brick {brick} belongs to volume {id}, not to {known}; the volume was made anew, or the volfile is wrong"
                ),
            ));
        }
    }
    // Bricks that do not say it are old, and always mean yes.
    Ok(reply.dict.text("child_up") != Some("0"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::testing::environment;
    use crate::translators::protocol::client::options::Remote;
    use rgfs_protocol::dump::ProgramDetail;

    fn options() -> LinkOptions {
        LinkOptions {
            remote: Remote::Host { host: "srv".into(), port: None },
            subvolume: "/bricks/b0".into(),
            timing: Default::default(),
            socket: Default::default(),
            send_gids: true,
            verbatim: vec![("username".into(), "u1".into()), ("ping-timeout".into(), "42".into())],
        }
    }

    #[test]
    fn roles() {
        let role = |programs: &[Program]| {
            let programs = programs
                .iter()
                .map(|program| ProgramDetail {
                    name: Bytes::new(),
                    number: u64::from(program.number),
                    version: u64::from(program.version),
                })
                .collect();
            Role::of(&DumpReply { programs, ..DumpReply::default() })
        };
        assert_eq!(role(&[rpc::FOPS_3_3, rpc::FOPS, rpc::DUMP]), Role::Brick);
        assert_eq!(role(&[rpc::FOPS_3_3]), Role::OldBrick);
        assert_eq!(role(&[rpc::DUMP, rpc::PORTMAP, rpc::HANDSHAKE]), Role::Portmapper);
        assert_eq!(role(&[rpc::DUMP]), Role::Stranger);
    }

    #[test]
    fn the_introduction_has_all_options_and_a_fresh_identity() {
        let mut environment = environment();
        environment.subdir_mount = Some("/sub/dir".into());
        let first = introduction("vol-client-0", &options(), &environment, 0);
        let second = introduction("vol-client-0", &options(), &environment, 1);
        assert_eq!(first.text("username"), Some("u1"));
        assert_eq!(first.text("fops-version"), Some("1298437"));
        assert_eq!(first.text("remote-subvolume"), Some("/bricks/b0"));
        assert_eq!(first.text("subdir-mount"), Some("/sub/dir"));
        assert_eq!(first.text("volume-id"), None);
        assert_ne!(first.text("process-uuid"), second.text("process-uuid"));
    }

    #[test]
    fn verdicts() {
        let environment = environment();
        let endpoint = Endpoint::tcp("srv", 49152);
        let judge = |op_ret, op_errno, pairs: &[(&str, &str)]| {
            let dict = pairs.iter().fold(OldDict::default(), |dict, (key, value)| dict.with(key, value));
            judge(&endpoint, &options(), &environment, &DictReply { op_ret, op_errno, dict })
        };
        assert_eq!(judge(0, 22, &[("ERROR", "Success"), ("volume-id", "a"), ("child_up", "1")]), Ok(true));
        assert_eq!(environment.volume_id.get().map(|id| &**id), Some("a"));
        assert_eq!(judge(0, 22, &[("volume-id", "a"), ("child_up", "0")]), Ok(false));
        assert_eq!(judge(0, 0, &[]), Ok(true));
        for (op_ret, errno, pairs, refused, expected) in [
            (-1, 13, &[("ERROR", "Authentication failed")][..], true, "auth.allow"),
            (-1, 2, &[("ERROR", "Brick not found")], false, "Brick not found"),
            (-1, 22, &[("ERROR", "Volume-ID different, possible case of same brick re-used")], true, "mount again"),
            (-1, 11, &[], false, "EAGAIN"),
            (-1, 0, &[], false, "no reason given"),
            (0, 22, &[("volume-id", "b")], true, "belongs to volume b, not to a"),
        ] {
            let failure = judge(op_ret, errno, pairs).unwrap_err();
            assert_eq!(failure.refused, refused, "{failure:?}");
            assert!(failure.text.starts_with("srv:49152: ") && failure.text.contains(expected), "{failure:?}");
        }
    }
}
