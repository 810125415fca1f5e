//! The flags of every command that speaks to a registry: how it gets in.

use crate::cli::argument::{Values, bytes, flag, value, whole_number};
use crate::cli::console;
use crate::error::{Error, Result};
use crate::model::time::parse_duration;
use crate::registry::Access;
use crate::registry::credentials::Credentials;
use clap::{ArgMatches, Command};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const LONGEST_DELAY: Duration = Duration::from_secs(3600);

pub(crate) fn define(command: Command) -> Command {
    command
        .arg(bytes(
            "authfile",
            "FILE",
            "Where the credentials are, instead of the usual places",
        ))
        .arg(value("creds", "USER[:PASSWORD]", "Credentials for this once").hide(true))
        .arg(flag(
            "tls-verify",
            "Insist on a valid certificate; false also allows plain HTTP",
        ))
        .arg(bytes(
            "cert-dir",
            "DIR",
            "Certificate authorities and client certificates",
        ))
        .arg(
            value("retry", "N", "Attempts without progress before giving up [default: 5]")
                .value_parser(|text: &str| whole_number(text)),
        )
        .arg(value(
            "retry-delay",
            "DURATION",
            "Time between two attempts [default: 500ms, then longer each time]",
        ))
}

pub(crate) fn of(m: &ArgMatches) -> Result<Access> {
    let retry = m
        .get_one::<i64>("retry")
        .map(|n| u32::try_from(*n).map_err(|_| Error::usage(format!("invalid --retry {n}: want a number from 0 on"))));
    let retry_delay = m.text("retry-delay").map(|text| {
        let delay = parse_duration(text).filter(|d| *d <= LONGEST_DELAY);
        delay.ok_or_else(|| {
            Error::usage(format!("invalid value '{text}' for '--retry-delay'"))
                .with_hint("want a time such as 2s, at most 1h")
        })
    });
    Ok(Access {
        authfile: m.raw("authfile").map(PathBuf::from),
        credentials: m.text("creds").map(Credentials::parse).transpose()?,
        tls_verify: m.switch("tls-verify"),
        cert_dir: m.raw("cert-dir").map(PathBuf::from),
        retry: retry.transpose()?,
        retry_delay: retry_delay.transpose()?,
        notice: Some(Arc::new(|text: &str| {
            console::say(&format!("barge: {}\n", crate::output::terminal::clean(text)));
        })),
    })
}
