//! `-v`, `--mount` and `--tmpfs`: text → mounts. Only relative host paths look at the outside, for the working
//! directory.

use crate::cli::resource;
use crate::container::config::{ImageMount, VolumesFrom, clean_target};
use crate::error::{Error, Result};
use crate::model::fields;
use crate::model::mount::{Mount, Propagation, Source};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// What one `-v` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Volume {
    /// `-v /x`: anonymous, and only if nothing else is mounted there.
    Anonymous(PathBuf),
    Mounted(Mount),
}

/// `/x`, `name:/x[:options]`, `/host:/x[:options]`; `./host` is taken from `here`.
pub(crate) fn volume(text: &OsStr, here: &Path) -> Result<Volume> {
    let shown = text.display();
    let parts: Vec<&[u8]> = text.as_bytes().split(|b| *b == b':').collect();
    let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
    let (source, target, options) = match parts[..] {
        [target] => return Ok(Volume::Anonymous(clean_target(&path(target))?)),
        [source, target] => (source, target, ""),
        [source, target, options] => {
            let options = std::str::from_utf8(options).map_err(|_| Error::usage(format!("invalid mode in {shown}")))?;
            (source, target, options)
        }
        _ => return Err(Error::usage(format!("Invalid bind specification: {shown}"))),
    };
    if source.is_empty() || target.is_empty() {
        return Err(Error::usage(format!("Invalid bind specification: {shown}")));
    }
    let target = clean_target(&path(target))?;
    let options = volume_options(options)?;
    let is_relative = source == b"." || source == b".." || source.starts_with(b"./") || source.starts_with(b"../");
    let source = if source.starts_with(b"/") || is_relative {
        if options.nocopy {
            return Err(Error::usage(format!(
                "invalid mode: nocopy is for volumes, not for {}",
                path(source).display()
            )));
        }
        let path = if is_relative {
            here.join(path(source))
        } else {
            path(source)
        };
        Source::Bind {
            path: tidy(&path),
            non_recursive: false,
            create: true,
        }
    } else {
        Source::Volume {
            name: volume_name(source)?,
            anonymous: false,
            copy_up: !options.nocopy,
            subpath: None,
        }
    };
    Ok(Volume::Mounted(Mount {
        source,
        target,
        read_only: options.read_only,
        propagation: options.propagation,
        idmap: options.idmap,
        chown: options.chown,
    }))
}

/// Without `.` and double slashes; `..` stays, because the kernel follows links before it.
fn tidy(path: &Path) -> PathBuf {
    path.components().collect()
}

/// `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, as `store/names.rs` has it.
fn volume_name(bytes: &[u8]) -> Result<String> {
    let word = |b: u8| b.is_ascii_alphanumeric();
    let good = !bytes.is_empty()
        && bytes.len() <= 255
        && word(bytes[0])
        && bytes.iter().all(|b| word(*b) || matches!(b, b'_' | b'.' | b'-'));
    match std::str::from_utf8(bytes) {
        Ok(name) if good => Ok(name.to_owned()),
        _ => {
            let shown = String::from_utf8_lossy(bytes);
            let e = Error::usage(format!(
                "\"{shown}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed"
            ));
            Err(match bytes.contains(&b'/') {
                true => e.with_hint(format!("for a host directory write an absolute path, or ./{shown}")),
                false => e,
            })
        }
    }
}

#[derive(Default)]
struct VolumeOptions {
    read_only: bool,
    nocopy: bool,
    propagation: Propagation,
    idmap: bool,
    chown: bool,
}

fn volume_options(text: &str) -> Result<VolumeOptions> {
    let mut options = VolumeOptions::default();
    for word in text.split(',').filter(|_| !text.is_empty()) {
        match word {
            "ro" | "readonly" => options.read_only = true,
            "rw" => options.read_only = false,
            "nocopy" => options.nocopy = true,
            "idmap" => options.idmap = true,
            "U" => options.chown = true,
            // Labels of SELinux and consistency on macOS: nothing to do here.
            "z" | "Z" | "cached" | "delegated" | "consistent" | "default" => {}
            _ => match Propagation::parse(word) {
                Some(propagation) => options.propagation = propagation,
                None => {
                    return Err(Error::usage(format!("invalid mode: {word}"))
                        .with_hint("there are ro, rw, z, Z, nocopy, idmap, U, [r]shared, [r]slave, [r]private"));
                }
            },
        }
    }
    Ok(options)
}

/// `--tmpfs PATH[:options]`.
pub(crate) fn tmpfs(text: &OsStr) -> Result<Mount> {
    let (path, options) = match text.as_bytes().iter().position(|b| *b == b':') {
        Some(at) => (&text.as_bytes()[..at], &text.as_bytes()[at + 1..]),
        None => (text.as_bytes(), &b""[..]),
    };
    let target = clean_target(Path::new(OsStr::from_bytes(path)))?;
    let options = std::str::from_utf8(options).map_err(|_| Error::usage("invalid tmpfs option"))?;
    let mut made = Tmpfs::default();
    for word in options.split(',').filter(|w| !w.is_empty()) {
        made.option(word)?;
    }
    Ok(made.mount(target))
}

