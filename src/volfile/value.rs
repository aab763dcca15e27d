//! Texts of option values to numbers, as `options.c` and `common-utils.c:gf_string2*` read them.
//!
//! All functions return `None` for a text that GlusterFS refuses.

/// A value that is either a share of something or a number of bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PercentOrSize {
    /// Percent, 0 to 100.
    Percent(f64),
    /// Bytes.
    Size(u64),
}

/// `on`, `yes`, `true`, `enable`, `1` and their opposites, in any case.
pub(super) fn boolean(text: &str) -> Option<bool> {
    let is = |words: [&str; 5]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    if is(["1", "on", "yes", "true", "enable"]) {
        Some(true)
    } else if is(["0", "off", "no", "false", "disable"]) {
        Some(false)
    } else {
        None
    }
}

/// A number as strtoll(3) with base 0 reads it: leading blanks, a sign, `0x` for hexadecimal, `0` for octal.
pub(super) fn integer(text: &str) -> Option<i64> {
    let text = text.trim_start();
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        (16, hex)
    } else if digits.len() > 1 && digits.starts_with('0') {
        (8, &digits[1..])
    } else {
        (10, digits)
    };
    // from_str_radix would take a second sign.
    if !digits.starts_with(|first: char| first.is_ascii_hexdigit()) {
        return None;
    }
    let magnitude = i128::from(u64::from_str_radix(digits, radix).ok()?);
    i64::try_from(if negative { -magnitude } else { magnitude }).ok()
}

/// Bytes: a number, perhaps with a fraction, and `B KB MB GB TB PB` in any case (powers of 1024). `K` alone is refused.
pub(super) fn size(text: &str) -> Option<u64> {
    let suffix_at = text.find(|letter: char| letter.is_ascii_alphabetic() && !is_hex(text)).unwrap_or(text.len());
    let (number, suffix) = text.split_at(suffix_at);
    let exponent = ["B", "KB", "MB", "GB", "TB", "PB"].iter().position(|unit| unit.eq_ignore_ascii_case(suffix));
    let shift = match (suffix, exponent) {
        ("", _) => 0,
        (_, Some(exponent)) => 10 * exponent as u32,
        (_, None) => return None,
    };
    let bytes = match integer(number) {
        Some(whole) => u64::try_from(whole).ok()?.checked_mul(1 << shift)?,
        None => {
            let fraction = decimal(number)?;
            let bytes = fraction * (1u64 << shift) as f64;
            // Beyond 2^53 a double has no single bytes anyway.
            (bytes < i64::MAX as f64).then_some(bytes as u64)?
        }
    };
    i64::try_from(bytes).is_ok().then_some(bytes)
}

/// A share of 0 to 100, with or without `%`.
pub(super) fn percent(text: &str) -> Option<f64> {
    let share = decimal(text.strip_suffix('%').unwrap_or(text))?;
    (0.0..=100.0).contains(&share).then_some(share)
}

/// `10%`, `5GB`; a bare number up to 100 is a share.
pub(super) fn percent_or_size(text: &str) -> Option<PercentOrSize> {
    if text.ends_with('%') {
        return percent(text).map(PercentOrSize::Percent);
    }
    match decimal(text) {
        Some(share) if share <= 100.0 => Some(PercentOrSize::Percent(share)),
        _ => size(text).map(PercentOrSize::Size),
    }
}

/// Seconds: a number and `s sec m min h hr d days w wk`; seconds when there is no unit.
pub(super) fn seconds(text: &str) -> Option<u64> {
    let unit_at = text.find(|letter: char| letter.is_ascii_alphabetic() && !is_hex(text)).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let length = match unit {
        "" | "s" | "sec" => 1,
        "m" | "min" => 60,
        "h" | "hr" => 3600,
        "d" | "days" => 86400,
        "w" | "wk" => 604_800,
        _ => return None,
    };
    u64::try_from(integer(number)?).ok()?.checked_mul(length)
}

fn is_hex(text: &str) -> bool {
    text.starts_with("0x") || text.starts_with("0X")
}

/// A plain decimal number that is not negative.
fn decimal(text: &str) -> Option<f64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans() {
        for (text, expected) in [
            ("1", Some(true)),
            ("ON", Some(true)),
            ("Yes", Some(true)),
            ("enable", Some(true)),
            ("off", Some(false)),
            ("disable", Some(false)),
            ("0", Some(false)),
            ("enabled", None),
            ("", None),
            (" on", None),
        ] {
            assert_eq!(boolean(text), expected, "{text:?}");
        }
    }

    #[test]
    fn integers() {
        for (text, expected) in [
            ("10", Some(10)),
            ("0", Some(0)),
            ("  -3", Some(-3)),
            ("+7", Some(7)),
            ("0x10", Some(16)),
            ("-0x10", Some(-16)),
            ("010", Some(8)),
            ("09", None),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("", None),
            ("-", None),
            ("--1", None),
            ("0x+1", None),
            ("1 ", None),
            ("ten", None),
        ] {
            assert_eq!(integer(text), expected, "{text:?}");
        }
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("0", Some(0)),
            ("131072", Some(131_072)),
            ("128KB", Some(131_072)),
            ("5242880B", Some(5_242_880)),
            ("1mb", Some(1 << 20)),
            ("1.5MB", Some(3 << 19)),
            ("0x20", Some(32)),
            ("1PB", Some(1 << 50)),
            ("8191PB", Some(8191 << 50)),
            ("8192PB", None),
            ("99999999999PB", None),
            ("4K", None),
            ("4 KB", None),
            ("-1", None),
            ("KB", None),
            ("", None),
            ("1.5.2MB", None),
        ] {
            assert_eq!(size(text), expected, "{text:?}");
        }
    }

    #[test]
    fn shares() {
        assert_eq!(percent("10%"), Some(10.0));
        assert_eq!(percent("2.5"), Some(2.5));
        assert_eq!(percent("101"), None);
        assert_eq!(percent("10%%"), None);
        assert_eq!(percent_or_size("10%"), Some(PercentOrSize::Percent(10.0)));
        assert_eq!(percent_or_size("100"), Some(PercentOrSize::Percent(100.0)));
        assert_eq!(percent_or_size("101"), Some(PercentOrSize::Size(101)));
        assert_eq!(percent_or_size("1GB"), Some(PercentOrSize::Size(1 << 30)));
        assert_eq!(percent_or_size("120%"), None);
        assert_eq!(percent_or_size("x"), None);
    }

    #[test]
    fn times() {
        for (text, expected) in [
            ("42", Some(42)),
            ("10s", Some(10)),
            ("3min", Some(180)),
            ("2h", Some(7200)),
            ("1days", Some(86400)),
            ("1wk", Some(604_800)),
            ("1day", None),
            ("2hours", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(seconds(text), expected, "{text:?}");
        }
    }
}
