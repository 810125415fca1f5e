//! `import`: a tar of a root file system → an image of one layer.

use crate::error::{Context, Error, Result};
use crate::image::change;
use crate::image::intake::{Intake, LayerSource, NewImage};
use crate::image::progress::Silent;
use crate::model::digest::Digest;
use crate::model::event::{Event, EventKind};
use crate::model::id::ImageId;
use crate::model::image::{History, ImageConfig, RootFs, RunDefaults};
use crate::model::reference::Reference;
use crate::model::time::Timestamp;
use crate::registry::{self, Access};
use crate::store::Store;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

/// Where the tar comes from; it may be compressed.
pub(crate) enum Source {
    /// A stream, and what to call it: `-` for stdin.
    Stream(Box<dyn Read + Send>, String),
    File(PathBuf),
    Url(String),
}

impl Source {
    /// A file if there is one of that name; else what has a scheme, or a host's form, is a URL (F036).
    pub(crate) fn parse(text: &str) -> Source {
        if text == "-" {
            return Source::Stream(Box::new(std::io::stdin()), text.to_owned());
        }
        if text.contains("://") {
            return Source::Url(text.to_owned());
        }
        let path = PathBuf::from(text);
        match has_host(text) && !path.exists() {
            true => Source::Url(format!("https://{text}")),
            false => Source::File(path),
        }
    }
}

/// `example.org/rootfs.tar.xz`: 2013 let the scheme be left out.
fn has_host(text: &str) -> bool {
    let host = text.split_once('/').map_or("", |(host, _)| host);
    host.contains('.')
        && !host.starts_with('.')
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:".contains(&b))
}

/// An address without the name and password in it: it goes into the image's history.
fn without_user(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find('/').unwrap_or(rest.len());
            let host = rest[..end].rfind('@').map_or(0, |at| at + 1);
            format!("{scheme}://{}", &rest[host..])
        }
        None => url.to_owned(),
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Stream(_, name) => f.write_str(name),
            Source::Url(url) => f.write_str(&without_user(url)),
            Source::File(path) => path.display().fmt(f),
        }
    }
}

/// What `import` was asked.
pub(crate) struct Import {
    pub(crate) source: Source,
    pub(crate) reference: Option<Reference>,
    /// Dockerfile instructions.
    pub(crate) changes: Vec<String>,
    /// Instead of "Imported from SOURCE".
    pub(crate) message: Option<String>,
    /// `os[/architecture[/variant]]`, this machine's by default.
    pub(crate) platform: Option<String>,
}

/// Unpacks, stores and tags. When it returns, the image survives a power cut.
pub(crate) fn import(store: &Store, import: Import) -> Result<ImageId> {
    let mut config = ImageConfig {
        created: Some(Timestamp::now()),
        ..ImageConfig::default()
    };
    set_platform(&mut config, import.platform.as_deref())?;
    for change in &import.changes {
        change::apply(&mut config.config, change)?;
    }
    if import.reference.as_ref().is_some_and(|name| name.digest.is_some()) {
        return Err(Error::other("cannot import digest reference"));
    }
    let comment = import
        .message
        .unwrap_or_else(|| format!("Imported from {}", import.source));
    config.history = vec![History {
        created: config.created,
        comment,
        ..History::default()
    }];
    let reader: Box<dyn Read + Send> = match import.source {
        Source::Stream(reader, _) => reader,
        Source::File(path) => {
            let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
            if file.metadata()?.is_dir() {
                return Err(Error::other(format!("{} is a directory, not a tar", path.display())));
            }
            Box::new(file)
        }
        Source::Url(url) => registry::download::get(&url, &Access::default())?.reader,
    };
    let told = |id| Event::new(EventKind::Image, "import", id).with("name", id);
    from_tar(store, reader, config, import.reference.as_ref(), Some(&told))
}

/// An image of one layer, named if a name is given. `config` lacks nothing but the layer's digest. `told`: its event.
pub(super) fn from_tar(
    store: &Store,
    mut tar: impl Read + Send,
    mut config: ImageConfig,
    name: Option<&Reference>,
    told: Option<&dyn Fn(ImageId) -> Event>,
) -> Result<ImageId> {
    // What is imported is often the archive of a temporary directory, closed to everybody but root.
    let intake = Intake::new(store, &Silent)?.open_root();
    let layer = intake.layer(None, None, LayerSource::Tar(&mut tar))?;
    config.rootfs = RootFs {
        diff_ids: vec![layer.diff_id],
        ..RootFs::default()
    };
    let names: Vec<_> = name.into_iter().cloned().map(Reference::or_latest).collect();
    let config = serde_json::to_vec(&config)?;
    intake.finish(&NewImage {
        config: &config,
        names: &names,
        replace: true,
        told: told.map(|of| of(ImageId(Digest::of(&config)))),
        ..NewImage::default()
    })
}

