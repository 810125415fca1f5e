//! Platforms: `linux/arm/v7`, as image indexes name them and people type them, and which of them runs where.
//!
//! The order of preference is docker's: a machine takes its own kind first, then older variants of it, then what its
//! processor still runs (32-bit x86 on amd64, 32-bit ARM on arm64).

use crate::error::{Error, Result};
use crate::model::image::{ImageConfig, null_is_default};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a manifest in an index is for. Empty means not said.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Platform {
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) architecture: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) os: String,
    #[serde(
        rename = "os.version",
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub(crate) os_version: String,
    #[serde(
        rename = "os.features",
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub(crate) os_features: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub(crate) variant: String,
}

impl Platform {
    pub(crate) fn new(os: &str, architecture: &str, variant: &str) -> Platform {
        Platform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
            ..Platform::default()
        }
    }

    /// As typed after `--platform`: `linux/arm/v7`, `linux/amd64`, `arm64`, `linux`.
    pub(crate) fn parse(text: &str) -> Result<Platform> {
        let bad = || {
            Error::other(format!("invalid platform '{}'", text.escape_debug()))
                .with_hint("write it like linux/amd64, linux/arm/v7 or arm64")
        };
        let good = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(|part| good(part)) {
            return Err(bad());
        }
        let host = Platform::host();
        let platform = match parts[..] {
            [os] if is_os(os) => Platform::new(os, &host.architecture, &host.variant),
            [architecture] if is_architecture(architecture) => Platform::new(&host.os, architecture, ""),
            [os, architecture] => Platform::new(os, architecture, ""),
            [os, architecture, variant] => Platform::new(os, architecture, variant),
            _ => return Err(bad()),
        };
        Ok(platform.normalized())
    }

    /// Of this machine.
    pub(crate) fn host() -> Platform {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Platform::new("linux", architecture, "")
    }

    /// What an image's configuration says it is for.
    pub(crate) fn of(config: &ImageConfig) -> Platform {
        Platform::new(&config.os, &config.architecture, &config.variant).normalized()
    }

    /// With Go's names for what people and kernels call otherwise, and without variants that go without saying.
    #[must_use]
    pub(crate) fn normalized(mut self) -> Platform {
        self.os.make_ascii_lowercase();
        self.architecture.make_ascii_lowercase();
        self.variant.make_ascii_lowercase();
        if self.os == "macos" {
            "darwin".clone_into(&mut self.os);
        }
        let (architecture, variant) = match (self.architecture.as_str(), self.variant.as_str()) {
            ("i386" | "i486" | "i586" | "i686" | "x86", _) => ("386", ""),
            ("x86_64" | "x86-64" | "amd64", "" | "v1") => ("amd64", ""),
            ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
            ("aarch64" | "arm64", "" | "8" | "v8" | "v8.0") => ("arm64", ""),
            ("aarch64" | "arm64", variant) => ("arm64", variant),
            ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
            ("armel", _) | ("arm", "6") => ("arm", "v6"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "8") => ("arm", "v8"),
            other => other,
        };
        let (architecture, variant) = (architecture.to_owned(), variant.to_owned());
        Platform {
            architecture,
            variant,
            ..self
        }
    }

    /// `unknown/unknown` is what builders call what is no image: attestations.
    pub(crate) fn is_unknown(&self) -> bool {
        self.os == "unknown" || self.architecture == "unknown"
    }

    /// In docker's words, if nobody asked for this platform and this machine is another.
    pub(crate) fn warning_here(&self) -> Option<String> {
        let host = Platform::host();
        let foreign = !self.architecture.is_empty() && host.rank(self).is_none();
        foreign.then(|| {
            format!(
                "WARNING: The requested image's platform ({}) does not match the detected host platform ({host}) and no \
                 specific platform was requested",
                self.to_string().escape_debug()
            )
        })
    }

    /// How good `offered` is for who asked for this: 0 for the same, more for what also runs, `None` for what does not.
    pub(crate) fn rank(&self, offered: &Platform) -> Option<usize> {
        let offered = offered.clone().normalized();
        let asked = self.clone().normalized();
        if offered.os != asked.os {
            return None;
        }
        asked
            .acceptable()
            .iter()
            .position(|(architecture, variant)| *architecture == offered.architecture && *variant == offered.variant)
    }

    /// Architectures and variants, the best one first.
    fn acceptable(&self) -> Vec<(String, String)> {
        let (architecture, variant) = (self.architecture.clone(), self.variant.clone());
        let mut all = vec![(architecture.clone(), variant.clone())];
        let number = |text: &str| text.strip_prefix('v').and_then(|n| n.parse::<u32>().ok());
        match architecture.as_str() {
            "amd64" => {
                let level = number(&variant).unwrap_or(1).min(100);
                all.extend((2..level).rev().map(|n| (architecture.clone(), format!("v{n}"))));
                all.extend((level > 1).then(|| (architecture, String::new())));
                all.push(("386".to_owned(), String::new()));
            }
            "arm" => all.extend(older_arm(number(&variant).unwrap_or(7))),
            "arm64" => {
                let (major, minor) = arm64_level(&variant);
                all.extend(
                    (0..minor)
                        .rev()
                        .map(|n| (architecture.clone(), arm64_variant(major, n))),
                );
                if major > 8 {
                    // ARMv9.n has all of ARMv8.(n+5).
                    let equal = (minor + 5).min(9);
                    all.extend((0..=equal).rev().map(|n| (architecture.clone(), arm64_variant(8, n))));
                }
                all.push(("arm".to_owned(), "v8".to_owned()));
                all.extend(older_arm(8));
            }
            _ => {}
        }
        all
    }
}

