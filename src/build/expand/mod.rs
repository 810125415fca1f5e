//! Variables of a Dockerfile (pure): which are set where, and instructions with their values put in.
//!
//! Scopes are docker's: the `ARG`s before the first `FROM` are for `FROM` lines, and for stages that declare them again
//! without a default. In a stage, `ENV` (the base image's included) wins over `ARG`. Platform arguments are set in the
//! global scope; proxies reach RUN without being declared, and nothing else.

mod pattern;
mod word;

use crate::build::instruction::{
    ArgDeclaration, Dockerfile, Heredoc, Instruction, Pair, Run, RunMount, Statement, Transfer,
};
use crate::build::parser::mount;
use crate::build::place::{Place, Word};
use crate::error::{Error, Result};
use crate::model::bytes::ByteString;
use crate::model::platform::Platform;
use crate::model::signal;
use std::collections::{BTreeMap, BTreeSet};
use word::Quotes;

/// Arguments that RUN gets without an ARG, and that history and cache never see.
pub(crate) const PROXIES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// What a build is for, and where it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Platforms {
    pub(crate) build: Platform,
    pub(crate) target: Platform,
    /// `--target` as typed; `default` without it.
    pub(crate) stage: String,
}

/// The scope of `FROM` lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Globals {
    values: BTreeMap<String, String>,
    /// Declared before the first FROM, set or not.
    declared: BTreeSet<String>,
    /// `--build-arg`.
    given: BTreeMap<String, String>,
    escape: char,
}

/// Text of a `FROM` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FromText {
    pub(crate) text: String,
    /// Variables in it that are not set.
    pub(crate) unset: BTreeSet<String>,
}

impl Globals {
    /// `given` are the build arguments; they win over defaults.
    pub(crate) fn new(
        dockerfile: &Dockerfile,
        given: &BTreeMap<String, String>,
        platforms: &Platforms,
    ) -> Result<Globals> {
        let mut globals = Globals {
            values: platform_arguments(platforms),
            declared: BTreeSet::new(),
            given: given.clone(),
            escape: dockerfile.directives.escape,
        };
        for (name, value) in &mut globals.values {
            if let Some(given) = given.get(name) {
                value.clone_from(given);
            }
        }
        for declaration in &dockerfile.globals {
            let name = globals.text_of_from(&declaration.name)?.text;
            let value = match (given.get(&name), &declaration.default) {
                (Some(value), _) => Some(value.clone()),
                (None, Some(default)) => Some(globals.text_of_from(default)?.text),
                (None, None) => None,
            };
            globals.values.extend(value.map(|v| (name.clone(), v)));
            globals.declared.insert(name);
        }
        Ok(globals)
    }

    /// Replaces the variables of a base's name, of `--platform`, or of a global default.
    pub(crate) fn text_of_from(&self, word: &Word) -> Result<FromText> {
        let mut unset = BTreeSet::new();
        let text = replace(word, self.escape, Quotes::Removed, &mut |name| {
            let value = self.values.get(name).cloned();
            if value.is_none() {
                unset.insert(name.to_owned());
            }
            value
        })?;
        Ok(FromText { text, unset })
    }

    /// The same as if no build argument had been given: what the defaults alone make of it.
    pub(crate) fn is_declared(&self, name: &str) -> bool {
        self.declared.contains(name) || self.values.contains_key(name)
    }

    /// Build arguments that nothing in the Dockerfile declares, sorted.
    pub(crate) fn unused<'a>(&'a self, dockerfile: &'a Dockerfile) -> Vec<&'a str> {
        let declared: BTreeSet<&str> = dockerfile
            .stages
            .iter()
            .flat_map(|stage| &stage.statements)
            .filter_map(|s| match &s.instruction {
                Instruction::Arg(all) => Some(all),
                _ => None,
            })
            .flatten()
            .map(|d| &*d.name)
            .collect();
        let known = |name: &&str| {
            self.is_declared(name)
                || declared.contains(name)
                || PROXIES.contains(name)
                || name.starts_with("BUILDKIT_")
                || *name == "SOURCE_DATE_EPOCH"
        };
        self.given.keys().map(String::as_str).filter(|n| !known(n)).collect()
    }
}

