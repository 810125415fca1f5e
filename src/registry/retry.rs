//! When a request is tried again, and how long that waits: pure decisions.

use std::time::Duration;

/// What went wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// No such host, nobody listens, no route, no answer to a connection attempt.
    Unreachable,
    /// Reset, cut or stalled in the middle.
    Broken,
    /// 429, with the seconds it asked for.
    TooMany { retry_after: Option<u64> },
    /// 408 and 5xx, with the seconds it asked for.
    Status { code: u16, retry_after: Option<u64> },
    /// Trying again would not help.
    Fatal,
}

/// How often it has been tried, and what came of it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    /// Failures since the last byte that was new.
    pub(crate) failures: u32,
    /// Whether any byte came at all.
    pub(crate) some: bool,
}

/// The longest a server may make us wait: hours are for people to decide.
const LONGEST: u64 = 300;

/// How often to try, and how long to wait before each; a time that grows by itself if it is not said.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) attempts: u32,
    pub(crate) delay: Option<Duration>,
}

/// How long to wait before the next attempt; `None` to give up.
pub(crate) fn delay(reason: Reason, progress: Progress, limits: Limits) -> Option<Duration> {
    if progress.failures >= limits.attempts {
        return None;
    }
    let growing = limits
        .delay
        .unwrap_or_else(|| Duration::from_millis(500 << progress.failures.min(5)));
    match reason {
        Reason::Fatal => None,
        // A wrong name or a machine without a network should say so at once.
        Reason::Unreachable if !progress.some => None,
        Reason::Broken if progress.some && progress.failures == 0 => Some(Duration::ZERO),
        Reason::Unreachable | Reason::Broken => Some(growing),
        Reason::TooMany { retry_after } | Reason::Status { retry_after, .. } => match retry_after {
            Some(seconds) if seconds > LONGEST => None,
            Some(seconds) => Some(Duration::from_secs(seconds)),
            None => Some(growing),
        },
    }
}

/// What a status means for another attempt; `None` if it is an answer.
pub(crate) fn of_status(code: u16, retry_after: Option<u64>) -> Option<Reason> {
    match code {
        429 => Some(Reason::TooMany { retry_after }),
        // 501 and 505 will not change.
        408 | 500 | 502 | 503 | 504 | 520..=529 => Some(Reason::Status { code, retry_after }),
        _ => None,
    }
}

/// The seconds of a `Retry-After` header, which is a number or a date (RFC 9110 §10.2.3).
pub(crate) fn retry_after(header: &str, now: jiff::Timestamp) -> Option<u64> {
    let header = header.trim();
    if let Ok(seconds) = header.parse() {
        return Some(seconds);
    }
    let at = jiff::fmt::rfc2822::parse(header).ok()?.timestamp();
    Some(u64::try_from(at.as_second() - now.as_second()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_and_delays() {
        let none = Progress::default();
        let after = |failures| Progress { failures, some: true };
        let busy = |s| Reason::TooMany { retry_after: s };
        for (reason, progress, want) in [
            (Reason::Fatal, after(0), None),
            (Reason::Unreachable, none, None),
            (Reason::Unreachable, after(0), Some(500)),
            (Reason::Broken, none, Some(500)),
            (Reason::Broken, after(0), Some(0)),
            (Reason::Broken, after(1), Some(1000)),
            (Reason::Broken, after(4), Some(8000)),
            (Reason::Broken, after(5), None),
            (busy(Some(7)), none, Some(7000)),
            (busy(Some(301)), none, None),
            (busy(None), none, Some(500)),
            (busy(Some(1)), after(5), None),
        ] {
            let mut limits = Limits {
                attempts: 5,
                delay: None,
            };
            let got = delay(reason, progress, limits).map(|d| d.as_millis());
            assert_eq!(got, want, "{reason:?} {progress:?}");
            // What is asked for takes the place of what grows, and of nothing else.
            limits.delay = Some(Duration::from_millis(3));
            let got = delay(reason, progress, limits).map(|d| d.as_millis());
            let fixed = want.map(|want| {
                if want % 500 == 0 && want != 0 && want != 7000 {
                    3
                } else {
                    want
                }
            });
            assert_eq!(got, fixed, "{reason:?} {progress:?}");
        }
    }

    #[test]
    fn statuses() {
        assert_eq!(of_status(429, Some(1)), Some(Reason::TooMany { retry_after: Some(1) }));
        for code in [500, 502, 503, 504, 522] {
            assert!(of_status(code, None).is_some(), "{code}");
        }
        for code in [200, 206, 401, 403, 404, 416, 501, 505] {
            assert_eq!(of_status(code, None), None, "{code}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for (header, want) in [
            ("3", Some(3)),
            (" 0 ", Some(0)),
            ("Thu, 01 Jan 2026 00:00:10 GMT", Some(10)),
            ("Wed, 31 Dec 2025 00:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            assert_eq!(retry_after(header, now), want, "{header}");
        }
    }
}
