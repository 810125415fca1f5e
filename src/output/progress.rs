//! How pull, push and load look while they work: bars on a terminal, docker's plain lines otherwise, nothing when quiet.
//! Bars go to stderr, so that stdout has only what is asked for.

use crate::image::progress::{Event, Progress, Step};
use crate::output::terminal::clean;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::HashMap;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};

/// Where the lines of the command's own output go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    Stdout,
    /// Of a command whose stdout is a program's.
    Stderr,
}

/// Finished layers of larger images make room, or the bars would not fit on the screen.
const MOST_BARS: usize = 16;
const MOVING: &str = "{prefix}: {msg} [{bar:30}] {bytes}/{total_bytes}";
const COUNTING: &str = "{prefix}: {msg} {bytes}";
const STILL: &str = "{prefix}: {msg}";

/// For a command that was told to be quiet or not.
pub(crate) fn for_command(quiet: bool, to: To) -> Box<dyn Progress> {
    match () {
        () if quiet => Box::new(Quiet),
        () if std::io::stderr().is_terminal() && (to == To::Stderr || std::io::stdout().is_terminal()) => {
            Box::new(Bars::new(to))
        }
        () => Box::new(Lines { to }),
    }
}

/// Plain lines, whatever the terminal.
pub(crate) fn lines(to: To) -> Box<dyn Progress> {
    Box::new(Lines { to })
}

/// Nothing but what has to be known.
struct Quiet;

impl Progress for Quiet {
    fn event(&self, event: Event<'_>) {
        if let Event::Notice(text) = event {
            notice(text);
        }
    }
}

/// Whoever reads them may be gone; the work goes on.
fn line(to: To, text: &str) {
    let _ = match to {
        To::Stdout => writeln!(std::io::stdout().lock(), "{}", clean(text)),
        To::Stderr => writeln!(std::io::stderr().lock(), "{}", clean(text)),
    };
}

fn notice(text: &str) {
    line(To::Stderr, text);
}

struct Lines {
    to: To,
}

impl Progress for Lines {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Line(text) => line(self.to, text),
            Event::Notice(text) => notice(text),
            Event::Layer { id, step } => {
                if !matches!(
                    step,
                    Step::Downloading { .. } | Step::Pushing { .. } | Step::Loading { .. } | Step::Loaded
                ) {
                    line(self.to, &format!("{id}: {}", words(step)));
                }
            }
        }
    }
}

/// Docker's words.
fn words(step: Step<'_>) -> String {
    match step {
        Step::Waiting => "Pulling fs layer".to_owned(),
        Step::Elsewhere => "Layer already being pulled by another client. Waiting.".to_owned(),
        Step::Downloading { .. } => "Downloading".to_owned(),
        Step::Downloaded => "Download complete".to_owned(),
        Step::Complete => "Pull complete".to_owned(),
        Step::Exists => "Already exists".to_owned(),
        Step::Preparing => "Preparing".to_owned(),
        Step::Pushing { .. } => "Pushing".to_owned(),
        Step::Pushed => "Pushed".to_owned(),
        Step::PushExists => "Layer already exists".to_owned(),
        Step::Mounted(from) => format!("Mounted from {from}"),
        Step::Loading { .. } => "Loading layer".to_owned(),
        Step::Loaded => "Loaded".to_owned(),
    }
}

struct Bars {
    to: To,
    all: MultiProgress,
    layers: Mutex<HashMap<String, ProgressBar>>,
}

impl Bars {
    fn new(to: To) -> Bars {
        Bars {
            to,
            all: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()),
            layers: Mutex::new(HashMap::new()),
        }
    }

    fn layer(&self, id: &str, step: Step<'_>) {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = layers.entry(id.to_owned()).or_insert_with(|| {
            let bar = self.all.add(ProgressBar::new(0));
            bar.set_prefix(id.to_owned());
            bar.set_style(style(STILL));
            bar
        });
        let amount = match step {
            Step::Downloading { done, total } | Step::Loading { done, total } | Step::Pushing { done, total } => {
                Some((done, total))
            }
            _ => None,
        };
        match amount {
            Some((done, total)) => {
                // The style is set once: setting it each time would draw each time.
                let length = total.unwrap_or(0);
                if bar.length() != Some(length) || bar.message().is_empty() || bar.position() == 0 {
                    bar.set_style(style(if total.is_some() { MOVING } else { COUNTING }));
                    bar.set_length(length);
                    bar.set_message(words(step));
                }
                bar.set_position(done);
            }
            None => {
                bar.set_style(style(STILL));
                bar.set_message(words(step));
            }
        }
        let finished = matches!(
            step,
            Step::Complete | Step::Exists | Step::Pushed | Step::PushExists | Step::Mounted(_) | Step::Loaded
        );
        if finished {
            bar.abandon();
            if layers.len() > MOST_BARS
                && let Some(bar) = layers.remove(id)
            {
                bar.finish_and_clear();
                self.all.remove(&bar);
            }
        }
    }
}

impl Progress for Bars {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Line(text) => self.all.suspend(|| line(self.to, text)),
            Event::Notice(text) => self.all.suspend(|| notice(text)),
            Event::Layer { id, step } => self.layer(id, step),
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .map(|style| style.progress_chars("=> "))
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_well_formed_and_words_are_docker_s() {
        for template in [MOVING, COUNTING, STILL] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
        assert_eq!(words(Step::Mounted("library/x")), "Mounted from library/x");
        assert_eq!(words(Step::PushExists), "Layer already exists");
    }

    #[test]
    fn bars_take_every_step() {
        let bars = Bars {
            to: To::Stderr,
            all: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
            layers: Mutex::new(HashMap::new()),
        };
        for n in 0..40_u64 {
            let id = format!("{n:012}");
            for step in [
                Step::Waiting,
                Step::Downloading {
                    done: 1,
                    total: Some(2),
                },
                Step::Downloaded,
                Step::Complete,
            ] {
                bars.event(Event::Layer { id: &id, step });
            }
        }
        assert!(bars.layers.lock().unwrap().len() <= MOST_BARS);
    }
}