/// BUILDPLATFORM and its kin.
fn platform_arguments(platforms: &Platforms) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (prefix, platform) in [("BUILD", &platforms.build), ("TARGET", &platforms.target)] {
        for (suffix, value) in [
            ("PLATFORM", platform.to_string()),
            ("OS", platform.os.clone()),
            ("OSVERSION", platform.os_version.clone()),
            ("ARCH", platform.architecture.clone()),
            ("VARIANT", platform.variant.clone()),
        ] {
            all.insert(format!("{prefix}{suffix}"), value);
        }
    }
    all.insert("TARGETSTAGE".to_owned(), platforms.stage.clone());
    all
}

/// The variables of one stage, as they are after the instructions so far.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    env: Vec<(String, String)>,
    /// Bytes that are no text are not looked at, but kept for RUN.
    odd_env: Vec<ByteString>,
    /// Declared so far, in order.
    args: Vec<(String, Option<String>)>,
    globals: Globals,
    escape: char,
}

/// An instruction with its variables replaced.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Expanded {
    pub(crate) statement: Statement,
    /// Build arguments that it read: a part of what decides whether the cache may be used. For RUN, see
    /// [`Scope::run_args`].
    pub(crate) used: BTreeSet<String>,
    /// Variables that it read and that are not set.
    pub(crate) unset: BTreeSet<String>,
}

impl Scope {
    /// Of a stage whose base has this environment: PATH in it, since a build always has one.
    pub(crate) fn stage(globals: &Globals, env: &[ByteString]) -> Scope {
        let mut scope = Scope {
            env: Vec::new(),
            odd_env: Vec::new(),
            args: Vec::new(),
            escape: globals.escape,
            globals: globals.clone(),
        };
        for entry in env {
            match std::str::from_utf8(entry.as_bytes()) {
                Ok(text) => {
                    let (name, value) = text.split_once('=').unwrap_or((text, ""));
                    scope.set_env(name, value);
                }
                Err(_) => scope.odd_env.push(entry.clone()),
            }
        }
        scope
    }

    /// Whether an ARG has declared it, set or not.
    pub(crate) fn declares(&self, name: &str) -> bool {
        self.args.iter().any(|(n, _)| n == name)
    }

