//! Volumes that put new files elsewhere than at home: `cluster/nufa` on a brick of this host, `cluster/switch` on the bricks of a pattern.
//!
//! The C client and rgfs do the same in two directories of one volume, whose layouts are equal. Then the same must lie on the same
//! bricks, linktos and all, and each client must read what the other wrote.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rgfs::translators::cluster::distribute::hash;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use support::client::Client;
use support::cluster::{GlusterdVolume, Mountable};
use support::picture;
use support::sandbox::{Sandbox, scenario};
use support::tampering::Bricks;

/// Names of each kind; enough for some to be at home on each brick.
const NAMES: usize = 12;
/// Matches the names that end with `.jpg`. The C client reads a pattern after it freed it, and loses it to what it allocates then unless
/// that is shorter by 16 bytes. Of a second pattern it counts the bricks of the first, too, and crashes when their turn comes.
const PATTERN: &str = "/*[a-z]*[0-9].jpg";
/// How a picture shows that a file is a linkto.
const LINKTO_MODE: &str = ": file of 0 bytes 1000 ";

/// A name for a directory of the root whose ranges begin on the first brick: all these have one layout.
fn directory(bricks: &Bricks, prefix: &str) -> String {
    let first = |name: &String| (hash::hash(format!("/{name}").as_bytes()) as usize).is_multiple_of(bricks.all().len());
    (0..).map(|number| format!("{prefix}{number}")).find(first).unwrap_or_default()
}

fn node(path: &Path, kind: FileType) -> Result<()> {
    mknodat(CWD, path, kind, Mode::from_raw_mode(0o640), 0).with_context(|| format!("mknod {}", path.display()))
}

/// Makes all kinds of names in a new directory; files with content by MKNOD where the client cannot do it by CREATE.
fn fill(root: &Path, creates: bool) -> Result<()> {
    fs::create_dir(root)?;
    for number in 0..NAMES {
        for ending in ["", ".jpg"] {
            let path = root.join(format!("file{number}{ending}"));
            if !creates {
                node(&path, FileType::RegularFile)?;
            }
            let file = OpenOptions::new().write(true).create_new(creates).mode(0o640).open(&path);
            let mut file = file.with_context(|| format!("create {}", path.display()))?;
            file.write_all(format!("content {number}").as_bytes())?;
            node(&root.join(format!("node{number}{ending}")), FileType::RegularFile)?;
            node(&root.join(format!("pipe{number}{ending}")), FileType::Fifo)?;
            symlink("target", root.join(format!("symlink{number}{ending}")))?;
        }
        // These stay where they are, whatever they are called now.
        fs::rename(root.join(format!("pipe{number}")), root.join(format!("renamed{number}.jpg")))?;
        fs::hard_link(root.join(format!("node{number}.jpg")), root.join(format!("linked{number}")))?;
    }
    Ok(())
}

/// What a client left on the bricks below its directory, with the directory's name taken out. The C client leaves the xattr of the linkto
/// on the file that it leads to, too, where it means nothing.
fn drawn(bricks: &Bricks, directory: &str) -> Result<BTreeSet<String>> {
    let told = |line: String| match line.split_once(" dht.linkto=") {
        Some((file, _)) if !file.contains(LINKTO_MODE) => file.to_owned(),
        _ => line,
    };
    let lines = picture::below(bricks, directory)?.into_iter();
    let below = lines.filter(|line| line.starts_with(&format!("{directory}/")));
    Ok(below.map(|line| told(line.replacen(directory, "DIRECTORY", 1))).collect())
}

