//! Completion, answered by the program itself: with `COMPLETE=bash` (or `fish`, `zsh`) and the index of the word at the cursor in
//! `BARGE_COMPLETE_INDEX`, it prints what may stand there, one a line. Names are read without any lock, and whatever
//! fails means only that there is nothing to offer.

use crate::cli::{compat, tree};
use crate::container::copy::entries;
use crate::container::status::status;
use crate::error::Result;
use crate::model::state::Status;
use crate::store::Store;
use clap::{Arg, Command};
use clap_complete::engine::{
    ArgValueCandidates, ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter as _, complete,
};
use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::path::Path;

/// `None` if this is no question for completion. `args` is the line without its first word.
pub(crate) fn answer(args: &[OsString]) -> Option<Result<()>> {
    let shell = std::env::var_os("COMPLETE")?;
    let shell = SHELLS.into_iter().find(|s| shell == s.name())?;
    let index = std::env::var("BARGE_COMPLETE_INDEX").ok()?.parse().ok()?;
    Some(print(args, index, shell))
}

/// Who asks, and so in what form the answers are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shell {
    /// One word a line.
    Bash,
    /// The word, a tab, and what it is for.
    Fish,
    /// The word, a colon, and what it is for; the word's own colons are escaped.
    Zsh,
}

const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Fish, Shell::Zsh];

impl Shell {
    fn name(self) -> &'static str {
        match self {
            Shell::Bash => "bash",
            Shell::Fish => "fish",
            Shell::Zsh => "zsh",
        }
    }

    fn line(self, word: &[u8], help: &str) -> Vec<u8> {
        let help = help.lines().next().unwrap_or_default();
        let mut line = match self {
            Shell::Zsh => word
                .iter()
                .flat_map(|b| {
                    if matches!(b, b':' | b'\\') {
                        vec![b'\\', *b]
                    } else {
                        vec![*b]
                    }
                })
                .collect(),
            _ => word.to_vec(),
        };
        let gap = match self {
            Shell::Bash => None,
            Shell::Fish => Some(b'\t'),
            Shell::Zsh => Some(b':'),
        };
        if let Some(gap) = gap.filter(|_| !help.is_empty()) {
            line.push(gap);
            line.extend_from_slice(help.as_bytes());
        }
        line.push(b'\n');
        line
    }
}

fn print(args: &[OsString], index: usize, shell: Shell) -> Result<()> {
    let mut text = Vec::new();
    for candidate in candidates(args, index) {
        let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
        text.extend(shell.line(candidate.get_value().as_encoded_bytes(), &help));
    }
    Ok(std::io::stdout().write_all(&text)?)
}

/// What may stand at `index`, where 0 is the program's own name.
fn candidates(args: &[OsString], index: usize) -> Vec<CompletionCandidate> {
    let (before, after) = args.split_at(index.saturating_sub(1).min(args.len()));
    let current = after.first().cloned().unwrap_or_default();
    let Some((words, path)) = normalised(before) else {
        return Vec::new();
    };
    // 0.6's single dash: `-vol` completes as `--vol` does.
    let current = match current.to_str() {
        Some(text) if text.len() > 2 && text.starts_with('-') && !text.starts_with("--") => format!("-{text}").into(),
        _ => current,
    };
    let mut tree = tree::displayed(&[])
        .map(|root| with_names(root, &path, before))
        .unwrap_or_default();
    let line: Vec<OsString> = std::iter::once("barge".into()).chain(words).chain([current]).collect();
    let at = line.len() - 1;
    complete(&mut tree, line, at, std::env::current_dir().ok().as_deref()).unwrap_or_default()
}

/// The words before the cursor as clap takes them, and the command they lead to. `None` if there is no such command.
fn normalised(before: &[OsString]) -> Option<(Vec<OsString>, Vec<String>)> {
    let mut out = Vec::new();
    let mut path: Vec<String> = Vec::new();
    let mut rest = before.to_vec();
    loop {
        let names: Vec<&str> = path.iter().map(String::as_str).collect();
        let spec = tree::find(&names);
        let mut parser = tree::parser(&names)?;
        parser.build();
        let is_level = path.is_empty() || spec.is_some_and(tree::Spec::is_noun);
        let words = compat::normalise(&parser, &rest);
        if !is_level {
            out.extend(words);
            return Some((out, path));
        }
        let Some(at) = first_word(&parser, &words) else {
            out.extend(words);
            return Some((out, path));
        };
        path.push(words[at].to_str()?.to_owned());
        out.extend_from_slice(&words[..=at]);
        rest = words[at + 1..].to_vec();
    }
}

/// The first word that is neither a flag nor a flag's value.
fn first_word(command: &Command, words: &[OsString]) -> Option<usize> {
    let mut at = 0;
    while at < words.len() {
        let text = words[at].to_str()?;
        if !text.starts_with('-') {
            return Some(at);
        }
        let takes_next = command.get_arguments().any(|a| {
            let long = a.get_long().map(|l| format!("--{l}"));
            let short = a.get_short().map(|s| format!("-{s}"));
            a.get_action().takes_values()
                && !a.is_require_equals_set()
                && [long, short].into_iter().flatten().any(|f| f == text)
        });
        at += 1 + usize::from(takes_next);
    }
    None
}

/// What kind of thing a command's names are.
#[derive(Clone, Copy)]
enum Names {
    Networks,
    Containers(fn(&Status) -> bool),
    Images,
    Volumes,
    Secrets,
    Objects,
    /// `cp`'s: a path of the host, or of a container behind its name and a colon.
    Paths,
}

