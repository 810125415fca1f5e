//! What an image's configuration becomes by an instruction, and what its history says of it, in the words of docker's
//! classic builder (pure). What touches files is done elsewhere.

use crate::build::expand::exposed;
use crate::build::instruction::{ArgDeclaration, CommandLine, HealthRule, Instruction, Statement};
use crate::error::{Error, Result};
use crate::image::change;
use crate::model::bytes::ByteString;
use crate::model::container::DEFAULT_PATH;
use crate::model::health::HealthCheck;
use crate::model::image::{Empty, History, ImageConfig};
use crate::model::platform::Platform;
use crate::model::signal;
use crate::model::time::Timestamp;

/// A stage's image so far, without its layers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct State {
    pub(crate) image: ImageConfig,
    /// CMD has been said in this stage: an ENTRYPOINT after it leaves it alone.
    cmd_set: bool,
    /// Bytes of all that the history says.
    said: usize,
}

/// Bytes that an image's history may have: a Dockerfile of some kilobytes can say any number of them.
const LONGEST_HISTORY: usize = 32 << 20;

/// An entry of the history: what it says, and whether the classic builder puts two blanks after `#(nop)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// `/bin/sh -c #(nop)  ENV A=1`.
    Meta(String),
    /// `/bin/sh -c #(nop) WORKDIR /app`.
    Files(String),
    /// The words that were run.
    Run(String),
}

impl Said {
    pub(crate) fn text(&self) -> &str {
        match self {
            Said::Meta(text) | Said::Files(text) | Said::Run(text) => text,
        }
    }
}

/// A command for a line of a message.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

impl State {
    /// `FROM scratch`.
    pub(crate) fn scratch(platform: &Platform) -> State {
        let mut image = ImageConfig {
            os: platform.os.clone(),
            architecture: platform.architecture.clone(),
            variant: platform.variant.clone(),
            ..ImageConfig::default()
        };
        default_path(&mut image);
        State {
            image,
            cmd_set: false,
            said: 0,
        }
    }

    /// `FROM` an image or another stage. The triggers of ONBUILD are taken out.
    pub(crate) fn of(base: &ImageConfig) -> (State, Vec<String>) {
        let mut image = base.clone();
        let triggers = std::mem::take(&mut image.config.on_build);
        image.author = String::new();
        default_path(&mut image);
        let said = image.history.iter().map(|h| h.created_by.len()).sum();
        let state = State {
            image,
            cmd_set: false,
            said,
        };
        (state, triggers)
    }

    /// What runs lines: SHELL, or `/bin/sh -c`.
    pub(crate) fn shell(&self) -> Vec<String> {
        match self.image.config.shell.is_empty() {
            true => vec!["/bin/sh".to_owned(), "-c".to_owned()],
            false => self.image.config.shell.clone(),
        }
    }

    /// The words of a shell or exec form.
    pub(crate) fn words(&self, line: &CommandLine) -> Vec<String> {
        match line {
            CommandLine::Exec(words) => words.clone(),
            CommandLine::Shell(line) => {
                let mut words = self.shell();
                words.push(line.clone());
                words
            }
        }
    }

    /// Absolute; `/` where nothing has said so.
    pub(crate) fn workdir(&self) -> String {
        match self.image.config.working_dir.is_empty() {
            true => "/".to_owned(),
            false => self.image.config.working_dir.to_string_lossy().into_owned(),
        }
    }

    /// Applies an instruction that changes the configuration, with its variables replaced, and says what the history is
    /// to have. RUN, COPY and ADD change nothing here.
    pub(crate) fn apply(&mut self, statement: &Statement) -> Result<Said> {
        let bad = |why: String| statement.place.error(why);
        let config = &mut self.image.config;
        Ok(Said::Meta(match &statement.instruction {
            Instruction::Arg(args) => {
                let one = |arg: &ArgDeclaration| match &arg.default {
                    Some(value) => format!("{}={}", &*arg.name, &**value),
                    None => arg.name.to_string(),
                };
                format!("ARG {}", args.iter().map(one).collect::<Vec<_>>().join(" "))
            }
            Instruction::Cmd(line) => {
                let words = self.words(line);
                self.image.config.cmd = strings(&words);
                self.cmd_set = true;
                format!("CMD {}", quoted(&words))
            }
            Instruction::Entrypoint(line) => {
                let words = self.words(line);
                self.image.config.entrypoint = strings(&words);
                if !self.cmd_set {
                    self.image.config.cmd.clear();
                }
                format!("ENTRYPOINT {}", quoted(&words))
            }
            Instruction::Env(pairs) => {
                let mut said = "ENV".to_owned();
                for pair in pairs {
                    change::set_env(&mut config.env, &pair.name, &pair.value);
                    said.push_str(&format!(" {}={}", &*pair.name, &*pair.value));
                }
                said
            }
            Instruction::Expose(ports) => {
                for word in ports {
                    let all = exposed(word).ok_or_else(|| word.place.error(format!("invalid port '{}'", &**word)))?;
                    config
                        .exposed_ports
                        .extend(all.into_iter().map(|port| (port, Empty {})));
                }
                format!("EXPOSE {}", join(ports.iter().map(|p| &**p)))
            }
            Instruction::Healthcheck(rule) => {
                let check = match rule {
                    HealthRule::None => HealthCheck::none(),
                    HealthRule::Check(check) => check.clone(),
                };
                let said = format!("HEALTHCHECK {}", shown_check(&check));
                config.healthcheck = Some(check);
                said
            }
            Instruction::Label(pairs) => {
                let mut said = "LABEL".to_owned();
                for pair in pairs {
                    config.labels.insert(pair.name.to_string(), pair.value.to_string());
                    said.push_str(&format!(" {}={}", &*pair.name, &*pair.value));
                }
                said
            }
            Instruction::Maintainer(name) => {
                self.image.author = name.to_string();
                format!("MAINTAINER {}", &**name)
            }
            Instruction::Onbuild(trigger) => {
                config.on_build.push(trigger.text.clone());
                format!("ONBUILD {}", trigger.text)
            }
            Instruction::Shell(words) => {
                config.shell.clone_from(words);
                // The history's own prefix is the new one, as there.
                format!("SHELL [{}]", join(words.iter().map(String::as_str)))
            }
            Instruction::Stopsignal(name) => {
                if signal::parse(name).is_none() {
                    return Err(name.place.error(format!("invalid signal '{}'", &**name)));
                }
                config.stop_signal = name.to_string();
                format!("STOPSIGNAL {}", &**name)
            }
            Instruction::User(user) => {
                config.user = user.to_string();
                format!("USER {}", &**user)
            }
            Instruction::Volume(targets) => {
                for target in targets {
                    if target.is_empty() {
                        return Err(bad("VOLUME specified can not be an empty string".to_owned()));
                    }
                    config.volumes.insert(target.to_string(), Empty {});
                }
                format!("VOLUME [{}]", join(targets.iter().map(|t| &**t)))
            }
            Instruction::Workdir(path) => {
                let before = config.working_dir.to_string_lossy().into_owned();
                let after = change::workdir(&before, path);
                config.working_dir = after.clone().into();
                return Ok(Said::Files(format!("WORKDIR {after}")));
            }
            Instruction::Add(_) | Instruction::Copy(_) | Instruction::Run(_) => {
                return Err(Error::other(format!(
                    "{} changes no configuration",
                    statement.instruction.keyword()
                )));
            }
        }))
    }

