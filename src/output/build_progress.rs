//! How a build looks while it works. Plain is what docker's classic builder says, line for line, so that what looks for
//! `Step 3/7 :` or `Successfully built` finds it; where several stages are built, each line begins with its stage.
//! On a terminal there is one moving line for each stage at work, and the rest goes by above it.

use crate::build::compat;
use crate::build::progress::{Change, Event, Outline, Progress, StepNumber, Stream};
use crate::error::{Error, Result};
use crate::model::digest::Digest;
use crate::model::reference::Reference;
use crate::model::time::Timestamp;
use crate::output::progress::{self, To};
use crate::output::terminal::clean;
use base64::Engine as _;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// `--progress`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    #[default]
    Auto,
    Plain,
    Tty,
    Quiet,
    RawJson,
}

impl FromStr for Mode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Mode> {
        Ok(match text {
            "" | "auto" => Mode::Auto,
            "plain" => Mode::Plain,
            "tty" => Mode::Tty,
            "quiet" | "none" => Mode::Quiet,
            "rawjson" => Mode::RawJson,
            other => {
                return Err(Error::usage(format!("invalid --progress '{other}'"))
                    .with_hint("there are auto, plain, tty, quiet and rawjson"));
            }
        })
    }
}

/// Draws as asked; `to` is where plain lines go.
pub(crate) fn for_command(mode: Mode, to: To) -> Box<dyn Progress> {
    let dumb = std::env::var_os("TERM").is_none_or(|t| t == "dumb");
    match mode {
        Mode::Auto if std::io::stderr().is_terminal() && !dumb => Box::new(Bars::new(ProgressDrawTarget::stderr())),
        Mode::Tty => Box::new(Bars::new(ProgressDrawTarget::stderr())),
        Mode::Auto | Mode::Plain => Box::new(Plain::new(Sink::Streams(to))),
        Mode::Quiet => Box::new(Quiet::default()),
        Mode::RawJson => Box::new(RawJson {
            steps: Mutex::default(),
        }),
    }
}

/// Whoever reads may be gone; the build goes on.
fn write(stream: Stream, bytes: &[u8]) {
    let _ = match stream {
        Stream::Stdout => {
            let mut out = std::io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush())
        }
        Stream::Stderr => std::io::stderr().lock().write_all(bytes),
    };
}

fn notice(text: &str) {
    write(Stream::Stderr, format!("{}\n", clean(text)).as_bytes());
}

/// Only what must be known: of a step that fails, what it has said.
#[derive(Default)]
struct Quiet {
    tails: Mutex<BTreeMap<StepNumber, Vec<u8>>>,
}

/// Bytes of a failed step's output that `-q` shows.
const QUIET_TAIL: usize = 16 << 10;

impl Progress for Quiet {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Step { step, change } => {
                let mut tails = locked(&self.tails);
                match change {
                    Change::Output { bytes, .. } => {
                        let tail = tails.entry(step).or_default();
                        tail.extend_from_slice(bytes);
                        let much = tail.len().saturating_sub(QUIET_TAIL);
                        tail.drain(..much);
                    }
                    Change::Failed(_) => {
                        let mut tail = tails.remove(&step).unwrap_or_default();
                        if tail.last().is_some_and(|b| *b != b'\n') {
                            tail.push(b'\n');
                        }
                        write(Stream::Stderr, &fit(Stream::Stderr, &tail));
                    }
                    Change::Done { .. } | Change::Cached | Change::Canceled => drop(tails.remove(&step)),
                    _ => {}
                }
            }
            Event::Notice(text) | Event::Image(crate::image::progress::Event::Notice(text)) => notice(text),
            _ => {}
        }
    }
}

/// What is known of the steps so far.
#[derive(Default)]
struct Steps {
    outline: Outline,
    /// Output of each stage that is not a whole line yet.
    partial: BTreeMap<(usize, bool), Vec<u8>>,
}

