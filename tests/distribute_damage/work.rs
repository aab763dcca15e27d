//! What programs do to the files of a damaged directory, and what they were told.

use std::fs::{self, File};
use std::io::Error;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::Result;
use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};
use rustix::io::Errno;

/// A directory to work in, and the answers so far.
pub(crate) struct Work {
    root: PathBuf,
    answers: Vec<String>,
}

impl Work {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_path_buf(), answers: Vec::new() }
    }

    /// What was answered, one line per operation.
    pub(crate) fn answers(self) -> Vec<String> {
        self.answers
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn note(&mut self, what: &str, name: &str, answer: std::result::Result<String, Error>) {
        let answer = match answer {
            Ok(text) => text,
            Err(error) => Errno::from_io_error(&error).map_or(error.to_string(), |errno| format!("{errno}")),
        };
        self.answers.push(format!("{:02} {what} {name}: {answer}", self.answers.len()));
    }

    pub(crate) fn stat(&mut self, name: &str) {
        let stat = fs::symlink_metadata(self.path(name)).map(|data| {
            let kind = if data.is_dir() { "directory".to_owned() } else { format!("file of {} bytes", data.len()) };
            format!("{kind} {:o} {}:{}", data.mode() & 0o7777, data.uid(), data.gid())
        });
        self.note("stat", name, stat);
    }

    pub(crate) fn list(&mut self, name: &str) {
        let list = fs::read_dir(self.path(name)).and_then(|entries| {
            let mut names = entries
                .map(|entry| {
                    let entry = entry?;
                    let kind = if entry.file_type()?.is_dir() { "/" } else { "" };
                    Ok(entry.file_name().to_string_lossy().into_owned() + kind)
                })
                .collect::<std::result::Result<Vec<_>, Error>>()?;
            names.sort();
            Ok(names.join(" "))
        });
        self.note("list", name, list);
    }

    pub(crate) fn read(&mut self, name: &str) {
        let content = fs::read_to_string(self.path(name));
        self.note("read", name, content);
    }

    /// Creates a file; fails if it is there.
    pub(crate) fn create(&mut self, name: &str) {
        let made = File::create_new(self.path(name)).map(|_| "made".to_owned());
        self.note("create", name, made);
    }

    /// Writes a file, new or not.
    pub(crate) fn write(&mut self, name: &str) {
        let written = fs::write(self.path(name), format!("written to {name}")).map(|()| "written".to_owned());
        self.note("write", name, written);
    }

    pub(crate) fn mkdir(&mut self, name: &str) {
        let made = fs::create_dir(self.path(name)).map(|()| "made".to_owned());
        self.note("mkdir", name, made);
    }

    pub(crate) fn rmdir(&mut self, name: &str) {
        let gone = fs::remove_dir(self.path(name)).map(|()| "gone".to_owned());
        self.note("rmdir", name, gone);
    }

    pub(crate) fn unlink(&mut self, name: &str) {
        let gone = fs::remove_file(self.path(name)).map(|()| "gone".to_owned());
        self.note("unlink", name, gone);
    }

    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        let moved = fs::rename(self.path(from), self.path(to)).map(|()| "moved".to_owned());
        self.note("rename", &format!("{from} {to}"), moved);
    }

    pub(crate) fn chmod(&mut self, name: &str, mode: u32) {
        let set = fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).map(|()| "set".to_owned());
        self.note("chmod", name, set);
    }

    pub(crate) fn get(&mut self, name: &str, key: &str) {
        let mut value = vec![0; 1000];
        let got = lgetxattr(self.path(name), key, &mut value).map_err(Error::from);
        let got = got.map(|length| value[..length].escape_ascii().to_string());
        self.note("get", &format!("{name} {key}"), got);
    }

    pub(crate) fn set(&mut self, name: &str, key: &str, value: &str) {
        let set = lsetxattr(self.path(name), key, value.as_bytes(), XattrFlags::empty()).map_err(Error::from);
        self.note("set", &format!("{name} {key}"), set.map(|()| "set".to_owned()));
    }

    // What a case needs before it is damaged: fails when it cannot be made.

    pub(crate) fn has_directory(&self, name: &str) -> Result<()> {
        fs::create_dir(self.path(name))?;
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o750))?;
        chown(self.path(name), Some(1000), Some(1001))?;
        lsetxattr(self.path(name), "user.key", b"value", XattrFlags::empty())?;
        Ok(())
    }

    pub(crate) fn has_files(&self, directory: &str, count: usize) -> Result<()> {
        for number in 0..count {
            fs::write(self.path(&format!("{directory}/f{number}")), format!("content {number}"))?;
        }
        Ok(())
    }

    pub(crate) fn has_file(&self, name: &str) -> Result<()> {
        fs::write(self.path(name), "content")?;
        Ok(())
    }
}