fn set_platform(config: &mut ImageConfig, platform: Option<&str>) -> Result<()> {
    let mut parts = platform.unwrap_or("linux").split('/');
    let os = parts.next().unwrap_or_default();
    let architecture = parts.next().unwrap_or(this_architecture());
    let variant = parts.next().unwrap_or_default();
    if os != "linux" || architecture.is_empty() || parts.next().is_some() {
        let shown = platform.unwrap_or_default();
        return Err(Error::other(format!(
            "invalid platform '{shown}': want linux/ARCHITECTURE[/VARIANT]"
        )));
    }
    config.os = os.to_owned();
    config.architecture = architecture.to_owned();
    config.variant = variant.to_owned();
    Ok(())
}

/// Go's name for it, as in every image.
pub(super) fn this_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// What an image of this machine has before anything is asked of it.
pub(super) fn native_config(created: Timestamp, config: RunDefaults) -> ImageConfig {
    ImageConfig {
        created: Some(created),
        os: "linux".to_owned(),
        architecture: this_architecture().to_owned(),
        config,
        ..ImageConfig::default()
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use crate::image::removal::Options;
    use crate::image::remove::{self, Removed};
    use crate::image::{list, resolve, tag};
    use crate::store::testing::Scratch;
    use std::io::Cursor;

    fn tar_of(files: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn of(tar: Vec<u8>, name: &str) -> Import {
        Import {
            source: Source::Stream(Box::new(Cursor::new(tar)), "-".to_owned()),
            reference: Some(Reference::parse(name).unwrap()),
            changes: vec!["CMD [\"sh\"]".to_owned()],
            message: None,
            platform: None,
        }
    }

    fn remove(s: &Store, what: &str) -> Vec<Removed> {
        let options = Options {
            force: false,
            parents: true,
        };
        remove::remove(s, what, options, &|_| false).unwrap().lines
    }

    fn names(s: &Store) -> Vec<String> {
        let rows = list::list(s, &list::Filter::default()).unwrap();
        let mut names: Vec<_> = rows
            .into_iter()
            .map(|r| r.name.map_or("<none>".to_owned(), |n| n.to_string()))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn sources() {
        for (text, said) in [
            ("-", "-"),
            ("rootfs.tar", "rootfs.tar"),
            ("./example.org/x", "./example.org/x"),
            ("/a.b/x", "/a.b/x"),
            ("dir/x.tar", "dir/x.tar"),
            ("example.org:8080/x.tar", "https://example.org:8080/x.tar"),
            ("http://me:secret@example.org/a@b", "http://example.org/a@b"),
        ] {
            assert_eq!(Source::parse(text).to_string(), said, "{text}");
        }
    }

    #[test]
    fn an_image_comes_and_goes() {
        let s = Scratch::new();
        let id = import(&s, of(tar_of(&[("etc/x", "12345")]), "deb")).unwrap();
        let image = resolve::resolve(&s, "deb").unwrap();
        assert_eq!((image.id, image.size), (id, 5));
        assert_eq!(image.config.config.cmd, ["sh".into()]);
        assert_eq!(image.config.history[0].comment, "Imported from -");
        assert_eq!(
            std::fs::read(s.layer_dir(&image.layers[0]).join("etc/x")).unwrap(),
            b"12345"
        );
        assert_eq!(s.read_blob(&id.0).unwrap(), serde_json::to_vec(&image.config).unwrap());
        for what in [
            &id.hex(),
            &id.short(),
            &id.to_string(),
            "deb:latest",
            "docker.io/library/deb",
        ] {
            assert_eq!(resolve::resolve_id(&s, what).unwrap(), id, "{what}");
        }
        tag::tag(&s, &id.short(), &Reference::parse("other:1").unwrap()).unwrap();
        assert_eq!(names(&s), ["deb:latest", "other:1"]);
        assert_eq!(
            resolve::resolve_id(&s, &format!("other:{}", &id.hex()[..3])).unwrap(),
            id
        );
        let untagged = remove(&s, "deb");
        assert_eq!(
            untagged.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["Untagged: deb:latest"]
        );
        let gone = remove(&s, &id.short());
        assert!(
            matches!(gone[..], [Removed::Untagged(_), Removed::Image(_), Removed::Layer(_)]),
            "{gone:?}"
        );
        for dir in ["layers", "images", "blobs/sha256", "staging"] {
            assert_eq!(std::fs::read_dir(s.root().join(dir)).unwrap().count(), 0, "{dir}");
        }
        assert_eq!(
            resolve::resolve(&s, "deb").unwrap_err().to_string(),
            "No such image: deb"
        );
    }

    #[test]
    fn the_exact_tag_comes_before_an_id() {
        let s = Scratch::new();
        let one = import(&s, of(tar_of(&[("a", "1")]), "x:1")).unwrap();
        let digit = one.hex()[..1].to_owned();
        let two = import(&s, of(tar_of(&[("a", "2")]), &format!("x:{digit}"))).unwrap();
        assert_eq!(resolve::resolve_id(&s, &format!("x:{digit}")).unwrap(), two);
        tag::tag(&s, "x:1", &Reference::parse(&one.short()).unwrap()).unwrap();
        tag::tag(&s, "x:1", &Reference::parse(&two.short()).unwrap()).unwrap();
        assert_eq!(resolve::resolve_id(&s, &two.short()).unwrap(), one, "a name wins");
    }

    #[test]
    fn many_import_the_same_layer() {
        let s = Scratch::new();
        let tar = tar_of(&[("a", "1"), ("b/c", "2")]);
        std::thread::scope(|threads| {
            for n in 0..8 {
                let (s, tar) = (&s.store, tar.clone());
                threads.spawn(move || import(s, of(tar, &format!("same:{n}"))).unwrap());
            }
        });
        assert_eq!(s.layer_ids().unwrap().len(), 1);
        assert_eq!(names(&s).len(), 8);
        for n in 0..8 {
            remove(&s, &format!("same:{n}"));
        }
        assert_eq!(s.layer_ids().unwrap().len(), 0);
    }

    #[test]
    fn a_bad_archive_leaves_nothing() {
        let s = Scratch::new();
        let whole = tar_of(&[("a", &"x".repeat(2000))]);
        for tar in [whole[..1000].to_vec(), b"not a tar at all".repeat(64), Vec::new()] {
            let length = tar.len();
            assert!(import(&s, of(tar, "bad")).is_err(), "{length} bytes");
        }
        let mut bad = of(whole.clone(), "bad");
        bad.changes = vec!["RUN x".to_owned()];
        assert!(import(&s, bad).is_err());
        let mut bad = of(whole, "bad");
        bad.platform = Some("plan9/amd64".to_owned());
        assert!(import(&s, bad).is_err());
        for dir in ["layers", "images", "blobs/sha256", "staging"] {
            assert_eq!(std::fs::read_dir(s.root().join(dir)).unwrap().count(), 0, "{dir}");
        }
    }

    #[test]
    fn one_damaged_image_does_not_stop_the_others() {
        let s = Scratch::new();
        let bad = import(&s, of(tar_of(&[("a", "1")]), "bad")).unwrap();
        let good = import(&s, of(tar_of(&[("a", "2")]), "good")).unwrap();
        std::fs::write(s.root().join(format!("images/{}.json", bad.hex())), "{").unwrap();
        assert_eq!(names(&s), ["bad:latest", "good:latest"]);
        let tags = s.root().join("tags.json");
        let kept = std::fs::read(&tags).unwrap();
        std::fs::write(&tags, "{\"repo").unwrap();
        assert_eq!(names(&s), ["<none>", "<none>"]);
        assert_eq!(resolve::resolve(&s, &good.short()).unwrap().id, good);
        assert!(
            resolve::resolve(&s, "good")
                .unwrap_err()
                .to_string()
                .contains("tags.json is damaged")
        );
        std::fs::write(&tags, kept).unwrap();
        assert!(
            resolve::resolve(&s, "bad")
                .unwrap_err()
                .to_string()
                .contains("is damaged")
        );
        assert_eq!(resolve::resolve(&s, "good").unwrap().id, good);
        assert_eq!(remove(&s, "bad").len(), 3);
        assert_eq!(resolve::resolve(&s, "good").unwrap().id, good);
        assert_eq!(s.layer_ids().unwrap().len(), 1);
    }

    #[test]
    fn a_person_s_own_hello_is_left_alone() {
        let s = Scratch::new();
        let own = import(&s, of(tar_of(&[("a", "1")]), "hello")).unwrap();
        crate::image::provide(&s, "hello").unwrap();
        assert_eq!(resolve::resolve(&s, "hello").unwrap().id, own);
    }
}
