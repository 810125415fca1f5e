//! The shape of the source, as rules that fail: which room imports which, where `unsafe` may stand, how long a file is.
//!
//! The table below is the exact form of the architecture map in `src/main.rs`; change both in one commit.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// Room → the rooms it may name besides itself. `model` and `error` are open to every room that is not listed bare.
const IMPORTS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("model", &["error"]),
    ("sys", &[]),
    ("store", &["sys", "model", "error"]),
    ("layer", &["sys", "model", "error"]),
    ("format", &["model", "error"]),
    ("registry", &["store", "sys", "model", "error"]),
    ("network", &["store", "sys", "model", "error"]),
    ("runtime", &["layer", "sys", "model", "error"]),
    (
        "monitor",
        &["runtime", "network", "layer", "store", "sys", "model", "error"],
    ),
    (
        "image",
        &["registry", "format", "layer", "store", "sys", "model", "error"],
    ),
    (
        "container",
        &[
            "image", "monitor", "runtime", "network", "layer", "store", "sys", "model", "error",
        ],
    ),
    (
        "build",
        &[
            "container",
            "image",
            "registry",
            "runtime",
            "format",
            "layer",
            "store",
            "sys",
            "model",
            "error",
        ],
    ),
    ("output", &["build", "image", "model", "error"]),
    ("cli", ANY),
    ("main", ANY),
];

/// The top of the building: may use every room.
const ANY: &[&str] = &["*"];

const LONGEST_FILE: usize = 800;

/// Names that say nothing about what a file owns.
const EMPTY_NAMES: &[&str] = &[
    "utils", "util", "helpers", "common", "core", "manager", "impl", "types", "misc",
];

struct Source {
    path: PathBuf,
    room: String,
    /// How many modules deep: 1 for `src/store/mod.rs`, 2 for `src/store/lock.rs`.
    depth: usize,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut open = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let inside = path.strip_prefix(&root).unwrap().with_extension("");
                let mut modules: Vec<_> = inside.iter().map(|c| c.to_str().unwrap().to_owned()).collect();
                if modules.last().is_some_and(|m| m == "mod") {
                    modules.pop();
                }
                let text = fs::read_to_string(&path).unwrap();
                found.push(Source {
                    path,
                    room: modules[0].clone(),
                    depth: modules.len(),
                    text,
                });
            }
        }
    }
    assert!(!found.is_empty());
    found
}

/// The text without comments, so that prose may say "unsafe" or name a room.
fn code(text: &str) -> String {
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

fn word(text: &str) -> &str {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .next()
        .unwrap_or_default()
}

/// The first names after every `crate::`, groups (`crate::{a::b, c}`) included.
fn crate_paths(code: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for (at, found) in code.match_indices("crate::") {
        let rest = &code[at + found.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            names.push(word(rest));
            continue;
        };
        let mut nesting = 0;
        let mut expect_name = true;
        for (i, c) in group.char_indices() {
            match c {
                '{' => nesting += 1,
                '}' if nesting == 0 => break,
                '}' => nesting -= 1,
                ',' if nesting == 0 => expect_name = true,
                c if expect_name && c.is_alphanumeric() => {
                    names.push(word(&group[i..]));
                    expect_name = false;
                }
                _ => {}
            }
        }
    }
    names
}

/// `super::` chains that climb out of the room: the names they end at.
fn climbing_paths(code: &str, depth: usize) -> Vec<&str> {
    let mut names = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find("super::") {
        rest = &rest[at..];
        let mut steps = 0;
        while let Some(shorter) = rest.strip_prefix("super::") {
            rest = shorter;
            steps += 1;
        }
        let name = word(rest);
        if steps >= depth && IMPORTS.iter().any(|(room, _)| *room == name) {
            names.push(name);
        }
    }
    names
}

#[test]
fn imports_point_downward() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some((_, allowed)) = IMPORTS.iter().find(|(room, _)| *room == source.room) else {
            wrong.push(format!("{}: a room the table does not know", source.path.display()));
            continue;
        };
        let code = code(&source.text);
        for name in crate_paths(&code) {
            if name != source.room && *allowed != ANY && !allowed.contains(&name) {
                wrong.push(format!(
                    "{}: crate::{name} is not below {}",
                    source.path.display(),
                    source.room
                ));
            }
        }
        for name in climbing_paths(&code, source.depth) {
            wrong.push(format!("{}: say crate::{name}, not super::", source.path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_stays_in_sys() {
    for source in sources().iter().filter(|s| s.room != "sys") {
        for (number, line) in code(&source.text).lines().enumerate() {
            let found = line
                .split(|c: char| !(c.is_alphanumeric() || c == '_'))
                .any(|w| w == "unsafe");
            assert!(!found, "{}:{}: unsafe outside sys", source.path.display(), number + 1);
        }
    }
}

#[test]
fn files_are_short_and_say_what_they_own() {
    for source in sources() {
        let shown = source.path.display();
        let lines = source.text.lines().count();
        assert!(lines <= LONGEST_FILE, "{shown}: {lines} lines, at most {LONGEST_FILE}");
        assert!(
            source.text.starts_with("//!"),
            "{shown}: the first line says what the file owns (//!)"
        );
        let name = source.path.file_stem().unwrap().to_str().unwrap();
        assert!(!EMPTY_NAMES.contains(&name), "{shown}: a name that says nothing");
        let folder = source.path.parent().unwrap().file_name().unwrap();
        assert!(folder != name, "{shown}: the file of a room is its mod.rs");
    }
}

#[test]
fn every_stop_point_is_tried() {
    let tried = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/crash.rs")).unwrap();
    let mut points = std::collections::BTreeSet::new();
    for source in sources() {
        for (at, found) in source.text.match_indices("stop_point(\"") {
            let name = source.text[at + found.len()..].split('"').next().unwrap();
            assert!(
                tried.contains(&format!("\"{name}\"")),
                "{}: {name} is not tried",
                source.path.display()
            );
            points.insert(name.to_owned());
        }
    }
    let lists = tried.split("POINTS: &[&str] = &[").skip(1);
    let listed: usize = lists
        .map(|rest| rest.split("];").next().unwrap().matches('"').count() / 2)
        .sum();
    assert_eq!(listed, points.len(), "points that no longer exist");
}

#[test]
fn the_checks_see_what_they_should() {
    assert_eq!(
        crate_paths("use crate::{store::{Store, lock}, sys};\ncrate::model::Digest"),
        ["store", "sys", "model"]
    );
    assert_eq!(
        climbing_paths("use super::super::store::Store; use super::lock;", 2),
        ["store"]
    );
    assert_eq!(climbing_paths("use super::container::Flags;", 3), Vec::<&str>::new());
    assert_eq!(code("a // unsafe\nb"), "a \nb");
}