impl Steps {
    fn total(&self) -> usize {
        self.outline.stages.iter().map(|s| s.steps.len()).sum()
    }

    /// Counted through all stages, from 1.
    fn number(&self, step: StepNumber) -> usize {
        let before = self.outline.stages.iter().take(step.stage).map(|s| s.steps.len());
        before.sum::<usize>() + step.step + 1
    }

    fn text(&self, step: StepNumber) -> &str {
        let stage = self.outline.stages.get(step.stage);
        stage.and_then(|s| s.steps.get(step.step)).map_or("", String::as_str)
    }

    /// `build`, `2`, or `build linux/arm64`; nothing where there is only one stage.
    fn stage(&self, stage: usize) -> Option<String> {
        if self.outline.stages.len() < 2 {
            return None;
        }
        let stage = self.outline.stages.get(stage)?;
        let name = stage.name.clone().unwrap_or_else(|| stage.index.to_string());
        Some(match &stage.platform {
            Some(platform) => format!("{name} {platform}"),
            None => name,
        })
    }

    /// `[build 2/4] RUN make`: as BuildKit's output names a step.
    fn title(&self, step: StepNumber) -> String {
        let total = self.outline.stages.get(step.stage).map_or(0, |s| s.steps.len());
        let name = self.stage(step.stage).map(|n| n + " ").unwrap_or_default();
        let text = clean(self.text(step)).into_owned();
        format!("[{name}{}/{total}] {text}", step.step + 1)
    }

    /// The whole lines that `bytes` complete; a line that is far too long is passed on in pieces.
    fn lines(&mut self, stage: usize, stream: Stream, bytes: &[u8]) -> Vec<Vec<u8>> {
        let rest = self.partial.entry((stage, stream == Stream::Stdout)).or_default();
        rest.extend_from_slice(bytes);
        let mut whole = Vec::new();
        while let Some(at) = rest.iter().position(|b| *b == b'\n') {
            whole.push(rest.drain(..=at).collect());
        }
        if rest.len() > LONGEST_LINE {
            let mut piece = std::mem::take(rest);
            piece.push(b'\n');
            whole.push(piece);
        }
        whole
    }

    /// What was left without a line's end.
    fn rest(&mut self, stage: usize) -> Vec<(Stream, Vec<u8>)> {
        let mut all = Vec::new();
        for stream in [Stream::Stdout, Stream::Stderr] {
            if let Some(mut rest) = self
                .partial
                .remove(&(stage, stream == Stream::Stdout))
                .filter(|r| !r.is_empty())
            {
                rest.push(b'\n');
                all.push((stream, rest));
            }
        }
        all
    }
}

const LONGEST_LINE: usize = 32 << 10;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

enum Sink {
    Streams(To),
    /// For tests.
    #[cfg(test)]
    Memory(Mutex<Vec<u8>>),
}

struct Plain {
    sink: Sink,
    steps: Mutex<Steps>,
    images: Box<dyn crate::image::progress::Progress>,
}

impl Plain {
    fn new(sink: Sink) -> Plain {
        let to = match &sink {
            Sink::Streams(to) => *to,
            #[cfg(test)]
            Sink::Memory(_) => To::Stderr,
        };
        Plain {
            sink,
            steps: Mutex::default(),
            images: progress::lines(to),
        }
    }

    fn put(&self, stream: Stream, bytes: &[u8]) {
        match &self.sink {
            Sink::Streams(To::Stdout) => write(stream, &fit(stream, bytes)),
            Sink::Streams(To::Stderr) => write(Stream::Stderr, &fit(Stream::Stderr, bytes)),
            #[cfg(test)]
            Sink::Memory(text) => locked(text).extend_from_slice(bytes),
        }
    }

    /// A line of the builder's own.
    fn line(&self, stage: Option<String>, text: &str) {
        let prefix = stage.map(|s| format!("[{s}] ")).unwrap_or_default();
        self.put(Stream::Stdout, format!("{prefix}{}\n", clean(text)).as_bytes());
    }

