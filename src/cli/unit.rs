//! A systemd unit for a container, as text (systemd.unit(5), systemd.service(5)): pure.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;

/// What a unit is made from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unit<'a> {
    pub(crate) description: &'a str,
    pub(crate) wants: &'a [&'a str],
    pub(crate) after: &'a [&'a str],
    pub(crate) requires: &'a [&'a str],
    /// Where the engine keeps things.
    pub(crate) directories: &'a [String],
    /// `Restart=`.
    pub(crate) restart: &'a str,
    pub(crate) restart_sec: Option<u64>,
    pub(crate) start_timeout: Option<u64>,
    /// Seconds; longer than the container's own.
    pub(crate) stop_timeout: u64,
    pub(crate) environment: &'a [String],
    pub(crate) start: &'a [&'a OsStr],
    pub(crate) reload: &'a [&'a OsStr],
}

impl Unit<'_> {
    pub(crate) fn text(&self) -> String {
        let mut text = format!("[Unit]\nDescription={}\n", plain(self.description));
        text.push_str("Documentation=man:barge-generate-systemd(1)\n");
        for (key, units) in [("Wants", self.wants), ("After", self.after)] {
            let _ = writeln!(text, "{key}={}", [&["network-online.target"], units].concat().join(" "));
        }
        if !self.requires.is_empty() {
            let _ = writeln!(text, "Requires={0}\nAfter={0}", self.requires.join(" "));
        }
        let directories: Vec<String> = self.directories.iter().map(|d| word(OsStr::new(d))).collect();
        let _ = writeln!(text, "RequiresMountsFor={}", directories.join(" "));
        text.push_str("\n[Service]\nType=notify\nNotifyAccess=all\nDelegate=yes\nKillMode=mixed\n");
        for variable in self.environment {
            let _ = writeln!(text, "Environment={}", word(OsStr::new(variable)));
        }
        let _ = writeln!(text, "Restart={}", self.restart);
        if let Some(seconds) = self.restart_sec {
            let _ = writeln!(text, "RestartSec={seconds}");
        }
        if let Some(seconds) = self.start_timeout {
            let _ = writeln!(text, "TimeoutStartSec={seconds}");
        }
        let _ = writeln!(text, "TimeoutStopSec={}", self.stop_timeout);
        let _ = writeln!(text, "ExecStart={}", line(self.start));
        let _ = writeln!(text, "ExecReload={}", line(self.reload));
        text.push_str("\n[Install]\nWantedBy=multi-user.target\n");
        text
    }
}

/// A value that is text: `%` begins a specifier, and a line ends a setting.
fn plain(text: &str) -> String {
    text.replace('%', "%%").replace(|c: char| c.is_control(), " ")
}

/// Words of a command line. `$` begins a variable there and nowhere else.
fn line(words: &[&OsStr]) -> String {
    let words: Vec<String> = words.iter().map(|w| word(w).replace('$', "$$")).collect();
    words.join(" ")
}

/// One word, quoted if it has to be.
fn word(word: &OsStr) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:=@,+".contains(&b);
    let bytes = word.as_bytes();
    if !bytes.is_empty() && bytes.iter().all(|b| is_plain(*b)) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let mut quoted = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => quoted.extend(['\\', c]),
                '%' => quoted.push_str("%%"),
                '\n' => quoted.push_str("\\n"),
                '\t' => quoted.push_str("\\t"),
                c if c.is_control() && c.is_ascii() => {
                    let _ = write!(quoted, "\\x{:02x}", c as u32);
                }
                c => quoted.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(quoted, "\\x{byte:02x}");
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted() {
        for (text, want) in [
            (&b"--name=web"[..], "--name=web"),
            (b"", "\"\""),
            (b"a b", "\"a b\""),
            (b"say \"hi\" \\", r#""say \"hi\" \\""#),
            (b"100%", "\"100%%\""),
            (b"$HOME", "\"$$HOME\""),
            (b"two\nlines", r#""two\nlines""#),
            (b"\x1b\xff", r#""\x1b\xff""#),
            ("caf\u{e9}".as_bytes(), "\"caf\u{e9}\""),
            (b";", "\";\""),
        ] {
            assert_eq!(line(&[OsStr::from_bytes(text)]), want);
        }
    }

    #[test]
    fn a_unit() {
        let unit = Unit {
            description: "barge container 100%\nExecStart=/bin/evil",
            requires: &["db.service"],
            directories: &["/var/lib/barge".to_owned()],
            restart: "on-failure",
            stop_timeout: 70,
            environment: &["A=b c".to_owned()],
            start: &[OsStr::new("/usr/bin/barge"), OsStr::new("start"), OsStr::new("web")],
            reload: &[OsStr::new("/usr/bin/barge")],
            ..Unit::default()
        };
        assert_eq!(
            unit.text(),
            "[Unit]\nDescription=barge container 100%% ExecStart=/bin/evil\nDocumentation=man:barge-generate-systemd(1)\n\
             Wants=network-online.target\nAfter=network-online.target\nRequires=db.service\nAfter=db.service\n\
             RequiresMountsFor=/var/lib/barge\n\n\
             [Service]\nType=notify\nNotifyAccess=all\nDelegate=yes\nKillMode=mixed\nEnvironment=\"A=b c\"\n\
             Restart=on-failure\nTimeoutStopSec=70\nExecStart=/usr/bin/barge start web\nExecReload=/usr/bin/barge\n\n\
             [Install]\nWantedBy=multi-user.target\n"
        );
    }
}
