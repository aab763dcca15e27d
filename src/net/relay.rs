//! A brick behind the volfile server: one address and port for both, as a `glusterfsd` of the 2.x days had it.
//!
//! The first call tells what a peer wants: clients that fetch a volfile say GETSPEC first, all others come for the brick.
//! The bytes of those go to the brick and back as they are.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rgfs_protocol::handshake::procedure::GETSPEC;
use rgfs_protocol::rpc::HANDSHAKE;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Record mark, xid, message type, RPC version, program, program version, procedure.
const FRONT: usize = 7 * 4;
/// A peer that says nothing for so long is cut off.
const FIRST_CALL_LIMIT: Duration = Duration::from_secs(30);
/// Pause before a second look at a front that has arrived in part.
const PART_PAUSE: Duration = Duration::from_millis(2);
/// Buffer of each direction.
const BUFFER: usize = 256 << 10;

/// Whether the front of a record is a call for a volfile.
fn is_volfile_call(front: &[u8; FRONT]) -> bool {
    const CALL: u32 = 0;
    let word = |index: usize| {
        front.get(index * 4..index * 4 + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes)
    };
    word(2) == Some(CALL) && word(4) == Some(HANDSHAKE.number) && word(6) == Some(GETSPEC)
}

/// Waits for the first call of a peer, without taking it, and tells whether it asks for a volfile.
///
/// # Errors
/// The peer closes or stays silent.
pub async fn asks_for_volfile(peer: &TcpStream) -> io::Result<bool> {
    let look = async {
        let mut front = [0; FRONT];
        loop {
            match peer.peek(&mut front).await? {
                FRONT => return Ok(is_volfile_call(&front)),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => sleep(PART_PAUSE).await,
            }
        }
    };
    timeout(FIRST_CALL_LIMIT, look).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Joins `peer` to the brick at `brick` until both have closed.
///
/// # Errors
/// The brick cannot be reached, or either side breaks off.
pub async fn relay(mut peer: TcpStream, brick: SocketAddr) -> io::Result<()> {
    let mut brick = TcpStream::connect(brick).await?;
    peer.set_nodelay(true)?;
    brick.set_nodelay(true)?;
    copy_bidirectional_with_sizes(&mut peer, &mut brick, BUFFER, BUFFER).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn front(kind: u32, program: u32, procedure: u32) -> [u8; FRONT] {
        let mut bytes = [0; FRONT];
        for (place, word) in bytes.chunks_exact_mut(4).zip([0x8000_0040, 7, kind, 2, program, 2, procedure]) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    #[test]
    fn only_getspec_is_a_volfile_call() {
        assert!(is_volfile_call(&front(0, HANDSHAKE.number, GETSPEC)));
        assert!(!is_volfile_call(&front(1, HANDSHAKE.number, GETSPEC)));
        assert!(!is_volfile_call(&front(0, HANDSHAKE.number, 1)));
        assert!(!is_volfile_call(&front(0, 123_451_501, GETSPEC)));
    }

    #[tokio::test]
    async fn the_first_call_stays_for_the_brick() -> io::Result<()> {
        let brick = TcpListener::bind("127.0.0.1:0").await?;
        let door = TcpListener::bind("127.0.0.1:0").await?;
        let brick_address = brick.local_addr()?;
        let mut client = TcpStream::connect(door.local_addr()?).await?;
        let (peer, _) = door.accept().await?;
        let call = front(0, 123_451_501, 1);
        // In two parts: half a front decides nothing.
        client.write_all(&call[..11]).await?;
        let decided = tokio::spawn(async move { (asks_for_volfile(&peer).await, peer) });
        tokio::task::yield_now().await;
        client.write_all(&call[11..]).await?;
        let (is_volfile, peer) = decided.await?;
        assert!(!is_volfile?);

        let joined = tokio::spawn(relay(peer, brick_address));
        let (mut served, _) = brick.accept().await?;
        let mut got = [0; FRONT];
        served.read_exact(&mut got).await?;
        assert_eq!(got, call);
        served.write_all(b"answer").await?;
        let mut answer = [0; 6];
        client.read_exact(&mut answer).await?;
        assert_eq!(&answer, b"answer");
        drop(served);
        drop(client);
        joined.await?
    }
}
