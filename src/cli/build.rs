//! Values of `build`'s flags: text → what they mean (pure but for the working directory).

use crate::build::options::{
    CacheExport, CachePlace, Call, ContextPlace, Destination, DockerfilePlace, NamedContext, NamedPlace, Output,
    SecretFrom, SecretSource, SshSource,
};
use crate::error::{Error, Result};
use crate::model::fields;
use crate::model::near::nearest;
use crate::model::platform::Platform;
use crate::model::reference::Reference;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// `key=value` fields in order; a bare word has no value.
type Fields = Vec<(String, Option<String>)>;

fn fields_of(flag: &str, text: &str) -> Result<Fields> {
    let all =
        fields::split(text).ok_or_else(|| Error::usage(format!("invalid --{flag} '{text}': a quote does not end")))?;
    Ok(all
        .into_iter()
        .map(|field| match field.split_once('=') {
            Some((key, value)) => (key.trim().to_ascii_lowercase(), Some(value.to_owned())),
            None => (field, None),
        })
        .collect())
}

fn unknown_field(flag: &str, key: &str, known: &[&str]) -> Error {
    let e = Error::usage(format!("invalid --{flag}: unknown field '{key}'"));
    match nearest(key, known.iter().copied()) {
        Some(near) => e.with_hint(format!("did you mean {near}?")),
        None => e.with_hint(format!("there are {}", known.join(", "))),
    }
}

fn is_true(flag: &str, key: &str, value: Option<&str>) -> Result<bool> {
    match value {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(other) => Err(Error::usage(format!(
            "invalid --{flag}: {key} is true or false, not '{other}'"
        ))),
    }
}

/// Whether an address is fetched: what git, http and GitHub's short form look like.
fn is_remote(text: &str) -> bool {
    let schemes = ["http://", "https://", "git://", "ssh://", "git@", "github.com/"];
    schemes.iter().any(|s| text.starts_with(s))
}

/// PATH | URL | -. What is a directory here is one, whatever it looks like.
pub(crate) fn context(text: &OsStr) -> Result<ContextPlace> {
    if text.is_empty() {
        return Err(Error::usage("the build context is empty").with_hint("name a directory, a URL, or -"));
    }
    if text == "-" {
        return Ok(ContextPlace::Stdin);
    }
    match text.to_str() {
        Some(address) if is_remote(address) && !Path::new(text).is_dir() => {
            Ok(ContextPlace::Remote(address.to_owned()))
        }
        _ => Ok(ContextPlace::Directory(PathBuf::from(text))),
    }
}

/// `-f`.
pub(crate) fn dockerfile(text: Option<&OsStr>, context: &ContextPlace) -> Result<DockerfilePlace> {
    let Some(text) = text.filter(|t| !t.is_empty()) else {
        return Ok(DockerfilePlace::Usual);
    };
    if text == "-" {
        return match context {
            ContextPlace::Stdin => Err(Error::usage(
                "invalid argument: can't use stdin for both build context and dockerfile",
            )),
            _ => Ok(DockerfilePlace::Stdin),
        };
    }
    match text.to_str() {
        Some(url) if url.starts_with("http://") || url.starts_with("https://") => {
            Ok(DockerfilePlace::Remote(url.to_owned()))
        }
        _ => Ok(DockerfilePlace::File(PathBuf::from(text))),
    }
}

/// `--build-context NAME=…`.
pub(crate) fn named_context(text: &str) -> Result<NamedContext> {
    let bad = |why: &str| {
        Error::usage(format!("invalid --build-context '{text}': {why}"))
            .with_hint("write it like NAME=DIR, NAME=docker-image://IMAGE, NAME=oci-layout://DIR or NAME=URL")
    };
    let (name, value) = text.split_once('=').ok_or_else(|| bad("it has no ="))?;
    if name.is_empty() || value.is_empty() {
        return Err(bad(if name.is_empty() {
            "it has no name"
        } else {
            "it has no value"
        }));
    }
    let image = value
        .strip_prefix("docker-image://")
        .or_else(|| value.strip_prefix("container-image://"))
        .or_else(|| value.strip_prefix("docker://"));
    let place = if let Some(image) = image {
        Reference::parse(image).map_err(|e| bad(&e.to_string()))?;
        NamedPlace::Image(image.to_owned())
    } else if let Some(layout) = value.strip_prefix("oci-layout://") {
        let (dir, select) = layout_parts(layout);
        NamedPlace::OciLayout {
            dir: dir.into(),
            select,
        }
    } else if let Some(stage) = value.strip_prefix("target:") {
        NamedPlace::Stage(stage.to_owned())
    } else if is_remote(value) {
        NamedPlace::Remote(value.to_owned())
    } else {
        NamedPlace::Directory(value.into())
    };
    Ok(NamedContext {
        name: name.to_owned(),
        place,
    })
}