    /// All names that are known here.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let args = self.args.iter().map(|(n, _)| n.as_str());
        self.env.iter().map(|(n, _)| n.as_str()).chain(args)
    }

    /// Of a stage on top of this one: its environment, and the arguments it has declared, as docker has it.
    pub(crate) fn on_top(&self) -> Scope {
        self.clone()
    }

    /// The value of a variable here.
    #[cfg(test)]
    fn get(&self, name: &str) -> Option<&str> {
        let env = self.env.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        env.or_else(|| self.arg(name))
    }

    fn arg(&self, name: &str) -> Option<&str> {
        let (_, value) = self.args.iter().rev().find(|(n, _)| n == name)?;
        value.as_deref()
    }

    fn set_env(&mut self, name: &str, value: &str) {
        match self.env.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.env.push((name.to_owned(), value.to_owned())),
        }
    }

    fn set_arg(&mut self, name: String, value: Option<String>) {
        self.args.retain(|(n, _)| *n != name);
        self.args.push((name, value));
    }

    /// Declared arguments with a value that no ENV hides, sorted by name: what history shows before RUN as `|N A=b`, and
    /// what a RUN's cache depends on besides its environment.
    pub(crate) fn run_args(&self) -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> = self
            .args
            .iter()
            .filter(|(name, _)| !self.env.iter().any(|(n, _)| n == name) && !PROXIES.contains(&name.as_str()))
            .filter_map(|(name, value)| Some((name.clone(), value.clone()?)))
            .collect();
        all.sort();
        all
    }

    /// The environment of a RUN: arguments, then ENV. Proxies that were given are not in it.
    pub(crate) fn run_env(&self) -> Vec<ByteString> {
        let args = self
            .args
            .iter()
            .filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let args = args.filter(|(name, _)| !self.env.iter().any(|(n, _)| n == *name));
        let env = self.env.iter().map(|(name, value)| (name, value));
        let pairs = args.chain(env).map(|(name, value)| format!("{name}={value}").into());
        pairs.chain(self.odd_env.iter().cloned()).collect()
    }

    /// Replaces the variables of an instruction, and lets it have its effect on this scope.
    pub(crate) fn statement(&mut self, statement: &Statement) -> Result<Expanded> {
        let mut seen = Seen::default();
        let instruction = self.instruction(&statement.instruction, &mut seen)?;
        if let Instruction::Env(pairs) = &instruction {
            for pair in pairs {
                if pair.name.is_empty() {
                    return Err(pair.name.place.error("ENV names can not be blank"));
                }
                self.set_env(&pair.name, &pair.value);
            }
        }
        Ok(Expanded {
            statement: Statement {
                instruction,
                ..statement.clone()
            },
            used: seen.used,
            unset: seen.unset,
        })
    }

    fn instruction(&mut self, instruction: &Instruction, seen: &mut Seen) -> Result<Instruction> {
        let mut word = |w: &Word| self.word(w, Quotes::Removed, seen);
        Ok(match instruction {
            Instruction::Env(pairs) => Instruction::Env(self.pairs(pairs, seen)?),
            Instruction::Label(pairs) => Instruction::Label(self.pairs(pairs, seen)?),
            Instruction::User(user) => Instruction::User(filled("USER", word(user)?)?),
            Instruction::Workdir(path) => Instruction::Workdir(filled("WORKDIR", word(path)?)?),
            Instruction::Stopsignal(name) => Instruction::Stopsignal(signal_name(word(name)?)?),
            Instruction::Volume(paths) => {
                let paths = paths.iter().map(word).map(|w| filled("VOLUME", w?));
                Instruction::Volume(paths.collect::<Result<_>>()?)
            }
            Instruction::Expose(words) => {
                let mut ports = Vec::new();
                for w in words {
                    ports.extend(self.ports(w, seen)?);
                }
                ports.sort_by(|a, b| a.text.cmp(&b.text));
                ports.dedup_by(|a, b| a.text == b.text);
                Instruction::Expose(ports)
            }
            Instruction::Add(transfer) => Instruction::Add(self.transfer(transfer, seen)?),
            Instruction::Copy(transfer) => Instruction::Copy(self.transfer(transfer, seen)?),
            Instruction::Arg(declarations) => {
                let mut done = Vec::new();
                for declaration in declarations {
                    done.push(self.declare(declaration, seen)?);
                }
                Instruction::Arg(done)
            }
            Instruction::Run(run) => Instruction::Run(Run {
                mounts: run.mounts.iter().map(|m| self.mount(m, seen)).collect::<Result<_>>()?,
                ..run.clone()
            }),
            Instruction::Cmd(_)
            | Instruction::Entrypoint(_)
            | Instruction::Healthcheck(_)
            | Instruction::Maintainer(_)
            | Instruction::Onbuild(_)
            | Instruction::Shell(_) => instruction.clone(),
        })
    }

    fn word(&self, word: &Word, quotes: Quotes, seen: &mut Seen) -> Result<Word> {
        Ok(Word {
            text: self.text(word, &word.place, quotes, seen)?,
            place: word.place.clone(),
        })
    }

    fn text(&self, text: &str, place: &Place, quotes: Quotes, seen: &mut Seen) -> Result<String> {
        let done = word::expand(text, self.escape, quotes, &mut |name| self.look(name, seen));
        done.map(|e| e.text).map_err(|why| complain(text, place, &why))
    }

    fn look(&self, name: &str, seen: &mut Seen) -> Option<String> {
        if let Some((_, value)) = self.env.iter().find(|(n, _)| n == name) {
            return Some(value.clone());
        }
        // An argument that is declared but not set counts as well: it may be set the next time.
        if self.args.iter().any(|(n, _)| n == name) {
            seen.used.insert(name.to_owned());
        }
        let value = self.arg(name).map(str::to_owned);
        if value.is_none() {
            seen.unset.insert(name.to_owned());
        }
        value
    }

    fn pairs(&self, pairs: &[Pair], seen: &mut Seen) -> Result<Vec<Pair>> {
        let pair = |pair: &Pair, seen: &mut Seen| {
            Ok(Pair {
                name: self.word(&pair.name, Quotes::Removed, seen)?,
                value: self.word(&pair.value, Quotes::Removed, seen)?,
            })
        };
        pairs.iter().map(|p| pair(p, seen)).collect()
    }

    fn declare(&mut self, declaration: &ArgDeclaration, seen: &mut Seen) -> Result<ArgDeclaration> {
        let name = self.word(&declaration.name, Quotes::Removed, seen)?;
        if name.is_empty() {
            return Err(name.place.error("ARG names can not be blank"));
        }
        let given = self.globals.given.get(&*name).cloned();
        let value = match (given, &declaration.default) {
            (Some(given), _) => Some(given),
            (None, Some(default)) => Some(self.word(default, Quotes::Removed, seen)?.text),
            (None, None) => self.globals.values.get(&*name).cloned(),
        };
        seen.used.insert(name.text.clone());
        self.set_arg(name.text.clone(), value.clone());
        let place = declaration.default.as_ref().map_or(&name.place, |d| &d.place).clone();
        Ok(ArgDeclaration {
            default: value.map(|text| Word { text, place }),
            name,
        })
    }

    fn transfer(&self, transfer: &Transfer, seen: &mut Seen) -> Result<Transfer> {
        let mut word = |w: &Word| self.word(w, Quotes::Removed, seen);
        let sources = transfer.sources.iter().map(&mut word).collect::<Result<_>>()?;
        let target = filled("the destination", word(&transfer.target)?)?;
        let excludes = transfer.excludes.iter().map(&mut word).collect::<Result<_>>()?;
        let chown = transfer.chown.as_ref().map(&mut word).transpose()?;
        let chmod = transfer.chmod.as_ref().map(&mut word).transpose()?;
        let checksum = transfer.checksum.as_ref().map(&mut word).transpose()?;
        let inline = transfer.inline.iter().map(|h| self.heredoc(h, seen));
        Ok(Transfer {
            inline: inline.collect::<Result<_>>()?,
            sources,
            target,
            excludes,
            chown,
            chmod,
            checksum,
            ..transfer.clone()
        })
    }

    /// Backslash escapes in a heredoc, whatever `# escape=` says: docker has it so.
    fn heredoc(&self, heredoc: &Heredoc, seen: &mut Seen) -> Result<Heredoc> {
        let text = heredoc.content();
        let text = match heredoc.expand {
            false => text,
            true => {
                word::expand(&text, '\\', Quotes::Kept, &mut |name| self.look(name, seen))
                    .map_err(|why| heredoc.place.error(why))?
                    .text
            }
        };
        Ok(Heredoc {
            text,
            strip_tabs: false,
            expand: false,
            ..heredoc.clone()
        })
    }

    fn mount(&self, mount: &RunMount, seen: &mut Seen) -> Result<RunMount> {
        let place = &mount.text.place;
        mount::parse(&mount.text, &mut |value| {
            self.text(value, place, Quotes::Removed, seen).map(Some)
        })
    }

    /// `80`, `8000-8002/udp`, and forms of `-p` of which only the container's port counts: each port with its protocol.
    fn ports(&self, w: &Word, seen: &mut Seen) -> Result<Vec<Word>> {
        let done = word::expand(w, self.escape, Quotes::Removed, &mut |name| self.look(name, seen));
        let words = done.map_err(|why| complain(w, &w.place, &why))?.words;
        port_words(w, &words)
    }
}

