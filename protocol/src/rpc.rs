//! Headers of Sun RPC messages (RFC 5531): calls, answers, and why a call was turned down.

use bytes::Bytes;

use crate::xdr::{DecodeError, Decoder, Encoder};

/// Version of RPC itself.
pub const RPC_VERSION: u32 = 2;

/// Longest credential body, in bytes. A brick does not answer a call with a longer one at all.
pub const MAX_CREDENTIAL: usize = 400;

/// Message type of a call.
const CALL: u32 = 0;
/// Message type of an answer.
const REPLY: u32 = 1;

/// A program and its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Program {
    /// Program number.
    pub number: u32,
    /// Program version.
    pub version: u32,
}

/// SETVOLUME, GETSPEC.
pub const HANDSHAKE: Program = Program { number: 14_398_633, version: 2 };
/// Program discovery and PING.
pub const DUMP: Program = Program { number: 123_451_501, version: 1 };
/// Brick name to port.
pub const PORTMAP: Program = Program { number: 34_123_456, version: 1 };
/// File operations, "GlusterFS 4.x v1".
pub const FOPS: Program = Program { number: 1_298_437, version: 400 };
/// File operations of bricks before release 4.0; not spoken here.
pub const FOPS_3_3: Program = Program { number: 1_298_437, version: 330 };
/// Calls from a server to a client.
pub const CALLBACK: Program = Program { number: 52_743_234, version: 1 };

/// Who calls: a flavor and its body, as on the wire. See [`crate::auth`] for what is inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpaqueAuth {
    /// Flavor.
    pub flavor: u32,
    /// Body, at most [`MAX_CREDENTIAL`] bytes.
    pub body: Bytes,
}

/// A message that came in: what its second word says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The peer calls; the arguments follow.
    Call(CallHeader),
    /// The peer answers; the body follows when the outcome is good.
    Reply(ReplyHeader),
}

impl Message {
    /// Takes the header off the front of a record.
    ///
    /// # Errors
    /// When it is neither a call nor an answer.
    pub fn decode(decoder: &mut Decoder) -> Result<Self, DecodeError> {
        let xid = decoder.u32("xid")?;
        match decoder.u32("message type")? {
            CALL => CallHeader::decode_rest(decoder, xid).map(Message::Call),
            REPLY => ReplyHeader::decode_rest(decoder, xid).map(Message::Reply),
            other => Err(decoder.unknown("message type", i64::from(other))),
        }
    }
}

/// Header of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallHeader {
    /// Chosen by the caller; the answer repeats it.
    pub xid: u32,
    /// Program and version.
    pub program: Program,
    /// Procedure of the program.
    pub procedure: u32,
    /// Who calls.
    pub credential: OpaqueAuth,
}

impl CallHeader {
    /// Appends everything up to the credential, which the caller of this appends next, followed by
    /// [`CallHeader::encode_verifier`]: so a credential is encoded in place.
    pub fn encode_front(encoder: &mut Encoder, xid: u32, program: Program, procedure: u32) {
        encoder.u32(xid);
        encoder.u32(CALL);
        encoder.u32(RPC_VERSION);
        encoder.u32(program.number);
        encoder.u32(program.version);
        encoder.u32(procedure);
    }

    /// Appends the empty verifier that ends the header.
    pub fn encode_verifier(encoder: &mut Encoder) {
        encoder.u32(0);
        encoder.u32(0);
    }

    /// Appends the whole header.
    pub fn encode(&self, encoder: &mut Encoder) {
        Self::encode_front(encoder, self.xid, self.program, self.procedure);
        encoder.u32(self.credential.flavor);
        encoder.opaque(&self.credential.body);
        Self::encode_verifier(encoder);
    }

    fn decode_rest(decoder: &mut Decoder, xid: u32) -> Result<Self, DecodeError> {
        match decoder.u32("RPC version")? {
            RPC_VERSION => {}
            other => return Err(decoder.unknown("RPC version", i64::from(other))),
        }
        let program = Program { number: decoder.u32("program")?, version: decoder.u32("program version")? };
        let procedure = decoder.u32("procedure")?;
        let flavor = decoder.u32("credential flavor")?;
        let body = decoder.opaque("credential", MAX_CREDENTIAL)?;
        decode_verifier(decoder)?;
        Ok(CallHeader { xid, program, procedure, credential: OpaqueAuth { flavor, body } })
    }
}

fn decode_verifier(decoder: &mut Decoder) -> Result<(), DecodeError> {
    decoder.u32("verifier flavor")?;
    decoder.opaque("verifier", MAX_CREDENTIAL).map(|_| ())
}

/// Why the RPC layer of the peer turned a call down: it did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The peer has no such program.
    #[error("the peer does not have this program")]
    ProgramUnavailable,
    /// It has the program in other versions (GlusterFS 10 says 0 and 0).
    #[error("the peer has this program only in versions {low} to {high}")]
    ProgramMismatch {
        /// Lowest version.
        low: u32,
        /// Highest version.
        high: u32,
    },
    /// The program has no such procedure.
    #[error("the peer does not have this procedure")]
    ProcedureUnavailable,
    /// The arguments do not decode; or a fop came before SETVOLUME.
    #[error("the peer cannot decode the arguments, or does not know this client yet")]
    GarbageArguments,
    /// Something failed inside the peer.
    #[error("the peer failed inside")]
    SystemError,
    /// Another version of RPC is wanted.
    #[error("the peer speaks RPC versions {low} to {high}")]
    RpcMismatch {
        /// Lowest version.
        low: u32,
        /// Highest version.
        high: u32,
    },
    /// The credential was refused: 0 too many groups, 2 the source port is not privileged.
    #[error("the peer refused the credential (auth_stat {0})")]
    Authentication(u32),
}