    fn step(&self, steps: &mut Steps, step: StepNumber, change: &Change<'_>) {
        let stage = steps.stage(step.stage);
        let say = |text: &str| self.line(stage.clone(), text);
        let headline = |steps: &Steps| compat::step(steps.number(step), steps.total(), steps.text(step));
        match change {
            Change::Started => say(&headline(steps)),
            Change::Running(container) => say(&compat::running_in(container)),
            Change::Output { stream, bytes } => match &stage {
                None => self.put(*stream, bytes),
                Some(name) => {
                    for line in steps.lines(step.stage, *stream, bytes) {
                        self.put(*stream, &[format!("[{name}] ").as_bytes(), &line[..]].concat());
                    }
                }
            },
            Change::Transfer { .. } | Change::Canceled => {}
            Change::Removed(container) => say(&compat::removing(container)),
            Change::Cached => say(compat::USING_CACHE),
            Change::Done { id, .. } => {
                if let Some(id) = id {
                    say(&compat::arrow(id));
                }
            }
            // main says what went wrong.
            Change::Failed(_) => {}
        }
    }
}

/// Other people's bytes on a terminal; anywhere else they stay as they are.
fn fit(stream: Stream, bytes: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    let terminal = match stream {
        Stream::Stdout => std::io::stdout().is_terminal(),
        Stream::Stderr => std::io::stderr().is_terminal(),
    };
    if !terminal {
        return bytes.into();
    }
    let text = String::from_utf8_lossy(bytes);
    // Programs rewrite their own line with it.
    let text = text.replace('\r', "\n");
    crate::output::terminal::clean_lines(&text)
        .into_owned()
        .into_bytes()
        .into()
}

impl Progress for Plain {
    fn event(&self, event: Event<'_>) {
        let mut steps = locked(&self.steps);
        match event {
            Event::Plan(outline) => outline.clone_into(&mut steps.outline),
            Event::Step { step, change } => {
                if matches!(
                    change,
                    Change::Done { .. } | Change::Failed(_) | Change::Canceled | Change::Removed(_)
                ) && let Some(name) = steps.stage(step.stage)
                {
                    for (stream, rest) in steps.rest(step.stage) {
                        self.put(stream, &[format!("[{name}] ").as_bytes(), &rest[..]].concat());
                    }
                }
                self.step(&mut steps, step, &change);
            }
            Event::Line(text) => self.line(None, text),
            Event::Notice(text) | Event::Warning(text) => notice(text),
            Event::Image(event) => self.images.event(event),
            Event::Built { id, names } => {
                for line in ending(id, names) {
                    self.line(None, &line);
                }
            }
        }
    }
}

/// `Successfully built …`.
fn ending(id: Option<&str>, names: &[Reference]) -> Vec<String> {
    let built = id.map(compat::built);
    let tagged = names.iter().map(|name| compat::tagged(&name.to_string()));
    built.into_iter().chain(tagged).collect()
}

/// How many lines of a failed step's output are shown again.
const SHOWN_AGAIN: usize = 20;

struct Bars {
    all: MultiProgress,
    state: Mutex<BarState>,
    images: Box<dyn crate::image::progress::Progress>,
}

#[derive(Default)]
struct BarState {
    steps: Steps,
    /// The moving lines of each stage at work.
    bars: BTreeMap<usize, StageBars>,
    /// The last lines that each stage's step has written.
    tails: BTreeMap<usize, Vec<String>>,
}

/// What a stage is doing, and the last that it said.
struct StageBars {
    title: ProgressBar,
    said: ProgressBar,
}

/// How often the moving lines move.
const PACE: Duration = Duration::from_millis(120);

impl Bars {
    fn new(target: ProgressDrawTarget) -> Bars {
        Bars {
            all: MultiProgress::with_draw_target(target),
            state: Mutex::default(),
            images: progress::lines(To::Stderr),
        }
    }

