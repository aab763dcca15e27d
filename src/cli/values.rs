//! Values of options: from text to types, with an error that says what would be right.

use std::time::Duration;

use tracing::level_filters::LevelFilter;

use crate::mount::options::DirectIo;

/// The spellings of a volfile BOOL (`common-utils.c:gf_string2boolean`).
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "on" | "yes" | "true" | "enable" => Ok(true),
        "0" | "off" | "no" | "false" | "disable" => Ok(false),
        _ => Err("on or off, yes or no, true or false, enable or disable, 1 or 0".into()),
    }
}

/// A BOOL, or `auto`.
pub(super) fn direct_io(text: &str) -> Result<DirectIo, String> {
    if text.eq_ignore_ascii_case("auto") {
        return Ok(DirectIo::Auto);
    }
    match boolean(text) {
        Ok(true) => Ok(DirectIo::On),
        Ok(false) => Ok(DirectIo::Off),
        Err(_) => Err("auto, on or off".into()),
    }
}

/// A log level by its GlusterFS name. What tracing cannot tell apart falls together: CRITICAL is logged as ERROR.
pub(super) fn log_level(text: &str) -> Result<LevelFilter, String> {
    match text.to_ascii_uppercase().as_str() {
        "NONE" => Ok(LevelFilter::OFF),
        "CRITICAL" | "ERROR" => Ok(LevelFilter::ERROR),
        "WARNING" => Ok(LevelFilter::WARN),
        "INFO" => Ok(LevelFilter::INFO),
        "DEBUG" => Ok(LevelFilter::DEBUG),
        "TRACE" => Ok(LevelFilter::TRACE),
        _ => Err("one of TRACE, DEBUG, INFO, WARNING, ERROR, CRITICAL, NONE".into()),
    }
}

/// Seconds, with a fraction if need be.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "a number of seconds, 0 or more".into())
}

/// A time limit: more than no time, and at most a day.
pub(super) fn time_limit(text: &str) -> Result<Duration, String> {
    seconds(text)
        .ok()
        .filter(|limit| !limit.is_zero() && *limit <= Duration::from_secs(86_400))
        .ok_or_else(|| "a number of seconds, more than 0 and at most 86400".into())
}

/// `--gid-timeout`: seconds, or -1 for "send no groups".
pub(super) fn gid_timeout(text: &str) -> Result<GidTimeout, String> {
    match text.parse::<i32>() {
        Ok(-1) => Ok(GidTimeout(None)),
        Ok(seconds) if seconds >= 0 => Ok(GidTimeout(Some(Duration::from_secs(seconds.unsigned_abs().into())))),
        _ => Err("a whole number of seconds, or -1 to send no groups".into()),
    }
}

/// Value of `--gid-timeout`; `None`: send no groups. (A type of its own, because clap reads meaning into `Option`.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GidTimeout(pub(super) Option<Duration>);

/// A path inside the volume.
pub(super) fn subdir(text: &str) -> Result<String, String> {
    match text.trim_end_matches('/') {
        trimmed if text.starts_with('/') && !trimmed.is_empty() => Ok(trimmed.into()),
        _ => Err("a path inside the volume that begins with /".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans() {
        for yes in ["1", "on", "YES", "True", "enable"] {
            assert_eq!(boolean(yes), Ok(true), "{yes}");
        }
        for no in ["0", "off", "No", "false", "disable"] {
            assert_eq!(boolean(no), Ok(false), "{no}");
        }
        assert!(boolean("maybe").is_err());
        assert_eq!(direct_io("AUTO"), Ok(DirectIo::Auto));
        assert_eq!(direct_io("enable"), Ok(DirectIo::On));
    }

    #[test]
    fn times() {
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        for wrong in ["", "x", "-1", "nan", "inf", "1e300"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
        assert!(time_limit("0").is_err());
        assert_eq!(gid_timeout("-1"), Ok(GidTimeout(None)));
        assert_eq!(gid_timeout("0"), Ok(GidTimeout(Some(Duration::ZERO))));
        assert!(gid_timeout("-2").is_err());
    }
}
