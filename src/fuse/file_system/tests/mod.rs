//! Scenarios on [`super::FileSystem`] over a volume in memory.

mod files;
mod listings;
mod locks;
mod names;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use rgfs_protocol::{Errno, FileType};

use super::*;
use crate::fuse::testing::MemoryVolume;

const ROOT: u64 = 1;
static ME: LazyLock<Caller> = LazyLock::new(Caller::default);
static USER: LazyLock<Caller> = LazyLock::new(|| Caller { uid: 1000, gid: 1000, ..Caller::default() });

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

fn volume(options: Options) -> (Arc<MemoryVolume>, Arc<FileSystem>) {
    let volume = MemoryVolume::new();
    (volume.clone(), FileSystem::new(volume, options))
}

fn name(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn create(fs: &FileSystem, text: &str, mode: u32) -> (Entry, Opened) {
    fs.create(&ME, ROOT, name(text), mode | libc::S_IFREG, 0o022, libc::O_RDWR | libc::O_CREAT).await.unwrap()
}

fn errno<T: std::fmt::Debug>(result: FopResult<T>) -> Errno {
    result.unwrap_err().errno
}