/// Header of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyHeader {
    /// The call that is answered.
    pub xid: u32,
    /// Whether the call ran; then its body follows.
    pub outcome: Result<(), Rejection>,
}

impl ReplyHeader {
    /// Header of a good answer.
    pub fn success(xid: u32) -> Self {
        ReplyHeader { xid, outcome: Ok(()) }
    }

    /// Appends the header.
    pub fn encode(&self, encoder: &mut Encoder) {
        encoder.u32(self.xid);
        encoder.u32(REPLY);
        // Accepted answers carry status 0, an empty verifier and the accept status; denied ones status 1.
        let words: &[u32] = match self.outcome {
            Ok(()) => &[0, 0, 0, 0],
            Err(Rejection::ProgramUnavailable) => &[0, 0, 0, 1],
            Err(Rejection::ProgramMismatch { low, high }) => &[0, 0, 0, 2, low, high],
            Err(Rejection::ProcedureUnavailable) => &[0, 0, 0, 3],
            Err(Rejection::GarbageArguments) => &[0, 0, 0, 4],
            Err(Rejection::SystemError) => &[0, 0, 0, 5],
            Err(Rejection::RpcMismatch { low, high }) => &[1, 0, low, high],
            Err(Rejection::Authentication(stat)) => &[1, 1, stat],
        };
        for word in words {
            encoder.u32(*word);
        }
    }

    fn decode_rest(decoder: &mut Decoder, xid: u32) -> Result<Self, DecodeError> {
        let rejection = match decoder.u32("reply status")? {
            0 => {
                decode_verifier(decoder)?;
                match decoder.u32("accept status")? {
                    0 => return Ok(ReplyHeader::success(xid)),
                    1 => Rejection::ProgramUnavailable,
                    2 => Rejection::ProgramMismatch { low: decoder.u32("low")?, high: decoder.u32("high")? },
                    3 => Rejection::ProcedureUnavailable,
                    4 => Rejection::GarbageArguments,
                    5 => Rejection::SystemError,
                    other => return Err(decoder.unknown("accept status", i64::from(other))),
                }
            }
            1 => match decoder.u32("reject status")? {
                0 => Rejection::RpcMismatch { low: decoder.u32("low")?, high: decoder.u32("high")? },
                1 => Rejection::Authentication(decoder.u32("authentication status")?),
                other => return Err(decoder.unknown("reject status", i64::from(other))),
            },
            other => return Err(decoder.unknown("reply status", i64::from(other))),
        };
        Ok(ReplyHeader { xid, outcome: Err(rejection) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rejections() -> impl Strategy<Value = Result<(), Rejection>> {
        prop_oneof![
            Just(Ok(())),
            Just(Err(Rejection::ProgramUnavailable)),
            any::<(u32, u32)>().prop_map(|(low, high)| Err(Rejection::ProgramMismatch { low, high })),
            Just(Err(Rejection::ProcedureUnavailable)),
            Just(Err(Rejection::GarbageArguments)),
            Just(Err(Rejection::SystemError)),
            any::<(u32, u32)>().prop_map(|(low, high)| Err(Rejection::RpcMismatch { low, high })),
            any::<u32>().prop_map(|stat| Err(Rejection::Authentication(stat))),
        ]
    }

    proptest! {
        #[test]
        fn calls_round_trip(xid: u32, number: u32, version: u32, procedure: u32, flavor: u32,
                            body in prop::collection::vec(any::<u8>(), 0..=MAX_CREDENTIAL)) {
            let header = CallHeader {
                xid,
                program: Program { number, version },
                procedure,
                credential: OpaqueAuth { flavor, body: body.into() },
            };
            let mut encoder = Encoder::default();
            header.encode(&mut encoder);
            let mut decoder = Decoder::new(encoder.finish().freeze());
            prop_assert_eq!(Message::decode(&mut decoder).unwrap(), Message::Call(header));
            prop_assert!(decoder.finish().is_ok());
        }

        #[test]
        fn replies_round_trip(xid: u32, outcome in rejections()) {
            let header = ReplyHeader { xid, outcome };
            let mut encoder = Encoder::default();
            header.encode(&mut encoder);
            let mut decoder = Decoder::new(encoder.finish().freeze());
            prop_assert_eq!(Message::decode(&mut decoder).unwrap(), Message::Reply(header));
            prop_assert!(decoder.finish().is_ok());
        }

        #[test]
        fn noise_is_no_panic(noise: Vec<u8>) {
            let _ = Message::decode(&mut Decoder::new(noise.into()));
        }
    }

    #[test]
    fn a_credential_above_400_bytes_is_an_error() {
        let mut encoder = Encoder::default();
        CallHeader::encode_front(&mut encoder, 1, FOPS, 1);
        encoder.u32(0);
        encoder.opaque(&[0; MAX_CREDENTIAL + 1]);
        CallHeader::encode_verifier(&mut encoder);
        let error = Message::decode(&mut Decoder::new(encoder.finish().freeze())).unwrap_err();
        assert!(matches!(error, DecodeError::TooLong { what: "credential", .. }));
    }
}
