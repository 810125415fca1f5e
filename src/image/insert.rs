//! `insert`: an image with one more file, fetched by its address (F037).

use crate::error::{Context, Error, Result};
use crate::image::intake::{Intake, LayerSource, NewImage};
use crate::image::progress::{Event, Progress, Step};
use crate::image::resolve;
use crate::layer::stack;
use crate::model::id::ImageId;
use crate::model::image::History;
use crate::model::time::Timestamp;
use crate::registry::{Access, download};
use crate::store::Store;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Fetches `url` to `path` in a new image without a name. A path that ends in `/` takes the address's file name.
pub(crate) fn insert(
    store: &Store,
    what: &str,
    (url, path): (&str, &str),
    access: &Access,
    progress: &dyn Progress,
) -> Result<ImageId> {
    let image = resolve(store, what)?;
    let intake = Intake::new(store, progress)?;
    for layer in &image.layers {
        if !intake.has_layer(layer)? {
            return Err(Error::other(format!("image {what}: layer {layer} is missing"))
                .with_hint("barge system check --repair"));
        }
    }
    let mut download = download::get(url, access)?;
    let path = match (path.ends_with('/'), &download.name) {
        (false, _) => path.to_owned(),
        (true, Some(name)) => format!("{path}{name}"),
        (true, None) => return Err(Error::other(format!("{path} needs a file name: the address has none"))),
    };
    let lowers: Vec<PathBuf> = image.layers.iter().map(|layer| store.layer_dir(layer)).collect();
    let place = stack::find(&lowers, path.as_bytes()).with_context(|| path.clone())?;
    if place.kind.is_some() {
        return Err(Error::conflict(format!("{path} exists in {what}"))
            .with_hint("insert replaces nothing; a Dockerfile with ADD does"));
    }
    let staged = store.stage_file()?;
    let size = fetch(&mut download, staged.file(), &place.path, progress).with_context(|| format!("fetch {url}"))?;
    let mut config = image.config.clone();
    config.created = Some(Timestamp::now());
    config.history.push(History {
        created: config.created,
        author: config.author.clone(),
        created_by: format!("insert {url} {path}"),
        comment: image
            .config
            .history
            .last()
            .map(|step| step.comment.clone())
            .unwrap_or_default(),
        empty_layer: false,
    });
    let layer = as_tar(staged.file(), &place.path, size, &mut |tar| {
        intake.layer(image.layers.last().copied(), None, LayerSource::Tar(tar))
    })?;
    config.rootfs.diff_ids.push(layer.diff_id);
    intake.finish(&NewImage {
        config: &serde_json::to_vec(&config)?,
        parent: Some(image.id),
        ..NewImage::default()
    })
}

/// The whole of it first: a tar says a file's size before its content.
fn fetch(download: &mut download::Download, mut file: &File, path: &[u8], progress: &dyn Progress) -> Result<u64> {
    let name = path.rsplit(|b| *b == b'/').next().unwrap_or(path);
    let id = String::from_utf8_lossy(name).into_owned();
    let tell = |step| progress.event(Event::Layer { id: &id, step });
    let (mut done, mut buffer) = (0, vec![0; 128 * 1024]);
    loop {
        match download.reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                file.write_all(&buffer[..n])?;
                done += n as u64;
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
        tell(Step::Downloading {
            done,
            total: download.size,
        });
    }
    match download.size {
        Some(size) if size != done => Err(Error::other(format!("ends after {done} of {size} bytes"))),
        _ => {
            tell(Step::Downloaded);
            Ok(done)
        }
    }
}

/// Hands `file` on as an archive of one member; the directories on the way are those of the layers below.
fn as_tar<T>(
    mut file: &File,
    path: &[u8],
    size: u64,
    take: &mut dyn FnMut(&mut (dyn Read + Send)) -> Result<T>,
) -> Result<T> {
    file.rewind()?;
    let (mut reader, writer) = std::io::pipe()?;
    let write = move || -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(Timestamp::now().as_second().try_into().unwrap_or_default());
        let mut archive = tar::Builder::new(std::io::BufWriter::new(writer));
        archive.append_data(&mut header, OsStr::from_bytes(path), file)?;
        Ok(archive.into_inner()?.flush()?)
    };
    std::thread::scope(|scope| {
        let writing = scope.spawn(write);
        let taken = take(&mut reader);
        drop(reader);
        let written = writing
            .join()
            .unwrap_or_else(|_| Err(Error::other("a thread ended early")));
        let taken = taken?;
        written.context("write archive")?;
        Ok(taken)
    })
}
