//! Locks that conflict, wait, and are given up.

use crate::fuse::in_flight::Interrupt;
use crate::fuse::locks::{LockRange, OFFSET_MAX};
use rgfs_protocol::types::LockType;

use super::*;

fn whole(kind: LockType) -> LockRange {
    LockRange { start: 0, end: OFFSET_MAX, kind, pid: 9 }
}

#[test]
fn locks_conflict_wait_and_go() {
    let (volume, fs) = volume(Options::default());
    run(async {
        let (_, opened) = create(&fs, "a", 0o644).await;
        let handle = opened.handle;
        fs.setlk(&ME, handle, 1, whole(LockType::Write), None).await.unwrap();
        assert_eq!(errno(fs.setlk(&ME, handle, 2, whole(LockType::Read), None).await), Errno::EAGAIN);
        assert_eq!(fs.getlk(&ME, handle, 2, whole(LockType::Read)).await.unwrap().kind, LockType::Write);
        assert_eq!(fs.getlk(&ME, handle, 1, whole(LockType::Read)).await.unwrap().kind, LockType::Unlock);
        let waits = fs.setlk(&ME, handle, 2, whole(LockType::Write), Some(Arc::default()));
        let (waited, released) = tokio::join!(waits, fs.flush(&ME, handle, 1));
        waited.unwrap();
        released.unwrap();
        assert_eq!(volume.locks(), (1, 0));
        let backward = LockRange { start: 9, end: 3, ..whole(LockType::Read) };
        assert_eq!(errno(fs.setlk(&ME, handle, 1, backward, None).await), Errno::EINVAL);
    });
}

/// Polls a future until it waits, then tells, then polls it until it ends.
async fn told<T>(future: impl Future<Output = T>, tell: impl FnOnce()) -> T {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| {
        assert!(future.as_mut().poll(context).is_pending());
        std::task::Poll::Ready(())
    })
    .await;
    tell();
    future.await
}

#[test]
fn a_signalled_waiter_leaves_no_lock() {
    let (volume, fs) = volume(Options::default());
    run(async {
        let (_, opened) = create(&fs, "a", 0o644).await;
        let handle = opened.handle;
        fs.setlk(&ME, handle, 1, whole(LockType::Write), None).await.unwrap();
        let interrupt = Arc::new(Interrupt::default());
        let waits = fs.setlk(&ME, handle, 2, whole(LockType::Write), Some(interrupt.clone()));
        assert_eq!(errno(told(waits, || interrupt.tell()).await), Errno::EINTR);
        assert_eq!(volume.locks(), (1, 0));
        assert_eq!(volume.calls().iter().filter(|fop| **fop == "fgetxattr").count(), 1);
    });
}

#[test]
fn a_killed_waiter_gets_away_and_a_late_grant_is_returned() {
    let (volume, fs) = volume(Options::default());
    run(async {
        let (_, opened) = create(&fs, "a", 0o644).await;
        let handle = opened.handle;
        fs.setlk(&ME, handle, 1, whole(LockType::Write), None).await.unwrap();
        let interrupt = Arc::new(Interrupt::default());
        let waits = fs.setlk(&ME, handle, 2, whole(LockType::Write), Some(interrupt.clone()));
        // The brick does not do as it is asked.
        volume.fail("fgetxattr", Errno::ENOTCONN);
        interrupt.tell();
        assert_eq!(errno(told(waits, || interrupt.abandon()).await), Errno::EINTR);
        assert_eq!(volume.locks(), (1, 1));
        fs.setlk(&ME, handle, 1, whole(LockType::Unlock), None).await.unwrap();
        assert_eq!(volume.locks(), (0, 0), "granted to nobody, and returned");
    });
}

#[test]
fn a_wait_that_was_cancelled_for_somebody_else_goes_on() {
    let (volume, fs) = volume(Options::default());
    run(async {
        let (_, opened) = create(&fs, "a", 0o644).await;
        let handle = opened.handle;
        fs.setlk(&ME, handle, 1, whole(LockType::Write), None).await.unwrap();
        let signalled = Arc::new(Interrupt::default());
        let first = fs.setlk(&ME, handle, 2, whole(LockType::Write), Some(Arc::default()));
        let second = fs.setlk(&ME, handle, 3, whole(LockType::Write), Some(signalled.clone()));
        let tell = async {
            signalled.tell();
            tokio::task::yield_now().await;
            fs.setlk(&ME, handle, 1, whole(LockType::Unlock), None).await
        };
        let (first, second, unlocked) = tokio::join!(first, second, tell);
        assert!(first.is_ok() && second.is_err() && unlocked.is_ok());
        assert_eq!(volume.locks(), (1, 0));
    });
}