    fn say(&self, text: &str) {
        self.all
            .suspend(|| write(Stream::Stderr, format!("{text}\n").as_bytes()));
    }

    fn bar<'s>(&self, state: &'s mut BarState, stage: usize) -> &'s StageBars {
        let title = state.steps.stage(stage).unwrap_or_default();
        state.bars.entry(stage).or_insert_with(|| {
            let new = |template: &str, text: String| {
                let bar = ProgressBar::new_spinner().with_message(text);
                // The template is ours, and good.
                bar.set_style(
                    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner()),
                );
                self.all.add(bar)
            };
            StageBars {
                title: new("{spinner} {wide_msg} {elapsed}", title),
                said: new("    {wide_msg}", String::new()),
            }
        })
    }

    fn end(&self, state: &mut BarState, stage: usize) {
        if let Some(bars) = state.bars.remove(&stage) {
            for bar in [bars.said, bars.title] {
                bar.finish_and_clear();
                self.all.remove(&bar);
            }
        }
        state.tails.remove(&stage);
    }

    fn step(&self, state: &mut BarState, step: StepNumber, change: &Change<'_>) {
        let title = state.steps.title(step);
        match change {
            Change::Started => {
                let bars = self.bar(state, step.stage);
                bars.title.set_message(title);
                bars.title.reset_elapsed();
                bars.said.set_message(String::new());
            }
            Change::Output { stream, bytes } => {
                for line in state.steps.lines(step.stage, *stream, bytes) {
                    let text = String::from_utf8_lossy(&line);
                    let text = text.trim_end().rsplit('\r').next().unwrap_or_default();
                    let text = clean(text).into_owned();
                    self.bar(state, step.stage).said.set_message(text.clone());
                    let tail = state.tails.entry(step.stage).or_default();
                    tail.push(text);
                    if tail.len() > SHOWN_AGAIN {
                        tail.remove(0);
                    }
                }
            }
            Change::Transfer { what, done, total } => {
                let text = match total {
                    Some(total) => format!("{what} {} of {}", size(*done), size(*total)),
                    None => format!("{what} {}", size(*done)),
                };
                self.bar(state, step.stage).said.set_message(text);
            }
            Change::Running(_) | Change::Removed(_) => {}
            Change::Cached => {
                self.say(&format!(" => CACHED {title}"));
                self.end(state, step.stage);
            }
            Change::Done { took, .. } => {
                self.say(&format!(" => {title}  {:.1}s", took.as_secs_f64()));
                self.end(state, step.stage);
            }
            Change::Failed(_) => {
                let mut lines = state.tails.remove(&step.stage).unwrap_or_default();
                for (_, rest) in state.steps.rest(step.stage) {
                    lines.push(clean(String::from_utf8_lossy(&rest).trim_end()).into_owned());
                }
                self.say(&format!(" => ERROR {title}"));
                for line in lines {
                    self.say(&format!("    | {line}"));
                }
                self.end(state, step.stage);
            }
            Change::Canceled => {
                self.say(&format!(" => CANCELED {title}"));
                self.end(state, step.stage);
            }
        }
    }
}

fn size(bytes: u64) -> String {
    crate::output::units::size(bytes)
}

impl Progress for Bars {
    fn pace(&self) -> Option<Duration> {
        Some(PACE)
    }

    fn tick(&self) {
        for bars in locked(&self.state).bars.values() {
            bars.title.tick();
        }
    }

    fn event(&self, event: Event<'_>) {
        let mut state = locked(&self.state);
        match event {
            Event::Plan(outline) => outline.clone_into(&mut state.steps.outline),
            Event::Step { step, change } => self.step(&mut state, step, &change),
            Event::Line(text) | Event::Notice(text) | Event::Warning(text) => self.say(&clean(text)),
            Event::Image(event) => self.all.suspend(|| self.images.event(event)),
            Event::Built { id, names } => {
                for line in ending(id, names) {
                    self.say(&clean(&line));
                }
            }
        }
    }
}

