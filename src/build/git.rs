//! git repositories as contexts and as sources of ADD, by the `git` program.
//!
//! What it fetches is foreign: it runs no hook, speaks no protocol but the four that names may ask for (a submodule's
//! address is foreign as well; CVE-2022-39253), asks nobody anything, and is given no word that it could take for an
//! option. No configuration comes with a repository; the person's own is used, for proxies and credentials.

use crate::build::copy::shown;
use crate::error::{Context as _, Error, Result};
use crate::store::{Stage, Store};
use crate::sys;
use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat2};
use std::io::Read as _;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

/// Where a repository is, and what is wanted of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Repository {
    /// As git takes it.
    remote: String,
    /// A branch, tag, commit or other reference; else what the repository says.
    reference: Option<String>,
    /// "" is all of it.
    subdir: String,
}

impl Repository {
    /// Whether `text` names one.
    pub(super) fn is_remote(text: &str) -> bool {
        let place = text.split_once('#').map_or(text, |(place, _)| place);
        let has_scheme = |scheme: &str| place.starts_with(scheme);
        if has_scheme("http://") || has_scheme("https://") {
            return place.ends_with(".git");
        }
        has_scheme("git://") || has_scheme("ssh://") || has_scheme("github.com/") || is_scp_like(place)
    }

    /// `None` if it is something else.
    pub(super) fn parse(text: &str) -> Result<Option<Repository>> {
        if !Repository::is_remote(text) {
            return Ok(None);
        }
        let (place, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
        let remote = match place.starts_with("github.com/") {
            true => format!("https://{place}"),
            false => place.to_owned(),
        };
        let host = remote.split_once("://").map_or(remote.as_str(), |(_, rest)| rest);
        let bad_place = remote.starts_with('-') || host.starts_with('-') || host.contains("@-");
        if bad_place || remote.chars().any(|c| c.is_control() || c == ' ') {
            return Err(Error::other(format!("invalid git address: {}", text.escape_debug())));
        }
        let bad_reference = |r: &str| {
            r.starts_with(['-', '+', '/'])
                || r.contains("..")
                || r.contains(|c: char| c.is_control() || " ~^:?*[\\".contains(c))
        };
        if bad_reference(reference) {
            return Err(Error::other(format!(
                "invalid git reference: {}",
                reference.escape_debug()
            )));
        }
        if subdir.split('/').any(|name| name == "..") {
            return Err(Error::other(format!(
                "{}: the directory is outside of the repository",
                text.escape_debug()
            )));
        }
        Ok(Some(Repository {
            remote,
            reference: (!reference.is_empty()).then(|| reference.to_owned()),
            subdir: subdir.to_owned(),
        }))
    }
}

/// `git@github.com:user/repo`.
fn is_scp_like(text: &str) -> bool {
    let Some((user, rest)) = text.split_once('@') else {
        return false;
    };
    let Some((host, path)) = rest.split_once(':') else {
        return false;
    };
    let word = |text: &str, also: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(c))
    };
    word(user, "-_") && word(host, "-.") && !path.is_empty() && !path.starts_with("//")
}

/// A repository's files, in a directory that goes with this.
#[derive(Debug)]
pub(super) struct Checkout {
    stage: Stage,
    root: OwnedFd,
}

impl Checkout {
    /// The directory that was asked for.
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.root)
    }

    pub(super) fn stage(&self) -> &Stage {
        &self.stage
    }

    pub(super) fn into_parts(self) -> (Stage, OwnedFd) {
        (self.stage, self.root)
    }

    pub(super) fn into_stage(self) -> Stage {
        self.stage
    }
}

/// Fetches what is wanted, submodules included. `checksum` is the commit that it must be.
pub(super) fn fetch(
    store: &Store,
    repository: &Repository,
    keep_git_dir: bool,
    checksum: Option<&str>,
) -> Result<Checkout> {
    let stage = store.stage()?;
    mkdirat(stage.dir(), c"checkout", Mode::from(0o755)).context("make checkout")?;
    let at = stage.path().join("checkout");
    check_out(&at, repository, checksum).with_context(|| format!("fetch {}", without_password(&repository.remote)))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let top = openat2(stage.dir(), c"checkout", flags, Mode::empty(), inside)?;
    if !keep_git_dir {
        remove_git_dirs(&at, &top)?;
    }
    let subdir = Path::new(&repository.subdir);
    let subdir = if repository.subdir.is_empty() {
        Path::new(".")
    } else {
        subdir
    };
    let root = openat2(&top, subdir, flags, Mode::empty(), inside)
        .with_context(|| shown(repository.subdir.as_bytes()))
        .with_context(|| without_password(&repository.remote))?;
    Ok(Checkout { stage, root })
}