/// `DIR[:TAG|@DIGEST]`; the sign stays with what it begins.
fn layout_parts(text: &str) -> (&str, Option<String>) {
    if let Some(at) = text.find('@') {
        return (&text[..at], Some(text[at..].to_owned()));
    }
    match text.rfind(':') {
        Some(at) if !text[at..].contains('/') => (&text[..at], Some(text[at..].to_owned())),
        _ => (text, None),
    }
}

/// `--secret id=X[,src=FILE|,env=NAME][,type=file|env|secret]`.
pub(crate) fn secret(text: &str) -> Result<SecretSource> {
    let bad = |why: &str| {
        Error::usage(format!("invalid --secret '{text}': {why}"))
            .with_hint("write it like id=NAME,src=FILE or id=NAME,env=VARIABLE")
    };
    let (mut id, mut file, mut env, mut kind) = (None, None, None, None);
    for (key, value) in fields_of("secret", text)? {
        let value = value.ok_or_else(|| bad(&format!("'{key}' has no value")))?;
        match key.as_str() {
            "id" => id = Some(value),
            "src" | "source" => file = Some(value),
            "env" => env = Some(value),
            "type" => kind = Some(value),
            other => return Err(unknown_field("secret", other, &["id", "src", "source", "env", "type"])),
        }
    }
    let id = id.filter(|id| !id.is_empty()).ok_or_else(|| bad("it has no id"))?;
    if file.is_some() && env.is_some() {
        return Err(bad("it has a file and a variable"));
    }
    let from = match (kind.as_deref(), file, env) {
        (None | Some("file"), Some(file), None) => SecretFrom::File(file.into()),
        (None | Some("env"), None, Some(env)) => SecretFrom::Env(env),
        // docker's `type=env,src=NAME`.
        (Some("env"), Some(name), None) => SecretFrom::Env(name),
        (Some("env"), None, None) => SecretFrom::Env(id.clone()),
        (Some("secret"), name, None) => SecretFrom::Stored(name.unwrap_or_else(|| id.clone())),
        (Some("file"), None, None) => SecretFrom::File((&id).into()),
        (None, None, None) => SecretFrom::Any(id.clone()),
        (Some(other), _, _) if !matches!(other, "file" | "env" | "secret") => {
            return Err(bad(&format!("unknown type '{other}'")));
        }
        _ => return Err(bad("its source does not fit its type")),
    };
    Ok(SecretSource { id, from })
}

/// `--ssh default|ID[=SOCKET|KEY[,KEY]]`.
pub(crate) fn ssh(text: &str) -> Result<SshSource> {
    let (id, paths) = text.split_once('=').unwrap_or((text, ""));
    if id.is_empty() {
        return Err(Error::usage(format!("invalid --ssh '{text}': it has no id"))
            .with_hint("write it like default, or ID=KEYFILE"));
    }
    let paths = paths.split(',').filter(|p| !p.is_empty()).map(PathBuf::from).collect();
    Ok(SshSource {
        id: id.to_owned(),
        paths,
    })
}