/// One JSON object a line on stderr, in the shape of BuildKit's status.
struct RawJson {
    steps: Mutex<Steps>,
}

impl RawJson {
    /// A name that stays the same for the whole build.
    fn vertex(steps: &Steps, step: StepNumber) -> (String, String) {
        let title = steps.title(step);
        let seed = format!("{} {} {title}", step.stage, step.step);
        (Digest::of(seed.as_bytes()).to_string(), title)
    }
}

impl Progress for RawJson {
    fn event(&self, event: Event<'_>) {
        let now = || Timestamp::now().to_string();
        let mut steps = locked(&self.steps);
        let value = match event {
            Event::Plan(outline) => {
                outline.clone_into(&mut steps.outline);
                let mut all = Vec::new();
                for (stage, outlined) in outline.stages.iter().enumerate() {
                    for step in 0..outlined.steps.len() {
                        let (digest, name) = RawJson::vertex(&steps, StepNumber { stage, step });
                        all.push(json!({"digest": digest, "name": name}));
                    }
                }
                json!({"vertexes": all})
            }
            Event::Step { step, change } => {
                let (digest, name) = RawJson::vertex(&steps, step);
                let mut vertex = json!({"digest": digest, "name": name});
                match change {
                    Change::Started => vertex["started"] = now().into(),
                    Change::Done { .. } => vertex["completed"] = now().into(),
                    Change::Cached => {
                        vertex["cached"] = true.into();
                        vertex["completed"] = now().into();
                    }
                    Change::Failed(error) => {
                        vertex["error"] = error.to_string().into();
                        vertex["completed"] = now().into();
                    }
                    Change::Canceled => {
                        vertex["error"] = "context canceled".into();
                        vertex["completed"] = now().into();
                    }
                    Change::Output { stream, bytes } => {
                        let number = if stream == Stream::Stdout { 1 } else { 2 };
                        let data = base64::engine::general_purpose::STANDARD.encode(bytes);
                        return print(
                            &json!({"logs": [{"vertex": digest, "stream": number, "data": data, "timestamp": now()}]}),
                        );
                    }
                    Change::Transfer { what, done, total } => {
                        return print(&json!({"statuses": [{"id": what, "vertex": digest, "current": done,
                            "total": total, "timestamp": now()}]}));
                    }
                    Change::Running(_) | Change::Removed(_) => return,
                }
                json!({"vertexes": [vertex]})
            }
            Event::Line(text) | Event::Notice(text) | Event::Warning(text) => {
                let short = base64::engine::general_purpose::STANDARD.encode(text);
                json!({"warnings": [{"level": 1, "short": short}]})
            }
            Event::Image(_) => return,
            Event::Built { id, names } => {
                let names: Vec<String> = names.iter().map(ToString::to_string).collect();
                json!({"result": {"image": id, "names": names}})
            }
        };
        print(&value);
    }
}