fn check_out(at: &Path, repository: &Repository, checksum: Option<&str>) -> Result<()> {
    git(at, &["init", "--quiet", "--initial-branch=main", "."])?;
    git(at, &["remote", "add", "--", "origin", &repository.remote])?;
    let reference = repository.reference.as_deref().unwrap_or("HEAD");
    let is_commit = reference.len() >= 7 && reference.bytes().all(|b| b.is_ascii_hexdigit());
    let shallow = git(
        at,
        &["fetch", "--quiet", "--depth=1", "--no-tags", "--", "origin", reference],
    );
    let wanted = match shallow {
        Ok(_) => "FETCH_HEAD".to_owned(),
        // Not every server gives any commit, or anything less than all.
        Err(first) => {
            let all = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"];
            git(at, &["fetch", "--quiet", "--", "origin", all[0], all[1]]).map_err(|_| first.clone())?;
            match is_commit {
                true => reference.to_owned(),
                false => {
                    git(at, &["fetch", "--quiet", "--", "origin", reference]).map_err(|_| first)?;
                    "FETCH_HEAD".to_owned()
                }
            }
        }
    };
    let commit = git(
        at,
        &[
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            &format!("{wanted}^{{commit}}"),
        ],
    )
    .map_err(|_| Error::other(format!("repository does not contain ref {reference}")))?;
    let commit = commit.trim();
    if let Some(sum) = checksum
        && (sum.len() < 7 || !commit.starts_with(&sum.to_ascii_lowercase()))
    {
        return Err(Error::other(format!(
            "commit is {commit}, not {} as --checksum says",
            sum.escape_debug()
        )));
    }
    git(at, &["checkout", "--quiet", "--force", "--detach", commit])?;
    if std::fs::symlink_metadata(at.join(".gitmodules")).is_ok() {
        let update = ["submodule", "--quiet", "update", "--init", "--recursive"];
        let shallow = [&update[..], &["--depth=1"]].concat();
        git(at, &shallow).or_else(|_| git(at, &update)).context("submodules")?;
    }
    Ok(())
}

