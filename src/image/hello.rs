//! The built-in image `hello`: the engine's own program as `/hello`, made when it is first run, so that a machine on
//! which nothing has been downloaded has something to run. Made anew when the engine is another one.

use crate::error::{Context, Error, Result};
use crate::image::import::{from_tar, native_config};
use crate::image::removal::Options;
use crate::image::remove::remove;
use crate::model::image::{History, RunDefaults};
use crate::model::reference::Reference;
use crate::model::time::Timestamp;
use crate::store::Store;
use std::fs::File;
use std::io::{Cursor, Read};
use std::os::unix::fs::MetadataExt;

/// The program's path in the image. `main` hands over to [`crate::image::report`] when it was executed as this.
pub(crate) const PROGRAM: &str = "/hello";
const NAME: &str = "hello";
/// Marks the image as made here, and says of which program.
const LABEL: &str = "barge.hello";
const BLOCK: usize = 512;

/// Whether the name means the built-in image.
pub(crate) fn is_name(name: &Reference) -> bool {
    let name = name.clone().or_latest();
    Reference::parse(NAME).is_ok_and(|hello| name == hello.or_latest())
}

/// Sees to it that there is an image of that name. One which someone else gave the name is left alone.
pub(crate) fn ensure(store: &Store) -> Result<()> {
    // Not through current_exe(): that path may have been replaced since.
    let program = File::open("/proc/self/exe").context("open this program")?;
    let identity = identity(&program)?;
    ensure_of(store, program, identity)
}

fn ensure_of(store: &Store, program: File, identity: String) -> Result<()> {
    let name = Reference::parse(NAME)?.or_latest();
    let found = store.tags()?.get(&name).and_then(|id| store.image(&id).ok());
    let made_of = found.as_ref().map(|image| image.config.config.labels.get(LABEL));
    if made_of.is_some_and(|label| label.is_none_or(|made_of| *made_of == identity)) {
        return Ok(());
    }
    make(store, &name, program, identity).context("make image hello")?;
    if let Some(outdated) = found {
        // Kept, without a name, while a container is made of it.
        let options = Options {
            force: false,
            parents: false,
        };
        let _ = remove(store, &outdated.id.hex(), options, &|_| true);
    }
    Ok(())
}

fn identity(program: &File) -> Result<String> {
    let meta = program.metadata().context("look at this program")?;
    Ok(format!(
        "{} {} {}.{:09}",
        env!("CARGO_PKG_VERSION"),
        meta.size(),
        meta.mtime(),
        meta.mtime_nsec()
    ))
}

fn make(store: &Store, name: &Reference, program: File, identity: String) -> Result<()> {
    let created = Timestamp::now();
    let mut config = native_config(
        created,
        RunDefaults {
            entrypoint: vec![PROGRAM.into()],
            labels: [(LABEL.to_owned(), identity)].into(),
            ..RunDefaults::default()
        },
    );
    let comment = "the engine's own program".to_owned();
    config.history = vec![History {
        created: Some(created),
        comment,
        ..History::default()
    }];
    from_tar(store, tar(program)?, config, Some(name), None).map(drop)
}

/// An archive of the one file.
fn tar(program: File) -> Result<impl Read + Send> {
    let meta = program.metadata()?;
    let mut header = tar::Header::new_ustar();
    header
        .set_path(PROGRAM.trim_start_matches('/'))
        .context("name the program")?;
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(meta.size());
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(u64::try_from(meta.mtime()).unwrap_or(0));
    header.set_cksum();
    let size = usize::try_from(meta.size()).map_err(|_| Error::other("this program is too large"))?;
    let padding = size.next_multiple_of(BLOCK) - size;
    let end = vec![0; padding + 2 * BLOCK];
    Ok(Cursor::new(header.as_bytes().to_vec())
        .chain(program.take(meta.size()))
        .chain(Cursor::new(end)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{provide, resolve};
    use crate::store::testing::Scratch;

    #[test]
    fn made_once_and_anew_for_another_engine() {
        let s = Scratch::new();
        let id = || resolve(&s, NAME).unwrap().id;
        let program = || File::open("/proc/self/exe").unwrap();
        provide(&s, "other").unwrap();
        assert!(resolve(&s, NAME).is_err());
        ensure_of(&s, program(), "old".to_owned()).unwrap();
        let old = id();
        provide(&s, NAME).unwrap();
        let new = id();
        provide(&s, "hello:latest").unwrap();
        assert_eq!(id(), new);
        assert_eq!(s.image_ids().unwrap(), [new], "{old} is gone");
        let image = resolve(&s, NAME).unwrap();
        assert_eq!(image.config.config.entrypoint, [PROGRAM.into()]);
        assert!(s.layer_dir(&image.layers[0]).join("hello").exists());
    }

    #[test]
    fn the_name() {
        for (name, is) in [
            ("hello", true),
            ("docker.io/library/hello:latest", true),
            ("hello:2", false),
            ("x/hello", false),
        ] {
            assert_eq!(is_name(&Reference::parse(name).unwrap()), is, "{name}");
        }
    }

    #[test]
    fn the_archive_holds_the_program() {
        let program = || File::open("/proc/self/exe").unwrap();
        let mut archive = tar::Archive::new(tar(program()).unwrap());
        let mut entries = archive.entries().unwrap();
        let mut entry = entries.next().unwrap().unwrap();
        assert_eq!(entry.path().unwrap().to_str(), Some("hello"));
        let (mut there, mut here) = (Vec::new(), Vec::new());
        entry.read_to_end(&mut there).unwrap();
        program().read_to_end(&mut here).unwrap();
        assert!(there == here);
        drop(entry);
        assert!(entries.next().is_none());
    }
}
