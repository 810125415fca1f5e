//! Health checks: how to ask a container whether it works (`HEALTHCHECK`, `--health-…`), and what the answers were.
//!
//! The JSON of both is docker's (moby api/types/container: `HealthConfig`, `Health`), since image configurations and
//! `inspect` show it.

use crate::model::bytes::ByteString;
use crate::model::image::null_is_default;
use crate::model::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// As an image's configuration has it. Times are nanoseconds; 0 means "inherit", and at last the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct HealthCheck {
    /// `["CMD", …]`, `["CMD-SHELL", line]`, or `["NONE"]`; empty inherits.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub(crate) test: Vec<ByteString>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) timeout: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) start_period: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) start_interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) retries: i64,
}

/// Docker's defaults.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;

impl HealthCheck {
    /// `HEALTHCHECK NONE`, `--no-healthcheck`.
    pub(crate) fn none() -> HealthCheck {
        HealthCheck {
            test: vec!["NONE".into()],
            ..HealthCheck::default()
        }
    }

    /// What this one leaves open is as `image` has it.
    pub(crate) fn or(self, image: Option<&HealthCheck>) -> HealthCheck {
        let Some(image) = image else { return self };
        let number = |own: i64, other: i64| if own == 0 { other } else { own };
        HealthCheck {
            interval: number(self.interval, image.interval),
            timeout: number(self.timeout, image.timeout),
            start_period: number(self.start_period, image.start_period),
            start_interval: number(self.start_interval, image.start_interval),
            retries: number(self.retries, image.retries),
            test: if self.test.is_empty() {
                image.test.clone()
            } else {
                self.test
            },
        }
    }

    /// The words to execute; `None` if there is nothing to ask. `shell` is the image's, if it has one.
    pub(crate) fn argv(&self, shell: &[String]) -> Option<Vec<ByteString>> {
        let (kind, words) = self.test.split_first()?;
        match kind.as_bytes() {
            b"CMD" if !words.is_empty() => Some(words.to_vec()),
            b"CMD-SHELL" if !words.is_empty() => {
                let mut argv: Vec<ByteString> = match shell {
                    [] => vec!["/bin/sh".into(), "-c".into()],
                    shell => shell.iter().map(|word| word.as_str().into()).collect(),
                };
                argv.extend(words.iter().cloned());
                Some(argv)
            }
            _ => None,
        }
    }

    pub(crate) fn interval(&self) -> Duration {
        nanoseconds(self.interval).unwrap_or(INTERVAL)
    }

    pub(crate) fn timeout(&self) -> Duration {
        nanoseconds(self.timeout).unwrap_or(TIMEOUT)
    }

    pub(crate) fn start_period(&self) -> Duration {
        nanoseconds(self.start_period).unwrap_or_default()
    }

    pub(crate) fn start_interval(&self) -> Duration {
        nanoseconds(self.start_interval).unwrap_or(START_INTERVAL)
    }

    /// Failures in a row that make a container unhealthy.
    pub(crate) fn retries(&self) -> u32 {
        u32::try_from(self.retries).ok().filter(|n| *n > 0).unwrap_or(RETRIES)
    }
}

fn nanoseconds(n: i64) -> Option<Duration> {
    u64::try_from(n).ok().filter(|n| *n > 0).map(Duration::from_nanos)
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// The check of one container, merged from image and flags.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HealthConfig {
    pub(crate) check: HealthCheck,
    /// The image's `SHELL`, for `CMD-SHELL`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) shell: Vec<String>,
    #[serde(default, skip_serializing_if = "OnFailure::is_none")]
    pub(crate) on_failure: OnFailure,
    /// Asked instead, until it has said yes; then it is `check`'s turn (podman's startup check).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) startup: Option<StartupCheck>,
    #[serde(default, skip_serializing_if = "HealthLog::is_default")]
    pub(crate) log: HealthLog,
}

/// `--health-log-destination`, `--health-max-log-count`, `--health-max-log-size`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HealthLog {
    pub(crate) destination: Destination,
    /// Results that are kept.
    pub(crate) count: usize,
    /// Bytes of output that are kept of each.
    pub(crate) size: usize,
}

/// Where results go besides `inspect`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Destination {
    #[default]
    Local,
    /// `<id>-healthcheck.log` in this directory.
    Directory(PathBuf),
    /// An event each.
    Events,
}

impl Default for HealthLog {
    fn default() -> Self {
        HealthLog {
            destination: Destination::Local,
            count: 5,
            size: 4096,
        }
    }
}

impl HealthLog {
    /// Results, at most: they are written anew with each.
    pub(crate) const MOST: usize = 1000;
    /// Bytes of one, at most: a report of it fits one message.
    pub(crate) const LONGEST: usize = 8192;

    fn is_default(&self) -> bool {
        *self == HealthLog::default()
    }
}

/// `--health-startup-…`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StartupCheck {
    pub(crate) check: HealthCheck,
    /// Times in a row that it has to succeed.
    pub(crate) successes: u32,
    /// Failures after which the container is started again; 0 never.
    pub(crate) retries: u32,
}

/// `--health-on-failure`: what becomes of a container that is unhealthy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnFailure {
    #[default]
    None,
    /// SIGKILL; its restart policy applies.
    Kill,
    /// Ended as by `stop`, and started again.
    Restart,
    /// Ended as by `stop`.
    Stop,
}

