//! Sizes and spans of time as people read them, in docker's words.

use std::time::Duration;

const DECIMAL: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
const BINARY: [&str; 9] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];

/// In powers of 1000, with at most three significant digits: `1.02kB`, `72.8MB`.
pub(crate) fn size(bytes: u64) -> String {
    scaled(bytes, 1000.0, &DECIMAL, 3)
}

/// In powers of 1024, with at most four significant digits: `7.637GiB`.
pub(crate) fn binary_size(bytes: u64) -> String {
    scaled(bytes, 1024.0, &BINARY, 4)
}

fn scaled(bytes: u64, base: f64, units: &[&str], digits: i32) -> String {
    // Exact up to 2^53, and more digits than are shown beyond.
    #[allow(clippy::cast_precision_loss)]
    let mut value = bytes as f64;
    let mut unit = 0;
    loop {
        let before_point = if value >= 1000.0 {
            4
        } else {
            1 + i32::from(value >= 10.0) + i32::from(value >= 100.0)
        };
        let scale = 10f64.powi(digits - before_point);
        let rounded = (value * scale).round() / scale;
        if rounded < base || unit + 1 == units.len() {
            return format!("{rounded}{}", units[unit]);
        }
        value /= base;
        unit += 1;
    }
}

/// `About an hour`, `3 weeks`: one unit, rounded down.
pub(crate) fn duration(span: Duration) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    let seconds = span.as_secs();
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..MINUTE => format!("{seconds} seconds"),
        MINUTE..120 => "About a minute".to_owned(),
        120..HOUR => format!("{} minutes", seconds / MINUTE),
        HOUR..7200 => "About an hour".to_owned(),
        7200..172_800 => format!("{} hours", seconds / HOUR),
        _ => match seconds / DAY {
            days @ 0..14 => format!("{days} days"),
            days @ 14..90 => format!("{} weeks", days / 7),
            days @ 90..730 => format!("{} months", days / 30),
            days => {
                let tenths = days * 10 / 365;
                match tenths % 10 {
                    0 => format!("{} years", tenths / 10),
                    tenth => format!("{}.{tenth} years", tenths / 10),
                }
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1024, "1.02kB"),
            (999_499, "999kB"),
            (999_999, "1MB"),
            (72_800_000, "72.8MB"),
            (117_000_000, "117MB"),
            (5_500_000_000, "5.5GB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        for (bytes, text) in [
            (1023, "1023B"),
            (1024, "1KiB"),
            (8_200_000_000, "7.637GiB"),
            (1_048_575, "1MiB"),
        ] {
            assert_eq!(binary_size(bytes), text);
        }
    }

    #[test]
    fn durations() {
        let day = 86_400;
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (45, "45 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (180, "3 minutes"),
            (3600, "About an hour"),
            (3 * 3600, "3 hours"),
            (47 * 3600, "47 hours"),
            (2 * day, "2 days"),
            (13 * day, "13 days"),
            (14 * day, "2 weeks"),
            (89 * day, "12 weeks"),
            (90 * day, "3 months"),
            (729 * day, "24 months"),
            (730 * day, "2 years"),
            (912 * day, "2.4 years"),
            (36_500 * day, "100 years"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
    }
}
