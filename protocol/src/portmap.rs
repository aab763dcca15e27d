//! The portmap program of glusterd (`portmap-xdr.x`, `glusterd-pmap.c`): which port a brick listens on.

use bytes::Bytes;

use crate::xdr::{DecodeError, Decoder, Encoder};

/// Ask for the port of a brick. The other procedures are for bricks, or never answered (BRICKBYPORT of release 10).
pub const PORTBYBRICK: u32 = 1;

/// Longest brick path, in bytes.
const MAX_PATH: usize = 4096;

/// Call of PORTBYBRICK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortByBrickRequest {
    /// Path of the brick: its `remote-subvolume`.
    pub brick: Bytes,
}

impl PortByBrickRequest {
    /// Appends the arguments.
    pub fn encode(&self, encoder: &mut Encoder) {
        encoder.opaque(&self.brick);
    }

    /// Decodes the arguments.
    ///
    /// # Errors
    /// When they do not decode.
    pub fn decode(decoder: &mut Decoder) -> Result<Self, DecodeError> {
        Ok(PortByBrickRequest { brick: decoder.opaque("brick", MAX_PATH)? })
    }
}

/// Answer of PORTBYBRICK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PortByBrickReply {
    /// 0, or -1 when the brick does not run.
    pub op_ret: i32,
    /// Means nothing: 0 on failure too.
    pub op_errno: i32,
    /// Means nothing.
    pub status: i32,
    /// The port, when `op_ret` is 0.
    pub port: i32,
}

impl PortByBrickReply {
    /// The port, when the brick runs.
    pub fn port(&self) -> Option<u16> {
        if self.op_ret != 0 {
            return None;
        }
        u16::try_from(self.port).ok().filter(|port| *port > 0)
    }

    /// Appends the body.
    pub fn encode(&self, encoder: &mut Encoder) {
        for word in [self.op_ret, self.op_errno, self.status, self.port] {
            encoder.i32(word);
        }
    }

    /// Decodes the body.
    ///
    /// # Errors
    /// When it does not decode.
    pub fn decode(decoder: &mut Decoder) -> Result<Self, DecodeError> {
        Ok(PortByBrickReply {
            op_ret: decoder.i32("op_ret")?,
            op_errno: decoder.i32("op_errno")?,
            status: decoder.i32("status")?,
            port: decoder.i32("port")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips(op_ret: i32, op_errno: i32, status: i32, port: i32, brick in "/[a-z/]{0,60}") {
            let reply = PortByBrickReply { op_ret, op_errno, status, port };
            let mut encoder = Encoder::default();
            reply.encode(&mut encoder);
            prop_assert_eq!(PortByBrickReply::decode(&mut Decoder::new(encoder.finish().freeze())).unwrap(), reply);
            let request = PortByBrickRequest { brick: brick.into() };
            let mut encoder = Encoder::default();
            request.encode(&mut encoder);
            prop_assert_eq!(PortByBrickRequest::decode(&mut Decoder::new(encoder.finish().freeze())).unwrap(), request);
        }

        #[test]
        fn noise_is_no_panic(noise: Vec<u8>) {
            let _ = PortByBrickReply::decode(&mut Decoder::new(noise.clone().into()));
            let _ = PortByBrickRequest::decode(&mut Decoder::new(noise.into()));
        }
    }

    #[test]
    fn a_brick_that_does_not_run_has_no_port() {
        let port = |op_ret, port| PortByBrickReply { op_ret, port, ..Default::default() }.port();
        assert_eq!(port(0, 49152), Some(49152));
        for (op_ret, number) in [(-1, 0), (-1, 49152), (0, 0), (0, -5), (0, 70_000)] {
            assert_eq!(port(op_ret, number), None);
        }
    }
}