/// `-o`: `type=…,dest=…`, or a bare directory, or `-` for a tar on stdout. `names` are those of `-t`.
pub(crate) fn output(text: &str, names: &[Reference]) -> Result<Output> {
    let bad = |why: &str| Error::usage(format!("invalid --output '{text}': {why}"));
    let all = fields_of("output", text)?;
    if let [(only, None)] = &all[..] {
        return match only.as_str() {
            "" => Err(bad("it is empty")),
            "-" => Ok(Output::Tar {
                dest: Destination::Stdout,
            }),
            dir => Ok(Output::Local { dest: dir.into() }),
        };
    }
    let (mut kind, mut dest, mut name, mut push, mut tar) = (None, None, None, None, None);
    for (key, value) in all {
        match key.as_str() {
            "type" => kind = value,
            "dest" | "output" => dest = value,
            "name" => name = value,
            "push" => push = Some(is_true("output", "push", value.as_deref())?),
            "tar" => tar = Some(is_true("output", "tar", value.as_deref())?),
            // How layers are made is not asked of each output; docker's and podman's other fields have no meaning here.
            "compression"
            | "compression-level"
            | "force-compression"
            | "oci-mediatypes"
            | "unpack"
            | "store"
            | "buildinfo"
            | "rewrite-timestamp"
            | "name-canonical"
            | "dangling-name-prefix"
            | "platform-split"
            | "registry.insecure" => {}
            key if key.starts_with("annotation") => {
                return Err(bad("annotations are given with --annotation"));
            }
            other => return Err(unknown_field("output", other, &["type", "dest", "name", "push", "tar"])),
        }
    }
    let mut all_names = names.to_vec();
    for name in name.iter().flat_map(|n| n.split(',')).filter(|n| !n.is_empty()) {
        let name = Reference::parse(name).map_err(|e| bad(&e.to_string()))?.or_latest();
        if !all_names.contains(&name) {
            all_names.push(name);
        }
    }
    let dest = dest.filter(|d| !d.is_empty());
    let place = |dest: Option<&String>| match dest.map(String::as_str) {
        None | Some("-") => Destination::Stdout,
        Some(file) => Destination::File(file.into()),
    };
    Ok(match kind.as_deref().unwrap_or("local") {
        "local" => Output::Local {
            dest: dest.ok_or_else(|| bad("type=local needs dest=DIR"))?.into(),
        },
        "tar" => Output::Tar {
            dest: place(dest.as_ref()),
        },
        "oci" => {
            let directory = tar == Some(false);
            if directory && dest.is_none() {
                return Err(bad("tar=false needs dest=DIR"));
            }
            Output::Oci {
                dest: place(dest.as_ref()),
                names: all_names,
                directory,
            }
        }
        "docker" => Output::Docker {
            dest: dest.as_ref().map(|d| place(Some(d))),
            names: all_names,
        },
        kind @ ("image" | "registry") => {
            let push = push.unwrap_or(kind == "registry");
            if push && all_names.is_empty() {
                return Err(bad("what is pushed needs a name (-t)"));
            }
            Output::Image { names: all_names, push }
        }
        "cacheonly" => Output::Nothing,
        other => {
            return Err(bad(&format!("unknown type '{other}'"))
                .with_hint("there are local, tar, oci, docker, image, registry and cacheonly"));
        }
    })
}

/// `--cache-from`.
pub(crate) fn cache_from(text: &str) -> Result<CachePlace> {
    Ok(cache("cache-from", text)?.place)
}

/// `--cache-to`.
pub(crate) fn cache_to(text: &str) -> Result<CacheExport> {
    cache("cache-to", text)
}

