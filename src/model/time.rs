//! Points in time: RFC 3339 with nanoseconds, as in docker's JSON; and how people write times and durations.

use crate::error::{Error, Result};
use jiff::civil;
use jiff::tz::TimeZone;
use std::time::Duration;

pub(crate) use jiff::Timestamp;

/// A point in time as `--since` and `--until` take it: RFC 3339, a date or a date and time without a zone (in `zone`),
/// Unix seconds with or without a fraction, or a Go duration before `now`.
pub(crate) fn parse_when(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp> {
    let bad = || {
        Error::usage(format!(
            "invalid time '{text}': want RFC 3339, a date, Unix seconds or a duration like 10m"
        ))
    };
    if let Some(ago) = parse_duration(text) {
        return now.checked_sub(ago).map_err(|_| bad());
    }
    if let Some(seconds) = unix_seconds(text) {
        return Timestamp::from_nanosecond(seconds).map_err(|_| bad());
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let (date, offset_utc) = match text.strip_suffix('Z') {
        Some(date) => (date, true),
        None => (text, false),
    };
    let local: civil::DateTime = match date.len() {
        // jiff wants seconds; docker takes hours and minutes too.
        13 => format!("{date}:00:00").parse(),
        16 => format!("{date}:00").parse(),
        _ => date.parse(),
    }
    .map_err(|_| bad())?;
    let zone = if offset_utc { &TimeZone::UTC } else { zone };
    Ok(local.to_zoned(zone.clone()).map_err(|_| bad())?.timestamp())
}

/// `1700000000` or `1700000000.5`, as nanoseconds.
fn unix_seconds(text: &str) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let whole: i64 = whole.parse().ok()?;
    let fraction: i64 = format!("{fraction:0<9}").parse().ok()?;
    Some(i128::from(whole) * 1_000_000_000 + i128::from(fraction))
}

/// Go's duration syntax without a sign: `1h30m`, `1.5s`, `250ms`, `2us`, `7ns`. A bare `0` is no time.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = 0f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let seconds = match &rest[..unit] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += number * seconds;
        rest = &rest[unit..];
    }
    Duration::try_from_secs_f64(total).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_in_gos_syntax() {
        for (text, ms) in [
            ("0", 0),
            ("10m", 600_000),
            ("1h30m", 5_400_000),
            ("1.5s", 1500),
            ("250ms", 250),
            ("1h0.5s", 3_600_500),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for bad in ["", "10", "m", "1d", "-1s", "1s ", "1.2.3s", ".s"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn times_as_people_write_them() {
        let now: Timestamp = "2026-11-21T23:00:00Z".parse().unwrap();
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        for (text, want) in [
            ("2026-11-21T10:00:00Z", "2026-11-21T10:00:00Z"),
            ("2026-11-21T10:00:00.000000007+01:00", "2026-11-21T09:00:00.000000007Z"),
            ("2026-11-21", "2026-11-20T22:00:00Z"),
            ("2026-11-21Z", "2026-11-21T00:00:00Z"),
            ("2026-11-21T10:00:00", "2026-11-21T08:00:00Z"),
            ("2026-11-21T10:00", "2026-11-21T08:00:00Z"),
            ("2026-11-21T10", "2026-11-21T08:00:00Z"),
            ("1136073600", "2006-01-01T00:00:00Z"),
            ("1136073600.000000001", "2006-01-01T00:00:00.000000001Z"),
            ("90m", "2026-11-21T21:30:00Z"),
            ("0", "2026-11-21T23:00:00Z"),
        ] {
            assert_eq!(parse_when(text, now, &zone).unwrap().to_string(), want, "{text}");
        }
        for bad in ["", "yesterday", "2026-13-01", "10 m", "1.2.3", "99999999999999999999"] {
            assert!(parse_when(bad, now, &zone).is_err(), "{bad}");
        }
    }
}