/// One command of git in the checkout; what it printed.
fn git(at: &Path, words: &[&str]) -> Result<String> {
    let mut command = Command::new("/bin/sh");
    // The files' modes must not depend on who builds.
    command.args(["-c", "umask 022; exec git \"$@\"", "git"]);
    for setting in [
        "core.hooksPath=/dev/null",
        "core.fsmonitor=false",
        "init.templateDir=",
        "gc.auto=0",
        "advice.detachedHead=false",
        "protocol.file.allow=never",
        "protocol.ext.allow=never",
        "fetch.recurseSubmodules=false",
    ] {
        command.args(["-c", setting]);
    }
    for (name, _) in std::env::vars_os() {
        // Some would lead it to another repository.
        let name_bytes = name.as_encoded_bytes();
        if name_bytes.starts_with(b"GIT_") && !name_bytes.starts_with(b"GIT_SSL_") && name != "GIT_SSH" {
            command.env_remove(name);
        }
    }
    let ssh = std::env::var("GIT_SSH_COMMAND").unwrap_or_else(|_| "ssh".to_owned());
    command
        .args(words)
        .current_dir(at)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ALLOW_PROTOCOL", "git:http:https:ssh")
        .env("GIT_SSH_COMMAND", format!("{ssh} -oBatchMode=yes"))
        .env("GIT_ASKPASS", "/bin/false")
        .env("GIT_DIR", at.join(".git"))
        .env("GIT_WORK_TREE", at)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if words[0] == "submodule" {
        // It changes into other repositories.
        command.env_remove("GIT_DIR").env_remove("GIT_WORK_TREE");
    }
    sys::process::ends_with_us(&mut command);
    let mut child = command.spawn().context("start git")?;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    // stderr is read aside, so that neither pipe fills up.
    let errors = child.stderr.take();
    let status = std::thread::scope(|scope| -> Result<_> {
        let reading = scope.spawn(|| errors.map(|e| e.take(64 * 1024).read_to_end(&mut err)));
        if let Some(stdout) = child.stdout.take() {
            stdout.take(1 << 20).read_to_end(&mut out)?;
        }
        let _ = reading.join();
        Ok(child.wait()?)
    })?;
    if status.code() == Some(127) {
        return Err(Error::other("git is not there").with_hint("install git"));
    }
    if !status.success() {
        let text = String::from_utf8_lossy(&err);
        // The first is the cause; what follows says which of its own programs failed by that.
        let fatal = text.lines().find_map(|l| l.strip_prefix("fatal: "));
        let said = fatal.or_else(|| text.lines().rfind(|l| !l.trim().is_empty()));
        let clean = crate::build::state::printable(said.unwrap_or("git failed"));
        return Err(Error::other(without_password(&clean)));
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// `.git` of the repository and of its submodules: git lets nothing else have that name. Nobody else is in staging, and
/// no link is followed.
fn remove_git_dirs(at: &Path, top: &OwnedFd) -> Result<()> {
    crate::sys::tree::remove(std::os::fd::AsFd::as_fd(top), c".git").context("remove .git")?;
    let mut folders = vec![at.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let is_directory = entry.file_type()?.is_dir();
            if entry.file_name() == ".git" {
                match is_directory {
                    true => std::fs::remove_dir_all(entry.path()),
                    false => std::fs::remove_file(entry.path()),
                }
                .context("remove .git")?;
            } else if is_directory {
                folders.push(entry.path());
            }
        }
    }
    Ok(())
}

/// For messages: addresses may have a password in them.
fn without_password(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(['/', ' ', '\'', '"']).unwrap_or(after.len());
        let host = after[..end].rfind('@').map_or(0, |at| at + 1);
        rest = &after[host..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, remote, reference, subdir) in [
            ("git://host/x", "git://host/x", None, ""),
            ("https://host/x.git", "https://host/x.git", None, ""),
            ("https://host/x.git#main", "https://host/x.git", Some("main"), ""),
            (
                "https://host/x.git#v1.0:sub/dir",
                "https://host/x.git",
                Some("v1.0"),
                "sub/dir",
            ),
            ("https://host/x.git#:sub", "https://host/x.git", None, "sub"),
            ("github.com/u/r", "https://github.com/u/r", None, ""),
            (
                "github.com/u/r#refs/pull/1/head",
                "https://github.com/u/r",
                Some("refs/pull/1/head"),
                "",
            ),
            ("git@github.com:u/r", "git@github.com:u/r", None, ""),
            ("ssh://git@host:22/x", "ssh://git@host:22/x", None, ""),
        ] {
            let got = Repository::parse(text).unwrap().unwrap();
            assert_eq!(
                (got.remote.as_str(), got.reference.as_deref(), got.subdir.as_str()),
                (remote, reference, subdir),
                "{text}"
            );
        }
        for other in [
            "https://host/x.tar",
            "dir",
            "./github.com/x",
            "file:///x.git",
            "ext::sh -c x",
            "a@b/c",
            "https://host/a.git/b",
            "-",
        ] {
            assert_eq!(Repository::parse(other).unwrap(), None, "{other}");
        }
        for bad in [
            "https://host/x.git#-x",
            "https://host/x.git#--upload-pack=x",
            "https://host/x.git#a..b",
            "https://host/x.git#a b",
            "https://host/x.git#+a",
            "https://host/x.git#:../x",
            "https://host/x.git#main:a/../../x",
            "ssh://-oProxyCommand=x/y",
            "git@-x:y",
            "git://host/a\nb",
        ] {
            assert!(Repository::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn passwords_are_not_told() {
        assert_eq!(
            without_password("unable to access 'https://me:secret@host/x.git/': 403"),
            "unable to access 'https://host/x.git/': 403"
        );
        assert_eq!(without_password("git@host:x"), "git@host:x");
    }
}
