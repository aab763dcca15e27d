//! What `gluster volume heal VOLUME info` says: which files of which brick still wait for a heal.

/// One brick of the answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrickInfo {
    /// `host:/directory`.
    pub brick: String,
    /// Whether the self-heal daemon's helper reached it.
    pub connected: bool,
    /// The waiting files, by path or gfid, with what the command says of them ("Is in split-brain").
    pub entries: Vec<String>,
}

/// The whole answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealInfo {
    /// All bricks, in the order of the volume.
    pub bricks: Vec<BrickInfo>,
}

impl HealInfo {
    /// Reads the text.
    pub fn parse(text: &str) -> Self {
        let mut info = Self::default();
        for line in text.lines().map(str::trim) {
            if let Some(brick) = line.strip_prefix("Brick ") {
                info.bricks.push(BrickInfo { brick: brick.to_owned(), ..BrickInfo::default() });
            } else if let Some(brick) = info.bricks.last_mut() {
                match line.strip_prefix("Status: ") {
                    Some(status) => brick.connected = status == "Connected",
                    None if line.starts_with('/') || line.starts_with("<gfid:") => brick.entries.push(line.to_owned()),
                    None => {}
                }
            }
        }
        info
    }

    /// Whether every brick answered and nothing waits.
    pub fn is_clean(&self) -> bool {
        !self.bricks.is_empty() && self.bricks.iter().all(|brick| brick.connected && brick.entries.is_empty())
    }

    /// All waiting entries of all bricks.
    pub fn entries(&self) -> impl Iterator<Item = &str> {
        self.bricks.iter().flat_map(|brick| brick.entries.iter().map(String::as_str))
    }

    /// The entries that the command calls split-brain.
    pub fn split_brain(&self) -> Vec<&str> {
        self.entries().filter(|entry| entry.contains("split-brain")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::HealInfo;

    const WAITING: &str = "Brick host:/a\nStatus: Transport endpoint is not connected\nNumber of entries: -\n\n\
        Brick host:/b\n/dd \n/a - Is in split-brain\n\n<gfid:46672d38-4ee9-4d0b-930e-cb71118c82f3> \n\
        Status: Connected\nNumber of entries: 3\n\n";

    #[test]
    fn reads_entries_by_brick() {
        let info = HealInfo::parse(WAITING);
        assert!(!info.is_clean());
        assert!(!info.bricks[0].connected && info.bricks[1].connected);
        assert_eq!(info.entries().count(), 3);
        assert_eq!(info.split_brain(), ["/a - Is in split-brain"]);
    }

    #[test]
    fn nothing_waits() {
        assert!(HealInfo::parse("Brick host:/a\nStatus: Connected\nNumber of entries: 0\n").is_clean());
        assert!(!HealInfo::parse("").is_clean());
    }
}
