//! The restart policy: whether, and after how long, a container that ended starts again. Pure.

use crate::model::container::RestartPolicy;
use crate::model::state::Exit;
use std::time::Duration;

/// Docker's: 100 ms, doubled with each restart, up to a minute; from the start again after a run of 10 s.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);
pub(crate) const SOUND_RUN: Duration = Duration::from_secs(10);

/// What the policy has counted so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct History {
    /// Restarts since the container was started by a person.
    pub(crate) restarts: u32,
    /// Restarts since the last run of 10 s or more.
    pub(crate) in_a_row: u32,
}

impl History {
    /// The wait of a restart that no policy decides about.
    pub(crate) fn again(&mut self) -> Duration {
        self.restarts += 1;
        FIRST
    }
}

/// `None`: it stays ended.
pub(crate) fn delay(policy: RestartPolicy, exit: &Exit, ran: Duration, history: &mut History) -> Option<Duration> {
    if ran >= SOUND_RUN {
        history.in_a_row = 0;
    }
    let again = match policy {
        RestartPolicy::No => false,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        RestartPolicy::OnFailure { max } => exit.code != 0 && (max == 0 || history.restarts < max),
    };
    if !again || exit.stopped_by_user {
        return None;
    }
    let wait = FIRST
        .saturating_mul(1_u32.checked_shl(history.in_a_row).unwrap_or(u32::MAX))
        .min(LONGEST);
    history.restarts += 1;
    history.in_a_row += 1;
    Some(wait)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn exit(code: u8, stopped_by_user: bool) -> Exit {
        let (signal, error) = (None, String::new());
        let finished = Timestamp::UNIX_EPOCH;
        Exit {
            code,
            signal,
            oom_killed: false,
            started: None,
            finished,
            error,
            stopped_by_user,
            restarts: 0,
        }
    }

    const SHORT: Duration = Duration::from_millis(5);

    #[test]
    fn policies() {
        let once = |policy, exit| delay(policy, &exit, SHORT, &mut History::default()).is_some();
        assert!(!once(RestartPolicy::No, exit(1, false)));
        assert!(once(RestartPolicy::Always, exit(0, false)));
        assert!(!once(RestartPolicy::Always, exit(0, true)));
        assert!(once(RestartPolicy::UnlessStopped, exit(0, false)));
        assert!(!once(RestartPolicy::OnFailure { max: 0 }, exit(0, false)));
        assert!(once(RestartPolicy::OnFailure { max: 0 }, exit(7, false)));
    }

    #[test]
    fn on_failure_counts() {
        let mut history = History::default();
        let mut next = || {
            delay(
                RestartPolicy::OnFailure { max: 2 },
                &exit(1, false),
                SHORT,
                &mut history,
            )
        };
        assert!(next().is_some());
        assert!(next().is_some());
        assert_eq!(next(), None);
    }

    #[test]
    fn the_wait_doubles_up_to_a_minute_and_starts_again() {
        let mut history = History::default();
        let mut next = |ran| {
            delay(RestartPolicy::Always, &exit(1, false), ran, &mut history)
                .unwrap()
                .as_millis()
        };
        assert_eq!([next(SHORT), next(SHORT), next(SHORT)], [100, 200, 400]);
        let long: Vec<_> = (0..40).map(|_| next(SHORT)).collect();
        assert_eq!(long.last(), Some(&60_000));
        assert_eq!(next(SOUND_RUN), 100);
    }
}