    /// Whether another step may be noted.
    pub(crate) fn has_room(&self) -> bool {
        self.said < LONGEST_HISTORY
    }

    /// Notes a step.
    pub(crate) fn note(&mut self, said: &Said, created: Timestamp, empty_layer: bool) {
        let shell = self.shell().join(" ");
        let created_by = match said {
            Said::Meta(text) => format!("{shell} #(nop)  {text}"),
            Said::Files(text) => format!("{shell} #(nop) {text}"),
            Said::Run(text) => text.clone(),
        };
        self.said += created_by.len();
        self.image.created = Some(created);
        self.image.history.push(History {
            created: Some(created),
            author: self.image.author.clone(),
            created_by,
            comment: String::new(),
            empty_layer,
        });
    }
}

/// Docker's, also in an image that says none.
fn default_path(image: &mut ImageConfig) {
    if !image.config.env.iter().any(|e| e.split_env().0 == b"PATH") {
        image.config.env.push(DEFAULT_PATH.into());
    }
}

fn strings(words: &[String]) -> Vec<ByteString> {
    words.iter().map(|w| w.clone().into()).collect()
}

fn join<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(" ")
}

/// Go's `%q` of a list of strings: `["a" "b c"]`.
pub(crate) fn quoted(words: &[String]) -> String {
    let words: Vec<_> = words.iter().map(|w| go_quote(w)).collect();
    format!("[{}]", words.join(" "))
}

/// Go's strconv.Quote.
fn go_quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if u32::from(c) < 0x20 || u32::from(c) == 0x7f => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// As Go prints its structure: words, interval, timeout, start period, start interval, retries.
fn shown_check(check: &HealthCheck) -> String {
    let words: Vec<_> = check.test.iter().map(|w| w.to_string_lossy().into_owned()).collect();
    let times = [check.interval, check.timeout, check.start_period, check.start_interval];
    let times: Vec<_> = times.iter().map(|t| format!("\"{}\"", go_duration(*t))).collect();
    let retries = u32::try_from(check.retries).unwrap_or_default();
    format!("&{{{} {} '\\x{retries:02x}'}}", quoted(&words), times.join(" "))
}

/// Go's `Duration.String`: `1m30s`, `500ms`, `0s`.
fn go_duration(nanoseconds: i64) -> String {
    let fraction = |value: u64, unit: u64| {
        let (whole, rest) = (value / unit, value % unit);
        let digits = unit.ilog10() as usize;
        let rest = format!("{rest:0digits$}");
        match rest.trim_end_matches('0') {
            "" => whole.to_string(),
            rest => format!("{whole}.{rest}"),
        }
    };
    let n = nanoseconds.unsigned_abs();
    let text = match n {
        0 => "0s".to_owned(),
        n if n < 1_000 => format!("{n}ns"),
        n if n < 1_000_000 => format!("{}µs", fraction(n, 1_000)),
        n if n < 1_000_000_000 => format!("{}ms", fraction(n, 1_000_000)),
        n => {
            let (minutes, rest) = (n / 60_000_000_000, n % 60_000_000_000);
            let seconds = fraction(rest, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, m) => format!("{m}m{seconds}s"),
                (h, m) => format!("{h}h{m}m{seconds}s"),
            }
        }
    };
    if nanoseconds < 0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_says_them() {
        for (ns, text) in [
            (0, "0s"),
            (500, "500ns"),
            (1_500, "1.5µs"),
            (500_000_000, "500ms"),
            (30_000_000_000, "30s"),
            (90_000_000_000, "1m30s"),
            (1_500_000_000, "1.5s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(ns), text);
        }
    }

    #[test]
    fn words_as_go_quotes_them() {
        let words = ["sh".to_owned(), "a \"b\"\n\t\\ é".to_owned()];
        assert_eq!(quoted(&words), r#"["sh" "a \"b\"\n\t\\ é"]"#);
    }
}