struct Tmpfs {
    size: Option<u64>,
    mode: Option<u32>,
    read_only: bool,
    flags: Vec<String>,
}

impl Default for Tmpfs {
    fn default() -> Self {
        let flags = ["noexec", "nosuid", "nodev"].map(str::to_owned).to_vec();
        Tmpfs {
            size: None,
            mode: None,
            read_only: false,
            flags,
        }
    }
}

impl Tmpfs {
    fn option(&mut self, word: &str) -> Result<()> {
        let bad = || Error::usage(format!("invalid tmpfs option \"{word}\""));
        let number = |v: &str| !v.is_empty() && v.bytes().all(|b| b.is_ascii_digit());
        match word.split_once('=') {
            None => match word {
                "ro" => self.read_only = true,
                "rw" => self.read_only = false,
                "exec" | "suid" | "dev" => self.flags.retain(|f| f[2..] != *word),
                "noexec" | "nosuid" | "nodev" | "noatime" | "nodiratime" | "relatime" | "strictatime" | "sync"
                | "dirsync"
                    if !self.flags.iter().any(|f| f == word) =>
                {
                    self.flags.push(word.to_owned());
                }
                "noexec" | "nosuid" | "nodev" | "noatime" | "nodiratime" | "relatime" | "strictatime" | "sync"
                | "dirsync" | "async" | "atime" | "diratime" | "private" | "rprivate" => {}
                _ => return Err(bad()),
            },
            Some(("size", size)) => self.size = Some(resource::bytes(size)?),
            Some(("mode", mode)) => self.mode = Some(octal(mode).ok_or_else(bad)?),
            Some(("uid" | "gid", value)) if number(value) => self.flags.push(word.to_owned()),
            Some(("nr_inodes" | "nr_blocks", value)) if number(value.trim_end_matches(['k', 'm', 'g'])) => {
                self.flags.push(word.to_owned());
            }
            _ => return Err(bad()),
        }
        Ok(())
    }

    fn mount(self, target: PathBuf) -> Mount {
        let source = Source::Tmpfs {
            size: self.size,
            mode: self.mode,
            options: self.flags,
        };
        Mount {
            read_only: self.read_only,
            ..Mount::new(source, target)
        }
    }
}

fn octal(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|m| *m <= 0o7777 && text.bytes().all(|b| b.is_ascii_digit()))
}

/// `--volumes-from CONTAINER[:ro|rw]`.
pub(crate) fn volumes_from(text: &str) -> Result<VolumesFrom> {
    let (container, mode) = text.split_once(':').unwrap_or((text, ""));
    let read_only = match mode {
        "" => None,
        "ro" => Some(true),
        "rw" | "z" | "Z" => Some(false),
        _ => {
            return Err(Error::usage(format!("invalid mode for volumes-from: {mode}")).with_hint("there are ro and rw"));
        }
    };
    match container {
        "" => Err(Error::usage(
            "malformed volumes-from specification: it names no container",
        )),
        _ => Ok(VolumesFrom {
            container: container.to_owned(),
            read_only,
            typed: text.to_owned(),
        }),
    }
}

/// What one `--mount` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    Mount(Mount),
    Image(ImageMount),
}

/// `--mount type=…,source=…,target=…`: comma-separated fields, where one with a comma may stand in double quotes.
pub(crate) fn mount(text: &str, here: &Path) -> Result<Asked> {
    let bad = |why: String| Error::usage(format!("invalid argument \"{text}\" for --mount: {why}"));
    let mut fields = Fields::default();
    for field in fields::split(text).ok_or_else(|| bad("a quote does not end".into()))? {
        fields.take(&field).map_err(|e| bad(e.to_string()))?;
    }
    let asked = match fields.kind.as_deref() {
        Some("image") => fields.image().map(Asked::Image),
        _ => fields.mount(here).map(Asked::Mount),
    };
    asked.map_err(|e| bad(e.to_string()))
}

