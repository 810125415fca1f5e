//! What is made from the command tree and committed is current: `man/` and `completions/`. To make it anew:
//! `cargo run -- man man/`.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

const BARGE: &str = env!("CARGO_BIN_EXE_barge");

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn pages(dir: &Path) -> BTreeMap<String, String> {
    let read = |entry: fs::DirEntry| {
        (
            entry.file_name().into_string().unwrap(),
            fs::read_to_string(entry.path()).unwrap(),
        )
    };
    let pages: BTreeMap<_, _> = fs::read_dir(dir).unwrap().map(|entry| read(entry.unwrap())).collect();
    pages
        .into_iter()
        .filter(|(name, _)| name.starts_with("barge") && name.ends_with(".1"))
        .collect()
}

#[test]
fn manual_pages_are_current() {
    let dir = std::env::temp_dir().join(format!("barge-man-{}", std::process::id()));
    output(Command::new(BARGE).arg("man").arg(&dir));
    let made = pages(&dir);
    fs::remove_dir_all(&dir).unwrap();
    let kept = pages(&Path::new(env!("CARGO_MANIFEST_DIR")).join("man"));
    let names = |pages: &BTreeMap<String, String>| pages.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&kept), names(&made), "cargo run -- man man/");
    for (name, text) in &made {
        assert!(&kept[name] == text, "man/{name} is old: cargo run -- man man/");
    }
}

#[test]
fn the_settings_file_is_current() {
    let file = std::env::temp_dir().join(format!("barge-settings-{}.toml", std::process::id()));
    output(Command::new(BARGE).arg("man").arg(&file));
    let made = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let kept = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/config.toml")).unwrap();
    assert!(made == kept, "cargo run -- man packaging/config.toml");
    // Every key of it is one.
    let set: String = made
        .lines()
        .map(|l| {
            l.strip_prefix('#')
                .filter(|r| !r.starts_with(' '))
                .unwrap_or(l)
                .to_owned()
                + "\n"
        })
        .collect();
    let keys: Vec<&str> = set
        .lines()
        .filter(|l| l.contains(" = ") && !l.starts_with('#'))
        .collect();
    assert!(keys.len() > 200, "{}", keys.len());
}

/// The pages that nobody makes: sections 5 and 7.
#[test]
fn hand_written_pages_are_sound() {
    let man = Path::new(env!("CARGO_MANIFEST_DIR")).join("man");
    let pages = fs::read_dir(man).unwrap().map(|e| e.unwrap().path());
    let pages: Vec<_> = pages
        .filter(|p| p.extension().is_some_and(|e| e == "5" || e == "7"))
        .collect();
    assert!(pages.len() >= 5, "{pages:?}");
    if !Path::new("/usr/bin/mandoc").exists() {
        println!("skipped: hand_written_pages_are_sound: no mandoc");
        return;
    }
    for page in pages {
        let lint = Command::new("mandoc")
            .args(["-T", "lint", "-W", "warning"])
            .arg(&page)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&lint.stdout), "", "{}", page.display());
    }
}

#[test]
fn the_completion_script_is_the_one_that_is_installed() {
    for (shell, file) in [("bash", "barge.bash"), ("fish", "barge.fish"), ("zsh", "_barge")] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("completions").join(file);
        let kept = fs::read_to_string(file).unwrap();
        assert_eq!(output(Command::new(BARGE).args(["completion", shell])), kept);
    }
}

/// What bash offers for a line, the cursor at its end.
fn completed(words: &[&str], root: &Path) -> Vec<String> {
    let script = concat!(
        "source completions/barge.bash; barge=$1; shift; COMP_WORDS=(\"$barge\" \"$@\"); ",
        "COMP_CWORD=$#; _barge 2>/dev/null; printf '%s\\n' \"${COMPREPLY[@]}\""
    );
    let mut bash = Command::new("bash");
    bash.args(["--norc", "--noprofile", "-c", script, "bash", BARGE])
        .args(words);
    bash.current_dir(env!("CARGO_MANIFEST_DIR"));
    bash.env("BARGE_ROOT", root.join("root"))
        .env("BARGE_RUN_ROOT", root.join("run"));
    output(&mut bash)
        .lines()
        .filter(|l| !l.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn bash_is_answered() {
    let root = std::env::temp_dir().join(format!("barge-complete-{}", std::process::id()));
    for (words, want) in [
        (&["sto"][..], &["stop"][..]),
        (&["volume", "cr"], &["create"]),
        (&["run", "--volumes"], &["--volumes-from"]),
        (&["run", "-volumes"], &["--volumes-from"]),
        (&["run", "-rm", "-i", "--netw"], &["--network", "--network-alias"]),
        (&["-D", "ver"], &["version"]),
        (&["run", "img", "--netw"], &[]),
        (&["nonsense", "x"], &[]),
    ] {
        assert_eq!(completed(words, &root), want, "{words:?}");
    }
    assert!(!root.exists(), "asking makes no store");
}

#[test]
fn names_of_volumes_are_offered() {
    // Root's business, like every store.
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let root = std::env::temp_dir().join(format!("barge-complete-names-{}", std::process::id()));
    let mut create = Command::new(BARGE);
    create.args(["volume", "create", "data"]);
    create
        .env("BARGE_ROOT", root.join("root"))
        .env("BARGE_RUN_ROOT", root.join("run"));
    assert_eq!(output(&mut create), "data\n");
    let offered = completed(&["volume", "rm", "d"], &root);
    let option = root.join("root").display().to_string();
    let by_option = completed(&["-g", &option, "volume", "rm", ""], Path::new("/nowhere"));
    fs::remove_dir_all(&root).unwrap();
    assert_eq!(offered, ["data"]);
    assert!(by_option.contains(&"data".to_owned()), "{by_option:?}");
}