fn print(value: &serde_json::Value) {
    write(Stream::Stderr, format!("{value}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::progress::OutlineStage;

    fn outline(stages: &[(&str, &[&str])]) -> Outline {
        let stages = stages.iter().enumerate().map(|(index, (name, steps))| OutlineStage {
            index,
            name: (!name.is_empty()).then(|| (*name).to_owned()),
            platform: None,
            steps: steps.iter().map(|s| (*s).to_owned()).collect(),
        });
        Outline {
            stages: stages.collect(),
        }
    }

    fn at(stage: usize, step: usize, change: Change<'_>) -> Event<'_> {
        Event::Step {
            step: StepNumber { stage, step },
            change,
        }
    }

    fn out(bytes: &'static [u8]) -> Change<'static> {
        Change::Output {
            stream: Stream::Stdout,
            bytes,
        }
    }

    fn text(plain: &Plain) -> String {
        let Sink::Memory(text) = &plain.sink else { panic!() };
        String::from_utf8(locked(text).clone()).unwrap()
    }

    #[test]
    fn one_stage_speaks_as_docker_does() {
        let plain = Plain::new(Sink::Memory(Mutex::default()));
        let plan = outline(&[("", &["FROM a", "RUN b", "CMD c"])]);
        let id = "0123456789abcdef";
        let took = Duration::ZERO;
        plain.event(Event::Plan(&plan));
        plain.event(at(0, 0, Change::Started));
        plain.event(at(0, 0, Change::Done { id: Some(id), took }));
        plain.event(at(0, 1, Change::Started));
        plain.event(at(0, 1, Change::Running("fedcba9876543210")));
        plain.event(at(0, 1, out(b"hello\nwor")));
        plain.event(at(0, 1, out(b"ld\n")));
        plain.event(at(0, 1, Change::Removed("fedcba9876543210")));
        plain.event(at(0, 1, Change::Done { id: None, took }));
        plain.event(at(0, 2, Change::Started));
        plain.event(at(0, 2, Change::Cached));
        let name = Reference::parse("x/y").unwrap().or_latest();
        plain.event(Event::Built {
            id: Some(id),
            names: &[name],
        });
        assert_eq!(
            text(&plain),
            "Step 1/3 : FROM a\n ---> 0123456789ab\nStep 2/3 : RUN b\n ---> Running in fedcba987654\nhello\nworld\n\
             Removing intermediate container fedcba987654\nStep 3/3 : CMD c\n ---> Using cache\n\
             Successfully built 0123456789ab\nSuccessfully tagged x/y:latest\n"
        );
    }

    #[test]
    fn several_stages_stay_apart() {
        let plain = Plain::new(Sink::Memory(Mutex::default()));
        let plan = outline(&[("one", &["FROM a", "RUN b"]), ("", &["FROM c", "RUN d"])]);
        plain.event(Event::Plan(&plan));
        plain.event(at(0, 1, Change::Started));
        plain.event(at(1, 1, Change::Started));
        plain.event(at(0, 1, out(b"x1")));
        plain.event(at(1, 1, out(b"y1\ny2")));
        plain.event(at(0, 1, out(b"\n")));
        plain.event(at(1, 1, Change::Failed(&Error::other("no"))));
        assert_eq!(
            text(&plain),
            "[one] Step 2/4 : RUN b\n[1] Step 4/4 : RUN d\n[1] y1\n[one] x1\n[1] y2\n"
        );
    }

    #[test]
    fn every_look_takes_every_event() {
        let plan = outline(&[("a", &["FROM a\u{1b}[2J", "RUN b"]), ("b", &["FROM c"])]);
        let error = Error::other("x");
        let looks: [Box<dyn Progress>; 3] = [
            Box::new(Bars::new(ProgressDrawTarget::hidden())),
            Box::new(Quiet::default()),
            Box::new(RawJson {
                steps: Mutex::default(),
            }),
        ];
        for look in looks {
            look.event(Event::Plan(&plan));
            for change in [
                Change::Started,
                Change::Running("c"),
                out(b"a\rb\n\xff"),
                Change::Transfer {
                    what: "x",
                    done: 1,
                    total: Some(2),
                },
                Change::Removed("c"),
                Change::Done {
                    id: Some("i"),
                    took: Duration::from_secs(1),
                },
                Change::Cached,
                Change::Failed(&error),
                Change::Canceled,
            ] {
                look.event(at(0, 1, change.clone()));
                // A step that nobody knows.
                look.event(at(7, 9, change));
            }
            look.event(Event::Line("l"));
            look.event(Event::Built { id: None, names: &[] });
        }
        for text in ["auto", "plain", "tty", "quiet", "rawjson"] {
            assert!(text.parse::<Mode>().is_ok(), "{text}");
        }
        assert!("fancy".parse::<Mode>().is_err());
    }
}