/// What has been said, whatever its type.
#[derive(Default)]
struct Fields {
    kind: Option<String>,
    source: Option<String>,
    target: Option<String>,
    /// `None`: what the type has.
    read_only: Option<bool>,
    propagation: Option<Propagation>,
    non_recursive: bool,
    nocopy: bool,
    idmap: bool,
    chown: bool,
    subpath: Option<PathBuf>,
    size: Option<u64>,
    mode: Option<u32>,
    /// The type that the last option of one type only belongs to, and its name.
    belongs: Vec<(&'static str, String)>,
}

impl Fields {
    fn take(&mut self, field: &str) -> Result<()> {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field, None),
        };
        let bad_value = || Error::usage(format!("invalid value for {key}: {}", value.unwrap_or_default()));
        let switch = || match value {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(_) => Err(bad_value()),
        };
        let text = || value.ok_or_else(|| Error::usage(format!("'{key}' needs a value")));
        let lower = key.to_ascii_lowercase();
        for (kind, prefix) in [
            ("bind", "bind-"),
            ("volume", "volume-"),
            ("tmpfs", "tmpfs-"),
            ("image", "image-"),
        ] {
            if lower.starts_with(prefix) {
                self.belongs.push((kind, lower.clone()));
            }
        }
        match lower.as_str() {
            "type" => self.kind = Some(text()?.to_ascii_lowercase()),
            "source" | "src" => self.source = Some(text()?.to_owned()),
            "target" | "dst" | "destination" => self.target = Some(text()?.to_owned()),
            "readonly" | "ro" => self.read_only = Some(switch()?),
            "readwrite" | "rw" => self.read_only = Some(!switch()?),
            "bind-propagation" => {
                self.propagation = Some(Propagation::parse(&text()?.to_ascii_lowercase()).ok_or_else(bad_value)?);
            }
            "idmap" => self.idmap = switch()?,
            "u" | "chown" => self.chown = switch()?,
            "bind-nonrecursive" => self.non_recursive = switch()?,
            "bind-recursive" => self.non_recursive = text()? == "disabled",
            "volume-nocopy" => self.nocopy = switch()?,
            "volume-subpath" | "image-subpath" | "subpath" => self.subpath = Some(PathBuf::from(text()?)),
            "tmpfs-size" => self.size = Some(resource::bytes(text()?)?),
            "tmpfs-mode" => self.mode = Some(octal(text()?).ok_or_else(bad_value)?),
            "consistency" => {}
            _ => return Err(Error::usage(format!("unexpected key '{key}' in '{field}'"))),
        }
        Ok(())
    }

    /// Where it is mounted, if nothing is said that belongs to another type than `kind`.
    fn target(&self, kind: &str) -> Result<PathBuf> {
        let target = self.target.as_deref().filter(|t| !t.is_empty());
        let target = clean_target(Path::new(target.ok_or_else(|| Error::usage("target is required"))?))?;
        match self.belongs.iter().find(|(of, _)| *of != kind) {
            Some((_, option)) => Err(Error::usage(format!("cannot mix '{option}' with mount type '{kind}'"))),
            None => Ok(target),
        }
    }

    fn image(self) -> Result<ImageMount> {
        let target = self.target("image")?;
        let reference = self.source.filter(|s| !s.is_empty());
        if self.idmap || self.chown {
            return Err(Error::usage(
                "idmap and U are not for type=image: its files stay as they are",
            ));
        }
        Ok(ImageMount {
            reference: reference.ok_or_else(|| Error::usage("type=image requires a source: the image"))?,
            target,
            subpath: self.subpath,
            writable: self.read_only == Some(false),
        })
    }

    fn mount(self, here: &Path) -> Result<Mount> {
        let kind = self.kind.as_deref().unwrap_or("volume");
        let target = self.target(kind)?;
        if self.subpath.is_some() && kind != "volume" {
            return Err(Error::usage(format!("cannot mix 'subpath' with mount type '{kind}'")));
        }
        let read_only = self.read_only.unwrap_or(false);
        let given = self.source.filter(|s| !s.is_empty());
        let source = match (kind, given) {
            ("bind", None) => return Err(Error::usage("type=bind requires a source")),
            ("bind", Some(path)) => {
                let path = Path::new(&path);
                if !path.is_absolute() && !path.starts_with(".") && !path.starts_with("..") {
                    let e = format!("invalid mount path: '{}' mount path must be absolute", path.display());
                    return Err(Error::usage(e));
                }
                Source::Bind {
                    path: tidy(&here.join(path)),
                    non_recursive: self.non_recursive,
                    create: false,
                }
            }
            ("volume", name) => Source::Volume {
                anonymous: name.is_none(),
                name: name.map(|n| volume_name(n.as_bytes())).transpose()?.unwrap_or_default(),
                copy_up: !self.nocopy,
                subpath: self.subpath,
            },
            ("tmpfs", None) => {
                let made = Tmpfs {
                    size: self.size,
                    mode: self.mode,
                    read_only,
                    ..Tmpfs::default()
                };
                return Ok(made.mount(target));
            }
            ("tmpfs", Some(_)) => return Err(Error::usage("type=tmpfs takes no source")),
            _ => {
                return Err(Error::usage(format!(
                    "mount type '{kind}' is unknown: there are bind, volume, tmpfs and image"
                )));
            }
        };
        Ok(Mount {
            source,
            target,
            read_only,
            propagation: self.propagation.unwrap_or_default(),
            idmap: self.idmap,
            chown: self.chown,
        })
    }
}

#[cfg(test)]
#[path = "mount_tests.rs"]
mod tests;