impl OnFailure {
    pub(crate) const NAMES: [(&'static str, OnFailure); 4] = [
        ("none", OnFailure::None),
        ("kill", OnFailure::Kill),
        ("restart", OnFailure::Restart),
        ("stop", OnFailure::Stop),
    ];

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
    fn is_none(&self) -> bool {
        *self == OnFailure::None
    }
}

/// What the answers so far make of a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum HealthStatus {
    #[default]
    Starting,
    Healthy,
    Unhealthy,
}

impl HealthStatus {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            HealthStatus::Starting => "starting",
            HealthStatus::Healthy => "healthy",
            HealthStatus::Unhealthy => "unhealthy",
        }
    }
}

/// `.State.Health`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct HealthState {
    pub(crate) status: HealthStatus,
    /// Failures since the last success.
    pub(crate) failing_streak: u32,
    /// The last ones ([`HealthLog::count`]), oldest first.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) log: Vec<HealthResult>,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct HealthResult {
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
    /// 0 is healthy; -1 if it took too long or could not be asked.
    pub(crate) exit_code: i32,
    pub(crate) output: String,
}

impl HealthState {
    /// Takes an answer into account; whether the status is another one now. In the `grace` of the start period failures
    /// don't count.
    pub(crate) fn take(&mut self, result: &HealthResult, retries: u32, grace: bool) -> bool {
        let before = self.status;
        if result.exit_code == 0 {
            self.status = HealthStatus::Healthy;
            self.failing_streak = 0;
        } else if !(grace && before == HealthStatus::Starting) {
            self.failing_streak = self.failing_streak.saturating_add(1);
            if self.failing_streak >= retries {
                self.status = HealthStatus::Unhealthy;
            }
        }
        self.status != before
    }

    /// Adds to the results, of which so many are kept.
    pub(crate) fn keep(&mut self, result: HealthResult, count: usize) {
        self.log.push(result);
        let surplus = self.log.len().saturating_sub(count);
        self.log.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(exit_code: i32) -> HealthResult {
        HealthResult {
            start: Timestamp::UNIX_EPOCH,
            end: Timestamp::UNIX_EPOCH,
            exit_code,
            output: String::new(),
        }
    }

    #[test]
    fn docker_json_both_ways() {
        let json = r#"{"Test":["CMD-SHELL","true"],"Interval":1000000000,"StartInterval":5,"Retries":2}"#;
        let check: HealthCheck = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&check).unwrap(), json);
        assert_eq!((check.interval(), check.timeout()), (Duration::from_secs(1), TIMEOUT));
        let null: HealthCheck = serde_json::from_str(r#"{"Test":null}"#).unwrap();
        assert_eq!(null, HealthCheck::default());
        let state = HealthState {
            status: HealthStatus::Healthy,
            failing_streak: 0,
            log: vec![answer(0)],
        };
        assert_eq!(
            serde_json::to_string(&state).unwrap(),
            r#"{"Status":"healthy","FailingStreak":0,"Log":[{"Start":"1970-01-01T00:00:00Z","End":"1970-01-01T00:00:00Z","ExitCode":0,"Output":""}]}"#
        );
    }

    #[test]
    fn flags_win_field_by_field() {
        let image = HealthCheck {
            test: vec!["CMD".into(), "a".into()],
            interval: 7,
            ..HealthCheck::default()
        };
        let own = HealthCheck {
            retries: 9,
            ..HealthCheck::default()
        };
        let merged = own.clone().or(Some(&image));
        assert_eq!((merged.interval, merged.retries, merged.test.len()), (7, 9, 2));
        assert_eq!(own.clone().or(None), own);
        assert!(HealthCheck::none().or(Some(&image)).argv(&[]).is_none());
    }

    #[test]
    fn words_to_execute() {
        let check = |words: &[&str]| HealthCheck {
            test: words.iter().map(|w| ByteString::from(*w)).collect(),
            ..HealthCheck::default()
        };
        let shell = ["/bin/bash".to_owned(), "-ec".to_owned()];
        for (test, shell, want) in [
            (&["CMD", "a", "b"][..], &[][..], Some("a b")),
            (&["CMD-SHELL", "x y"], &[], Some("/bin/sh -c x y")),
            (&["CMD-SHELL", "x y"], &shell, Some("/bin/bash -ec x y")),
            (&["NONE"], &[], None),
            (&["CMD"], &[], None),
            (&["what", "x"], &[], None),
            (&[], &[], None),
        ] {
            let argv = check(test).argv(shell);
            let text = argv.map(|words| {
                let words: Vec<_> = words.iter().map(|w| w.to_string_lossy().into_owned()).collect();
                words.join(" ")
            });
            assert_eq!(text.as_deref(), want, "{test:?}");
        }
    }

    #[test]
    fn three_failures_are_unhealthy_and_one_success_is_healthy() {
        let mut state = HealthState::default();
        let mut told = Vec::new();
        for (code, grace) in [
            (1, true),
            (1, false),
            (1, false),
            (0, false),
            (1, false),
            (1, false),
            (1, false),
            (1, false),
            (0, true),
        ] {
            if state.take(&answer(code), 3, grace) {
                told.push(state.status.as_str());
            }
            state.keep(answer(code), 5);
        }
        assert_eq!(told, ["healthy", "unhealthy", "healthy"]);
        assert_eq!(state.log.len(), 5);
        // Once it has been healthy, the start period is no excuse.
        assert!(state.take(&answer(1), 1, true));
    }
}