/// What an instruction read.
#[derive(Default)]
struct Seen {
    used: BTreeSet<String>,
    unset: BTreeSet<String>,
}

fn filled(what: &str, word: Word) -> Result<Word> {
    match word.is_empty() {
        true => Err(word
            .place
            .error(format!("{what} is empty, with its variables replaced"))),
        false => Ok(word),
    }
}

/// `8000-8002` as `8000/tcp` and so on. What stands before a `:` is the host's business.
pub(crate) fn exposed(text: &str) -> Option<Vec<String>> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    let range = ports.rsplit(':').next().unwrap_or(ports);
    let (low, high) = range.split_once('-').unwrap_or((range, range));
    let number = |s: &str| s.parse::<u16>().ok().filter(|n| *n > 0 && !s.starts_with('+'));
    let (low, high) = (number(low)?, number(high)?);
    let good = low <= high && matches!(protocol.as_str(), "tcp" | "udp" | "sctp");
    good.then(|| (low..=high).map(|port| format!("{port}/{protocol}")).collect())
}

/// What is wrong with an instruction whatever its variables are: found when the Dockerfile is parsed.
pub(super) fn check(instruction: &Instruction, escape: char) -> Result<()> {
    let readable = |word: &Word| {
        let mut any = |_: &str| Some("1".to_owned());
        word::expand(word, escape, Quotes::Removed, &mut any)
            .map(drop)
            .map_err(|why| complain(word, &word.place, &why))
    };
    match instruction {
        Instruction::Env(pairs) | Instruction::Label(pairs) => {
            let mut words = pairs.iter().flat_map(|p| [&p.name, &p.value]);
            words.try_for_each(readable)
        }
        Instruction::User(w) | Instruction::Workdir(w) | Instruction::Stopsignal(w) => {
            readable(w)?;
            match instruction {
                Instruction::Stopsignal(name) if !name.contains('$') => signal_name(unquoted(name, escape)).map(drop),
                _ => Ok(()),
            }
        }
        Instruction::Volume(words) => words.iter().try_for_each(readable),
        Instruction::Expose(words) => words.iter().try_for_each(|w| {
            readable(w)?;
            match w.contains('$') {
                true => Ok(()),
                false => port_words(w, &[unquoted(w, escape).text]).map(drop),
            }
        }),
        Instruction::Add(t) | Instruction::Copy(t) => {
            if let Some(from) = t.from.as_ref().filter(|from| from.contains('$')) {
                return Err(from
                    .place
                    .error_at(from.chars().count(), "--from does not take variables")
                    .with_hint("name a stage with FROM … AS, which does, and copy from that"));
            }
            let flags = [&t.chown, &t.chmod, &t.checksum];
            let mut words = t.sources.iter().chain([&t.target]).chain(&t.excludes);
            words.try_for_each(readable)?;
            flags.into_iter().flatten().try_for_each(readable)
        }
        Instruction::Arg(all) => {
            let mut words = all.iter().flat_map(|d| d.default.iter().chain([&d.name]));
            words.try_for_each(readable)
        }
        _ => Ok(()),
    }
}

