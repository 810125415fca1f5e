//! `build`: a Dockerfile and its context → an image.

mod flags;
mod options;

use crate::build::options::{Call, Destination, Options, Output};
use crate::build::{self, lint, outline};
use crate::cli::argument::Values;
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::error::Result;
use crate::output::build_progress::{self, Mode};
use crate::output::progress::To;
use clap::ArgMatches;
use flags::define;
use options::options;

pub(super) const SPEC: Spec = Spec {
    name: "build",
    about: "Build an image from a Dockerfile",
    examples: &[
        (
            "barge build -t app .",
            "the Dockerfile of this directory, and the files beside it",
        ),
        (
            "barge build -f docker/web.Dockerfile --target test --build-arg VERSION=3 .",
            "one stage of another Dockerfile",
        ),
        (
            "barge build - < Dockerfile",
            "without files; a tar archive may come in too",
        ),
        (
            "barge build -t app github.com/user/repo#v1:docker",
            "a directory of a git repository",
        ),
        (
            "barge build --secret id=token,src=$HOME/.token -o type=local,dest=out .",
            "with a secret for RUN --mount=type=secret, and the files instead of an image",
        ),
        ("barge build --check .", "only look for mistakes"),
    ],
    also: None,
    body: Body::plain(define, run),
};

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let mode = match (m.on("quiet"), m.text("progress")) {
        (true, _) => Mode::Quiet,
        (false, Some(text)) => text.parse()?,
        (false, None) => std::env::var("BUILDKIT_PROGRESS")
            .unwrap_or_default()
            .parse()
            .unwrap_or_default(),
    };
    let mut options = options(m)?;
    session.complete(&mut options.run);
    for (flag, says) in [
        ("provenance", "no attestations are made"),
        ("sbom", "no attestations are made"),
    ] {
        if m.text(flag).is_some_and(|v| !matches!(v, "" | "false")) {
            session.console.note(&format!("barge: --{flag}: {says}"));
        }
    }
    match options.call {
        Call::Build => {}
        Call::Check => return check(&options, session),
        Call::Outline { .. } | Call::Targets { .. } => {
            let store = session.store()?;
            session.console.line(outline::call(&store, &options)?.trim_end())?;
            return Ok(0);
        }
    }
    let store = session.store()?;
    // Where data goes to stdout, words do not.
    let data = options.outputs.iter().any(|o| match o {
        Output::Tar { dest } | Output::Oci { dest, .. } => *dest == Destination::Stdout,
        Output::Docker { dest, .. } => *dest == Some(Destination::Stdout),
        _ => false,
    });
    let progress = build_progress::for_command(mode, if data { To::Stderr } else { To::Stdout });
    let built = build::build(&store, &options, &*progress)?;
    if mode == Mode::Quiet && !data {
        for id in &built.ids {
            session.console.line(&id.to_string())?;
        }
    }
    Ok(0)
}

fn check(options: &Options, session: &mut Session) -> Result<u8> {
    let store = session.store()?;
    let report = lint::check_options(&store, options)?;
    for finding in &report.findings {
        session.console.line(&finding.to_string())?;
    }
    match &report.findings[..] {
        [] => {
            session.console.line("Check complete, no warnings found.")?;
            Ok(0)
        }
        found => {
            let warnings = if found.len() == 1 {
                "warning has"
            } else {
                "warnings have"
            };
            session
                .console
                .line(&format!("Check complete, {} {warnings} been found!", found.len()))?;
            // As docker: a check that finds something fails.
            Ok(1)
        }
    }
}