fn cache(flag: &str, text: &str) -> Result<CacheExport> {
    let bad = |why: &str| {
        Error::usage(format!("invalid --{flag} '{text}': {why}"))
            .with_hint("write it like type=registry,ref=NAME or type=local,dest=DIR")
    };
    let all = fields_of(flag, text)?;
    let (mut kind, mut name, mut dir, mut tag, mut digest) = (None, None, None, None, None);
    let (mut all_stages, mut ignore_error) = (false, false);
    let mut alone = false;
    for (key, value) in all {
        match (key.as_str(), value) {
            (bare, None) if name.is_none() => {
                alone = true;
                kind = Some("registry".to_owned());
                name = Some(bare.to_owned());
            }
            ("type", value) => kind = value,
            ("ref", value) => name = value,
            ("src" | "dest", value) => dir = value,
            ("tag", value) => tag = value,
            ("digest", value) => digest = value,
            ("mode", Some(mode)) => {
                all_stages = match mode.as_str() {
                    "max" => true,
                    "min" => false,
                    _ => return Err(bad("mode is min or max")),
                };
            }
            ("ignore-error", value) => ignore_error = is_true(flag, "ignore-error", value.as_deref())?,
            ("image-manifest" | "oci-mediatypes" | "compression" | "compression-level" | "force-compression", _) => {}
            (other, _) => {
                let known = ["type", "ref", "src", "dest", "tag", "digest", "mode", "ignore-error"];
                return Err(unknown_field(flag, other, &known));
            }
        }
    }
    let inline = kind.as_deref() == Some("inline");
    let place = match kind.as_deref() {
        Some("local") => CachePlace::Local {
            dir: dir
                .filter(|d| !d.is_empty())
                .ok_or_else(|| bad("it has no directory"))?
                .into(),
            select: digest.map(|d| format!("@{d}")).or_else(|| tag.map(|t| format!(":{t}"))),
        },
        Some("inline") => CachePlace::Local {
            dir: PathBuf::new(),
            select: None,
        },
        Some("registry") => {
            let name = name.ok_or_else(|| bad("it has no ref"))?;
            let name = Reference::parse(&name).map_err(|e| bad(&e.to_string()))?;
            match alone && name.tag.is_none() && name.digest.is_none() {
                true => CachePlace::Repository(name),
                false => CachePlace::Registry(name.or_latest()),
            }
        }
        None => return Err(bad("it has no type")),
        Some(other) => return Err(bad(&format!("unknown type '{other}'"))),
    };
    Ok(CacheExport {
        place,
        all_stages,
        ignore_error,
        inline,
    })
}

/// `--platform A,B`, with podman's `local`, and `--os`, `--arch`, `--variant` in one.
pub(crate) fn platforms<'a>(lists: impl Iterator<Item = &'a str>) -> Result<Vec<Platform>> {
    let mut all = Vec::new();
    for text in lists.flat_map(|list| list.split(',')).filter(|p| !p.is_empty()) {
        let platform = match text {
            "local" => Platform::host(),
            text => Platform::parse(text)?,
        };
        if !all.contains(&platform) {
            all.push(platform);
        }
    }
    Ok(all)
}

/// `--build-arg NAME[=VALUE]`: without a value the caller's; `None` where that is not set.
pub(crate) fn argument(text: &str, caller: impl Fn(&str) -> Option<String>) -> Result<Option<(String, String)>> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    if name.is_empty() {
        return Err(
            Error::usage(format!("invalid --build-arg '{text}': it has no name")).with_hint("write it like NAME=VALUE")
        );
    }
    Ok(value.or_else(|| caller(name)).map(|value| (name.to_owned(), value)))
}

/// A file of `NAME=VALUE` lines, `#` comments among them.
pub(crate) fn argument_file(text: &str, caller: impl Fn(&str) -> Option<String>) -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for line in text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
    {
        all.extend(argument(line, &caller)?);
    }
    Ok(all)
}

/// `NAME=VALUE`, both as they are; the value may be empty but not absent.
pub(crate) fn pair(flag: &str, text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Error::usage(format!("invalid --{flag} '{text}'")).with_hint("write it like NAME=VALUE")),
    }
}

/// `--call METHOD[,format=text|json]`.
pub(super) fn call(text: &str) -> Result<Call> {
    let (method, rest) = text.split_once(',').unwrap_or((text, ""));
    let json = match rest {
        "" | "format=text" => false,
        "format=json" => true,
        other => {
            return Err(Error::usage(format!("invalid --call '{text}': {other}"))
                .with_hint("write it like outline,format=json"));
        }
    };
    match method {
        "build" => Ok(Call::Build),
        "check" | "lint" => Ok(Call::Check),
        "outline" => Ok(Call::Outline { json }),
        "targets" => Ok(Call::Targets { json }),
        other => {
            Err(Error::usage(format!("invalid --call '{other}'"))
                .with_hint("there are build, check, outline and targets"))
        }
    }
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