fn older_arm(version: u32) -> impl Iterator<Item = (String, String)> {
    (5..version.min(9)).rev().map(|n| ("arm".to_owned(), format!("v{n}")))
}

/// `v8.2` → (8, 2).
fn arm64_level(variant: &str) -> (u32, u32) {
    let text = variant.strip_prefix('v').unwrap_or_default();
    let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
    (major.parse().unwrap_or(8), minor.parse::<u32>().unwrap_or(0).min(9))
}

fn arm64_variant(major: u32, minor: u32) -> String {
    match (major, minor) {
        (8, 0) => String::new(),
        (major, 0) => format!("v{major}"),
        (major, minor) => format!("v{major}.{minor}"),
    }
}

fn is_os(word: &str) -> bool {
    matches!(
        word.to_ascii_lowercase().as_str(),
        "linux" | "windows" | "darwin" | "macos" | "freebsd" | "netbsd" | "openbsd" | "solaris" | "illumos" | "wasip1"
    )
}

fn is_architecture(word: &str) -> bool {
    matches!(
        Platform::new("", word, "").normalized().architecture.as_str(),
        "386"
            | "amd64"
            | "arm"
            | "arm64"
            | "loong64"
            | "mips"
            | "mipsle"
            | "mips64"
            | "mips64le"
            | "ppc64"
            | "ppc64le"
            | "riscv64"
            | "s390x"
            | "wasm"
    )
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |text: &str| match text {
            "" => "unknown".to_owned(),
            text => text.escape_debug().to_string(),
        };
        write!(f, "{}/{}", part(&self.os), part(&self.architecture))?;
        match self.variant.is_empty() {
            true => Ok(()),
            false => write!(f, "/{}", part(&self.variant)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        Platform::parse(text).unwrap()
    }

    #[test]
    fn words_for_platforms() {
        for (text, shown) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("Linux/AArch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("arm64", "linux/arm64"),
            ("armhf", "linux/arm/v7"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/i386", "linux/386"),
            ("windows/amd64", "windows/amd64"),
            ("s390x", "linux/s390x"),
        ] {
            assert_eq!(platform(text).to_string(), shown, "{text}");
        }
        assert_eq!(platform("linux"), Platform::host());
        for text in [
            "",
            "/",
            "linux/",
            "linux/amd64/v1/x",
            "nonsense",
            "linux/am\x1b64",
            "a b",
        ] {
            let e = Platform::parse(text).unwrap_err();
            assert!(!e.to_string().contains('\x1b'), "{e}");
        }
    }

    #[test]
    fn what_runs_where() {
        for (asked, offered, rank) in [
            ("linux/amd64", "linux/amd64", Some(0)),
            ("linux/amd64", "linux/amd64/v2", None),
            ("linux/amd64", "linux/386", Some(1)),
            ("linux/amd64/v3", "linux/amd64/v2", Some(1)),
            ("linux/amd64/v3", "linux/amd64", Some(2)),
            ("linux/amd64/v3", "linux/amd64/v4", None),
            ("linux/arm/v7", "linux/arm/v6", Some(1)),
            ("linux/arm/v7", "linux/arm/v5", Some(2)),
            ("linux/arm/v6", "linux/arm/v7", None),
            ("linux/arm64", "linux/arm/v7", Some(2)),
            ("linux/arm64/v8.2", "linux/arm64", Some(2)),
            ("linux/arm64/v9", "linux/arm64", Some(6)),
            ("linux/arm64", "linux/amd64", None),
            ("linux/amd64", "windows/amd64", None),
            ("linux/s390x", "linux/s390x", Some(0)),
        ] {
            assert_eq!(
                platform(asked).rank(&platform(offered)),
                rank,
                "{asked} offered {offered}"
            );
        }
        assert_eq!(
            platform("linux/arm64").rank(&Platform::new("linux", "arm64", "v8")),
            Some(0)
        );
        assert_eq!(platform("linux/amd64").rank(&Platform::default()), None);
    }

    #[test]
    fn attestations_are_unknown() {
        assert!(Platform::new("unknown", "unknown", "").is_unknown());
        assert!(!Platform::host().is_unknown());
        assert_eq!(Platform::default().to_string(), "unknown/unknown");
    }

    #[test]
    fn json_as_in_an_index() {
        let json =
            r#"{"architecture":"amd64","os":"windows","os.version":"10.0.1","os.features":["win32k"],"variant":"v2"}"#;
        let parsed: Platform = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&parsed).unwrap(), json);
        let sparse: Platform = serde_json::from_str(r#"{"os":"linux","variant":null,"os.features":null}"#).unwrap();
        assert_eq!(sparse, Platform::new("linux", "", ""));
    }
}