fn any(_: &Status) -> bool {
    true
}

fn running(status: &Status) -> bool {
    matches!(status, Status::Running(_))
}

fn paused(status: &Status) -> bool {
    matches!(status, Status::Running(live) if live.paused)
}

fn stopped(status: &Status) -> bool {
    !running(status)
}

/// Names by the command and its argument (F305).
fn names_of(command: &str, argument: &str, before: &[OsString]) -> Option<Names> {
    let forced = || {
        before
            .iter()
            .any(|w| ["-f", "-force", "--force"].iter().any(|f| w == f))
    };
    match (command, argument) {
        ("rm", "CONTAINER") if forced() => Some(Names::Containers(any)),
        ("attach" | "exec" | "kill" | "pause" | "stop" | "top", "CONTAINER") => Some(Names::Containers(running)),
        ("unpause", "CONTAINER") => Some(Names::Containers(paused)),
        ("start" | "rm", "CONTAINER") => Some(Names::Containers(stopped)),
        (_, "CONTAINER" | "volumes-from") => Some(Names::Containers(any)),
        ("cp", "SOURCE" | "DESTINATION") => Some(Names::Paths),
        (_, "IMAGE") => Some(Names::Images),
        (_, "requires") => Some(Names::Containers(any)),
        (_, "SECRET" | "secret") => Some(Names::Secrets),
        (_, "VOLUME") => Some(Names::Volumes),
        (_, "NETWORK" | "network") => Some(Names::Networks),
        (_, "OBJECT") => Some(Names::Objects),
        _ => None,
    }
}

/// The tree, where the arguments of the command at `path` know what there is.
fn with_names(root: Command, path: &[String], before: &[OsString]) -> Command {
    let Some((first, rest)) = path.split_first() else {
        return root;
    };
    if root.find_subcommand(first).is_none() {
        return root;
    }
    let before = before.to_vec();
    root.mut_subcommand(first.clone(), |mut command| {
        if !rest.is_empty() {
            return with_names(command, rest, &before);
        }
        let name = first.clone();
        command = command.mut_args(|arg| named(arg, &name, &before));
        command
    })
}

fn named(arg: Arg, command: &str, before: &[OsString]) -> Arg {
    let Some(names) = names_of(command, arg.get_id().as_str(), before) else {
        return arg;
    };
    let before = before.to_vec();
    if matches!(names, Names::Paths) {
        return arg.add(ArgValueCompleter::new(move |current: &OsStr| paths(&before, current)));
    }
    arg.add(ArgValueCandidates::new(move || {
        let found = store_of(&before).map(|store| list(&store, names)).unwrap_or_default();
        found.into_iter().map(CompletionCandidate::new).collect()
    }))
}

/// The store that the line before the cursor names, if there is one: asking must not make it.
fn store_of(before: &[OsString]) -> Option<Store> {
    let session = crate::cli::session_of(before).ok()?;
    session.has_store().then(|| session.store().ok())?
}

fn list(store: &Store, names: Names) -> Vec<String> {
    match names {
        Names::Containers(wanted) => containers(store, wanted),
        Names::Images => images(store),
        Names::Volumes => store.volume_names().unwrap_or_default(),
        Names::Networks => store
            .networks()
            .unwrap_or_default()
            .into_iter()
            .map(|n| n.name)
            .collect(),
        Names::Secrets => store
            .secrets()
            .unwrap_or_default()
            .into_iter()
            .map(|s| s.name)
            .collect(),
        Names::Paths => Vec::new(),
        Names::Objects => {
            let mut all = containers(store, any);
            all.extend(images(store));
            all
        }
    }
}

/// What may stand for a side of a copy.
fn paths(before: &[OsString], current: &OsStr) -> Vec<CompletionCandidate> {
    let mut found = PathCompleter::any().complete(current);
    let (Some(store), Some(text)) = (store_of(before), current.to_str()) else {
        return found;
    };
    let inside = text.split_once(':').filter(|_| !text.starts_with(['.', '/']));
    let Some((name, path)) = inside else {
        let names = containers(&store, any).into_iter().map(|name| name + ":");
        found.extend(names.filter(|n| n.starts_with(text)).map(CompletionCandidate::new));
        return found;
    };
    let (around, begun) = path
        .rsplit_once('/')
        .map_or(("", path), |(dir, _)| path.split_at(dir.len() + 1));
    let listed = store
        .resolve_container(name)
        .and_then(|id| entries(&store, &id, Path::new(around)));
    let mut all = listed.unwrap_or_default();
    all.retain(|entry| entry.starts_with(begun) && (!entry.starts_with('.') || begun.starts_with('.')));
    found.extend(
        all.into_iter()
            .map(|e| CompletionCandidate::new(format!("{name}:{around}{e}"))),
    );
    found
}

fn containers(store: &Store, wanted: fn(&Status) -> bool) -> Vec<String> {
    let ids = store.container_ids().unwrap_or_default();
    let wanted = ids.into_iter().filter(|id| wanted(&status(store, id)));
    wanted
        .map(|id| store.config(&id).map_or_else(|_| id.short().to_owned(), |c| c.name))
        .collect()
}

fn images(store: &Store) -> Vec<String> {
    let tags = store.tags().unwrap_or_default();
    tags.iter().map(|(name, _)| name.to_string()).collect()
}