/// Both clients fill a directory; returns the name of that of rgfs.
fn compare(volume: &GlusterdVolume, c_creates: bool) -> Result<String> {
    let bricks = Bricks::new(volume.name(), volume.bricks());
    let (ours, theirs) = (directory(&bricks, "ours"), directory(&bricks, "theirs"));
    let mounts = [(Client::Rgfs, &ours, &theirs), (Client::C, &theirs, &ours)].map(|(client, own, other)| {
        let mount = volume.mount(client, &format!("{}-{own}", volume.name()));
        mount.map(|mount| (mount, own, other))
    });
    let [first, second] = mounts;
    let mounts = [first?, second?];
    for (mount, own, _) in &mounts {
        let creates = c_creates || mount.client() == Client::Rgfs;
        fill(&mount.join(own), creates).with_context(|| format!("{} on {}", mount.client(), volume.name()))?;
    }
    let (mine, c) = (drawn(&bricks, &ours)?, drawn(&bricks, &theirs)?);
    let differing: Vec<String> = (c.difference(&mine).map(|line| format!("  < {line}")))
        .chain(mine.difference(&c).map(|line| format!("  > {line}")))
        .collect();
    ensure!(
        differing.is_empty(),
        "{}: rgfs (>) differs from the C client (<):\n{}",
        volume.name(),
        differing.join("\n")
    );
    for (mount, own, other) in mounts {
        let names = |directory: &str| -> Result<BTreeSet<_>> {
            fs::read_dir(mount.join(directory))?.map(|entry| Ok(entry?.file_name())).collect()
        };
        ensure!(names(own)? == names(other)?, "{} lists other names", mount.client());
        for number in 0..NAMES {
            for ending in ["", ".jpg"] {
                let name = format!("{other}/file{number}{ending}");
                let content = fs::read_to_string(mount.join(&name)).with_context(|| name.clone())?;
                ensure!(content == format!("content {number}"), "{} reads {content} from {name}", mount.client());
            }
        }
        mount.unmount()?;
    }
    Ok(ours)
}

/// The bricks with the files themselves whose names begin with `prefix` and end with `ending`.
fn holders(bricks: &Bricks, directory: &str, prefix: &str, ending: &str) -> Result<BTreeSet<usize>> {
    let mut holders = BTreeSet::new();
    for number in 0..NAMES {
        let name = format!("{directory}/{prefix}{number}{ending}");
        for brick in bricks.all().filter(|brick| bricks.has(*brick, &name)) {
            if fs::symlink_metadata(bricks.path(brick, &name))?.mode() & 0o7777 != 0o1000 {
                holders.insert(brick);
            }
        }
    }
    Ok(holders)
}

fn nufa(sandbox: &Sandbox) -> Result<()> {
    let volume = GlusterdVolume::start(sandbox, "nufa", 3, &[])?;
    volume.set("cluster.nufa", "on")?;
    let ours = compare(&volume, true)?;
    let bricks = Bricks::new(volume.name(), volume.bricks());
    ensure!(holders(&bricks, &ours, "file", "")? == [0].into(), "all files are on the first brick of this host");
    ensure!(holders(&bricks, &ours, "symlink", "")?.len() == 3, "symbolic links are at home");
    Ok(())
}

fn switch(sandbox: &Sandbox) -> Result<()> {
    // One brick for the pattern and one for the others: where several take turns, each lookup by the C client is a turn, too.
    let volume = GlusterdVolume::start(sandbox, "switch", 2, &[])?;
    volume.set("cluster.switch", "on")?;
    volume.set("cluster.switch-pattern", &format!("{PATTERN}:switch-client-1"))?;
    // To create a file off its home, the C client forgets to say which gfid it shall get, and the brick refuses.
    let ours = compare(&volume, false)?;
    let bricks = Bricks::new(volume.name(), volume.bricks());
    ensure!(holders(&bricks, &ours, "node", ".jpg")? == [1].into(), "what the pattern matches is on its brick");
    ensure!(holders(&bricks, &ours, "node", "")? == [0].into(), "all else is on the other");
    Ok(())
}

#[test]
fn nufa_puts_files_where_the_c_client_does() {
    scenario(nufa);
}

#[test]
fn switch_puts_files_where_the_c_client_does() {
    scenario(switch);
}