fn unquoted(word: &Word, escape: char) -> Word {
    Word {
        text: crate::build::words::unquote(word, escape),
        place: word.place.clone(),
    }
}

fn signal_name(name: Word) -> Result<Word> {
    match signal::parse(&name) {
        Some(_) => Ok(name),
        None => Err(name
            .place
            .error_at(name.chars().count(), format!("invalid signal '{name}'"))
            .with_hint("write it like SIGTERM or 15")),
    }
}

/// Each port of the words, at the place of `w`.
fn port_words(w: &Word, words: &[String]) -> Result<Vec<Word>> {
    let mut ports = Vec::new();
    for text in words {
        exposed(text).ok_or_else(|| {
            w.place
                .error_at(w.chars().count(), format!("invalid containerPort: '{text}'"))
                .with_hint("write it like 80, 53/udp or 8000-8010/tcp")
        })?;
        // The history has it as it was written.
        ports.push(Word {
            text: text.clone(),
            place: w.place.clone(),
        });
    }
    Ok(ports)
}

fn replace(word: &Word, escape: char, quotes: Quotes, lookup: &mut word::Lookup<'_>) -> Result<String> {
    let done = word::expand(word, escape, quotes, lookup);
    done.map(|e| e.text).map_err(|why| complain(word, &word.place, &why))
}

fn complain(text: &str, place: &Place, why: &str) -> Error {
    let shown: String = text.chars().take(60).collect();
    place.error_at(text.chars().count().clamp(1, 60), format!("'{shown}': {why}"))
}

#[cfg(test)]
mod tests;
