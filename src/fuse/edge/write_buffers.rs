//! Buffers for the data of WRITE requests.
//!
//! `fuser` lends the data for the time of the handler; a request outlives that, so the data is copied, once. A fresh
//! allocation of a megabyte would cost more in page faults than the copy itself, so buffers are used again.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Data up to this size is copied to the ordinary heap, which has such pieces at hand.
const SMALL: usize = 16 << 10;
/// Unused bytes that are kept at most.
const IDLE_BYTES: usize = 64 << 20;

/// The buffers that are not in use.
#[derive(Debug, Default)]
pub(super) struct WriteBuffers {
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

struct Buffer {
    data: Vec<u8>,
    home: Arc<WriteBuffers>,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.data));
    }
}

impl WriteBuffers {
    /// A copy of `data`. Its memory comes back here when the last slice of it is dropped.
    pub(super) fn copy(self: &Arc<Self>, data: &[u8]) -> Bytes {
        if data.len() <= SMALL {
            return Bytes::copy_from_slice(data);
        }
        let mut buffer = self.take(data.len());
        buffer.extend_from_slice(data);
        Bytes::from_owner(Buffer { data: buffer, home: self.clone() })
    }

    fn take(&self, size: usize) -> Vec<u8> {
        let found = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let at = idle.buffers.iter().rposition(|buffer| buffer.capacity() >= size);
            at.map(|at| {
                let buffer = idle.buffers.swap_remove(at);
                idle.bytes -= buffer.capacity();
                buffer
            })
        };
        // Sizes are rounded up so that a buffer fits many requests.
        found.unwrap_or_else(|| Vec::with_capacity(size.next_power_of_two().max(128 << 10)))
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.bytes + buffer.capacity() <= IDLE_BYTES {
            idle.bytes += buffer.capacity();
            idle.buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back() {
        let buffers = Arc::new(WriteBuffers::default());
        let data = vec![7u8; 1 << 20];
        let first = buffers.copy(&data);
        let place = first.as_ptr();
        assert_eq!(first, data);
        let part = first.slice(10..20);
        drop(first);
        assert!(buffers.idle.lock().unwrap().buffers.is_empty(), "a slice still needs it");
        drop(part);
        let second = buffers.copy(&data[..200_000]);
        assert_eq!((second.as_ptr(), second.len()), (place, 200_000));
        assert_eq!(buffers.copy(b"small"), "small");
    }
}
