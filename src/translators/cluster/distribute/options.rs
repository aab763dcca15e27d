//! Options of the distribute volume in the volfile, with GlusterFS's names and defaults.

use std::collections::HashSet;

use thiserror::Error;

use super::keys;
use super::name::NameRules;

/// An option whose value makes no sense, or is not supported.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("option {name} {value:?}: {problem}")]
pub struct OptionError {
    name: &'static str,
    value: String,
    problem: &'static str,
}

/// A lower limit of free space or inodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Of the total.
    Percent(u64),
    /// Bytes, or inodes.
    Amount(u64),
}

/// Where a file is looked for that is not on its hashed subvolume, when `lookup-optimize` is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupUnhashed {
    /// On all subvolumes.
    Always,
    /// On all, if a listing of the directory showed names off their place.
    Auto,
}

/// The options in force.
#[derive(Debug)]
pub struct Options {
    /// Trust that a name that is not on its hashed subvolume is nowhere, as the commit hash allows.
    pub lookup_optimize: bool,
    /// The same question with `lookup_optimize` off.
    pub lookup_unhashed: LookupUnhashed,
    /// Below this a subvolume gets no new files.
    pub min_free_disk: Limit,
    /// Below this a subvolume gets no new files.
    pub min_free_inodes: Limit,
    /// At most so many subvolumes take names of one directory; 0 for all.
    pub spread: usize,
    /// Big bricks get big ranges.
    pub weighted: bool,
    /// The gfid, not the path, decides where a layout starts.
    pub randomize_by_gfid: bool,
    /// Directories are listed by the first subvolume alone.
    pub readdir_optimize: bool,
    /// Names of subvolumes that are leaving the volume.
    pub decommissioned: HashSet<String>,
    /// What of a name is hashed.
    pub names: NameRules,
}

impl Options {
    /// Reads the options; `get` answers the value of one by its name in the volfile.
    pub fn parse<'value>(get: impl Fn(&'static str) -> Option<&'value str>) -> Result<Self, OptionError> {
        let boolean = |name, default| get(name).map_or(Ok(default), |value| parse_bool(name, value));
        if let Some(value) = get("xattr-name")
            && value != keys::LAYOUT
        {
            return Err(refused("xattr-name", value, "only trusted.glusterfs.dht is supported; remove the option"));
        }
        Ok(Options {
            lookup_optimize: boolean("lookup-optimize", true)?,
            lookup_unhashed: match get("lookup-unhashed") {
                Some("auto") => LookupUnhashed::Auto,
                _ => LookupUnhashed::Always,
            },
            min_free_disk: get("min-free-disk")
                .map_or(Ok(Limit::Percent(10)), |value| parse_limit("min-free-disk", value))?,
            min_free_inodes: get("min-free-inodes")
                .map_or(Ok(Limit::Percent(5)), |value| parse_limit("min-free-inodes", value))?,
            spread: match get("directory-layout-spread") {
                None => 0,
                Some(value) => {
                    value.trim().parse().map_err(|_| refused("directory-layout-spread", value, "not a number"))?
                }
            },
            weighted: boolean("weighted-rebalance", true)?,
            randomize_by_gfid: boolean("randomize-hash-range-by-gfid", false)?,
            readdir_optimize: boolean("readdir-optimize", false)?,
            decommissioned: get("decommissioned-bricks")
                .map(|list| {
                    list.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
                })
                .unwrap_or_default(),
            names: NameRules::new(get("extra-hash-regex"), get("rsync-hash-regex")),
        })
    }
}

fn refused(name: &'static str, value: &str, problem: &'static str) -> OptionError {
    OptionError { name, value: value.to_owned(), problem }
}

fn parse_bool(name: &'static str, value: &str) -> Result<bool, OptionError> {
    match value.trim().to_ascii_lowercase().as_str() {
        "on" | "yes" | "true" | "enable" | "1" => Ok(true),
        "off" | "no" | "false" | "disable" | "0" => Ok(false),
        _ => Err(refused(name, value, "neither on nor off")),
    }
}

/// `10%`, `10` (a percentage below 100), `5GB`, `5368709120`.
fn parse_limit(name: &'static str, value: &str) -> Result<Limit, OptionError> {
    let text = value.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| refused(name, value, "not a number"))?;
    let factor: u64 = match unit.trim().to_ascii_uppercase().as_str() {
        "%" if number <= 100.0 => return Ok(Limit::Percent(number as u64)),
        "" if number < 100.0 => return Ok(Limit::Percent(number as u64)),
        "" | "B" => 1,
        "K" | "KB" => 1 << 10,
        "M" | "MB" => 1 << 20,
        "G" | "GB" => 1 << 30,
        "T" | "TB" => 1 << 40,
        "P" | "PB" => 1 << 50,
        _ => return Err(refused(name, value, "neither a percentage nor a size")),
    };
    Ok(Limit::Amount((number * factor as f64) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &'static str)]) -> Result<Options, OptionError> {
        Options::parse(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| *value))
    }

    #[test]
    fn defaults() {
        let options = parse(&[]).unwrap();
        assert!(options.lookup_optimize && options.weighted && !options.readdir_optimize && !options.randomize_by_gfid);
        assert_eq!((options.min_free_disk, options.min_free_inodes), (Limit::Percent(10), Limit::Percent(5)));
        assert_eq!((options.spread, options.lookup_unhashed), (0, LookupUnhashed::Always));
        assert!(options.decommissioned.is_empty());
    }

    #[test]
    fn values() {
        let options = parse(&[
            ("lookup-optimize", "off"),
            ("min-free-disk", "5GB"),
            ("min-free-inodes", "7"),
            ("directory-layout-spread", "3"),
            ("decommissioned-bricks", "v-client-1, v-client-2"),
        ])
        .unwrap();
        assert!(!options.lookup_optimize);
        assert_eq!((options.min_free_disk, options.min_free_inodes), (Limit::Amount(5 << 30), Limit::Percent(7)));
        assert_eq!(options.spread, 3);
        assert!(options.decommissioned.contains("v-client-2"));
    }

    #[test]
    fn nonsense_is_named() {
        for (name, value) in [("lookup-optimize", "maybe"), ("min-free-disk", "lots"), ("xattr-name", "user.x")] {
            let error = parse(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(value), "{error}");
        }
    }
}