/// From words as typed.
#[cfg(test)]
pub(in crate::cli) fn parsed(words: &[&str]) -> Result<Options> {
    use crate::error::Error;
    let mut parser = crate::cli::tree::parser(&["build"]).ok_or_else(|| Error::other("no build"))?;
    parser.build();
    let words: Vec<std::ffi::OsString> = words.iter().map(std::ffi::OsString::from).collect();
    let words = crate::cli::compat::normalise(&parser, &words);
    let all = std::iter::once(std::ffi::OsString::from("barge")).chain(words);
    let m = parser
        .try_get_matches_from_mut(all)
        .map_err(|e| Error::usage(e.to_string()))?;
    options(&m)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::options::ContextPlace;
    use crate::build::options::DockerfilePlace;
    use crate::build::options::Squash;
    use crate::container::config::NetworkArg;
    use crate::image::pull::PullPolicy;

    #[test]
    fn the_words_of_2013() {
        let o = parsed(&["-t", "me/app:1", "-q", "-no-cache", "-rm=false", "."]).unwrap();
        assert_eq!(o.tags[0].to_string(), "me/app:1");
        assert!(o.cache.ignore);
        assert_eq!(o.context, ContextPlace::Directory(".".into()));
        assert_eq!(parsed(&["-"]).unwrap().context, ContextPlace::Stdin);
        assert!(parsed(&[]).is_err());
    }

    #[test]
    fn the_words_of_today() {
        let o = parsed(&[
            "-f",
            "a/b",
            "-t",
            "x",
            "-t",
            "y:2",
            "--target",
            "t",
            "--build-arg",
            "A=1",
            "--label",
            "l=m",
            "--platform",
            "linux/arm64,linux/amd64",
            "--pull",
            "--secret",
            "id=s,src=/f",
            "--ssh",
            "default",
            "-o",
            "type=tar,dest=o",
            "--iidfile",
            "i",
            "--metadata-file",
            "m",
            "--cache-from",
            "c",
            "--cache-to",
            "type=inline",
            "--squash",
            "--network",
            "host",
            "--add-host",
            "h:1.2.3.4",
            "-m",
            "64m",
            "--shm-size",
            "1m",
            "--ulimit",
            "nofile=10",
            "--allow",
            "network.host",
            "--jobs",
            "3",
            "--no-cache-filter",
            "A,b",
            "--annotation",
            "manifest:k=v",
            "--source-date-epoch",
            "1700000000",
            "-",
        ])
        .unwrap();
        assert_eq!(o.dockerfile, DockerfilePlace::File("a/b".into()));
        assert_eq!((o.tags.len(), o.platforms.len(), o.jobs), (2, 2, Some(3)));
        assert_eq!(o.pull, PullPolicy::Always);
        assert_eq!(o.run.network, NetworkArg::Host);
        assert_eq!(
            (o.run.resources.memory, o.run.shm_size),
            (Some(64 << 20), Some(1 << 20))
        );
        assert_eq!(o.cache.ignore_stages, ["a", "b"]);
        assert_eq!(o.annotations["k"], "v");
        assert_eq!(o.time.created.unwrap().as_second(), 1_700_000_000);
        assert!(o.time.rewrite_files && o.squash == Squash::New);
        assert_eq!(o.args["SOURCE_DATE_EPOCH"], "1700000000");
        assert_eq!(parsed(&["--pull=never", "."]).unwrap().pull, PullPolicy::Never);
        assert_eq!(parsed(&["--pull", "."]).unwrap().pull, PullPolicy::Always);
    }

    #[test]
    fn values_that_are_none() {
        for words in [
            &["-t", "A B", "."][..],
            &["--pull=sometimes", "."],
            &["--jobs", "-1", "."],
            &["--timestamp", "x", "."],
            &["--timestamp", "1", "--source-date-epoch", "1", "."],
            &["--allow", "all", "."],
            &["--push", "."],
            &["--cache-ttl", "x", "."],
            &["--network", "host", "--network", "none", "."],
            &["-v", "/x", "."],
            &["--env", "=x", "."],
            &["--os", "linux", "--platform", "linux/amd64", "."],
            &["--call", "outlines", "."],
            &["--call", "outline,format=xml", "."],
            &["--format", "zip", "."],
            &[
                "-t",
                "x@sha256:0000000000000000000000000000000000000000000000000000000000000000",
                ".",
            ],
        ] {
            assert!(parsed(words).is_err(), "{words:?}");
        }
    }
}
