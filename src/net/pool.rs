//! Buffers for large records, used again and again.
//!
//! A fresh megabyte costs the kernel 256 page faults each time. Here a buffer goes back to its pool when the last slice
//! of its record is dropped, wherever that happens.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use rgfs_protocol::record::Buffers;

/// Smallest buffer, in bytes: just above what the framer keeps in its shared buffer, with room for headers.
const SMALLEST: usize = 32 << 10;

/// Largest buffer that is kept, in bytes: a READ answer of 4 MiB and its headers.
const LARGEST: usize = (4 << 20) + (64 << 10);

/// Most bytes that wait for use in one pool.
const IDLE: usize = 16 << 20;

/// A pool; each connection has its own, so that its lock is never fought for by two readers.
#[derive(Clone, Default)]
pub struct Pool {
    idle: Arc<Mutex<Idle>>,
}

#[derive(Default)]
struct Idle {
    buffers: Vec<Box<[u8]>>,
    bytes: usize,
}

/// A buffer of a pool.
pub struct Buffer {
    // Some until drop.
    memory: Option<Box<[u8]>>,
    length: usize,
    home: Weak<Mutex<Idle>>,
}

impl Pool {
    /// Bytes that wait for use.
    pub fn idle_bytes(&self) -> usize {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).bytes
    }
}

/// Sizes of memory: a few classes, so that buffers fit many records. Powers of two and a bit, because data comes in powers
/// of two and headers come on top.
fn class(length: usize) -> usize {
    let data = length.saturating_sub(4096).max(SMALLEST);
    data.next_power_of_two() + 4096
}

impl Buffers for Pool {
    type Buffer = Buffer;

    fn take(&mut self, length: usize) -> Buffer {
        let home = Arc::downgrade(&self.idle);
        if length > LARGEST {
            return Buffer { memory: Some(vec![0; length].into()), length, home: Weak::new() };
        }
        let wanted = class(length);
        let found = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let at = idle.buffers.iter().rposition(|buffer| buffer.len() == wanted);
            at.map(|at| {
                idle.bytes -= wanted;
                idle.buffers.swap_remove(at)
            })
        };
        Buffer { memory: Some(found.unwrap_or_else(|| vec![0; wanted].into())), length, home }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.memory.as_deref().map_or(&[], |memory| &memory[..self.length])
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self.memory.as_deref_mut().map_or(&mut [], |memory| &mut memory[..self.length])
    }
}

impl From<Buffer> for Bytes {
    fn from(buffer: Buffer) -> Bytes {
        Bytes::from_owner(buffer)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let (Some(memory), Some(home)) = (self.memory.take(), self.home.upgrade()) else { return };
        let mut idle = home.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.bytes + memory.len() <= IDLE {
            idle.bytes += memory.len();
            idle.buffers.push(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_last_slice_is_dropped() {
        let mut pool = Pool::default();
        let mut buffer = pool.take((1 << 20) + 200);
        assert_eq!(buffer.as_mut().len(), (1 << 20) + 200);
        let address = buffer.as_ref().as_ptr();
        let bytes = Bytes::from(buffer);
        let slice = bytes.slice(200..);
        drop(bytes);
        assert_eq!(pool.idle_bytes(), 0);
        std::thread::spawn(move || drop(slice)).join().unwrap();
        assert_eq!(pool.idle_bytes(), (1 << 20) + 4096);
        let again = pool.take((1 << 20) + 150);
        assert_eq!(again.as_ref().as_ptr(), address);
        let other = pool.take(100 << 10);
        assert_ne!(other.as_ref().as_ptr(), address);
        drop(pool);
        drop((again, other));
    }

    #[test]
    fn idle_memory_is_bounded() {
        let mut pool = Pool::default();
        let many: Vec<Buffer> = (0..40).map(|_| pool.take(1 << 20)).collect();
        drop(many);
        assert!(pool.idle_bytes() <= IDLE && pool.idle_bytes() > IDLE / 2);
        let before = pool.idle_bytes();
        drop(pool.take(60 << 20));
        assert_eq!(pool.idle_bytes(), before, "a huge one is not kept");
    }
}
