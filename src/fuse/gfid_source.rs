//! Fresh gfids: the client invents the identity of everything that it creates (`gfid-req`).

use std::cell::RefCell;

use rgfs_protocol::Gfid;

/// Random bytes fetched from the kernel at a time: one system call for 256 gfids.
const BATCH: usize = 4096;

thread_local! {
    static POOL: RefCell<(Vec<u8>, usize)> = const { RefCell::new((Vec::new(), 0)) };
}

/// A gfid that nothing else has.
///
/// # Errors
/// The kernel's random source failed; inventing a gfid without it could give two files one identity.
pub(super) fn fresh() -> std::io::Result<Gfid> {
    POOL.with_borrow_mut(|(bytes, used)| {
        if *used + 16 > bytes.len() {
            bytes.resize(BATCH, 0);
            *used = BATCH;
            let mut filled = 0;
            while filled < BATCH {
                match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
                    Ok(count) => filled += count,
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            *used = 0;
        }
        let mut random = [0; 16];
        random.copy_from_slice(&bytes[*used..*used + 16]);
        *used += 16;
        Ok(Gfid::from_random(random))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn gfids_differ() {
        let seen: HashSet<Gfid> = (0..1000).map(|_| fresh().unwrap()).collect();
        assert_eq!(seen.len(), 1000);
    }
}
