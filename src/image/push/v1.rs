//! To a registry of 2013: an id and a document for each layer, parents first; checksums; tags last. What was pulled from
//! such a registry goes out with the ids and documents that it came with.

use super::form::Packing;
use super::{Push, Pushed, Wanted, compress};
use crate::error::{Context, Error, Result};
use crate::format::media::{self, Compression};
use crate::image::progress::{Event, Layer, Step};
use crate::image::v1::{Outgoing, chain};
use crate::image::{resolve, save};
use crate::layer::TarSum;
use crate::model::digest::Digest;
use crate::model::id::ChainId;
use crate::model::image::ImageRecord;
use crate::model::platform::Platform;
use crate::model::reference::{DEFAULT_TAG, Reference};
use crate::registry::v1::{Announced, Repeatable, Repository, Site};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek, Write};

/// A tag, and the chain it will stand for.
struct Tagged {
    to: Reference,
    chain: Vec<Outgoing>,
}

pub(super) fn push(push: &Push<'_>, repository: &Repository<'_>, wanted: &[Wanted]) -> Result<Vec<Pushed>> {
    let mut tagged = Vec::new();
    for wanted in wanted {
        let image = pick(push, wanted)?;
        tagged.push(Tagged {
            to: wanted.to.clone(),
            chain: chain(push.store, &image)?,
        });
    }
    let work = Work {
        push,
        repository,
        tagged: &tagged,
    };
    work.run()?;
    Ok(tagged
        .iter()
        .map(|tagged| Pushed {
            name: tagged.to.clone(),
            known_as: tagged.top().to_owned(),
        })
        .collect())
}

/// One image, since there are no indexes: for the platform that is asked for, or else for this machine.
fn pick(push: &Push<'_>, wanted: &Wanted) -> Result<ImageRecord> {
    let mut images = push.images(&wanted.typed, &wanted.name)?;
    if images.len() > 1 {
        let own = resolve::resolve_for(push.store, &wanted.typed, Some(&Platform::host()))
            .map_err(|e| e.with_hint("a registry of 2013 has one image under a tag: choose it by --platform"))?;
        images.retain(|image| image.id == own.id);
    }
    images.pop().ok_or_else(|| super::not_here(&wanted.name))
}

impl Tagged {
    fn tag(&self) -> &str {
        self.to.tag.as_deref().unwrap_or(DEFAULT_TAG)
    }

    fn top(&self) -> &str {
        self.chain.last().map_or("", |top| &top.id)
    }
}

struct Work<'a> {
    push: &'a Push<'a>,
    repository: &'a Repository<'a>,
    tagged: &'a [Tagged],
}

impl Work<'_> {
    fn run(&self) -> Result<()> {
        self.repository.begin_push(&self.announced())?;
        let sites = self.repository.sites();
        let mut sums = BTreeMap::new();
        for (n, site) in sites.iter().enumerate() {
            match self.site(site, &mut sums) {
                Ok(()) => break,
                Err(e) if n + 1 == sites.len() => return Err(e),
                Err(e) => {
                    let text = format!("{e}: trying the next endpoint");
                    self.push.progress.event(Event::Notice(&text));
                }
            }
        }
        if !self.repository.is_standalone() {
            // The index takes what has no checksum for unfinished, also from a push that ended early.
            for image in self.images() {
                if !sums.contains_key(&image.id) {
                    sums.insert(image.id.clone(), self.tarsum(image)?);
                }
            }
        }
        let images: Vec<Announced<'_>> = sums
            .iter()
            .map(|(id, sum)| Announced {
                id,
                tag: None,
                checksum: Some(sum),
            })
            .collect();
        self.repository.finish_push(&images)
    }

    /// Every image once, parents before children.
    fn images(&self) -> impl Iterator<Item = &Outgoing> {
        let mut seen = BTreeSet::new();
        let all = self.tagged.iter().flat_map(|tagged| &tagged.chain);
        all.filter(move |image| seen.insert(image.id.as_str()))
    }

    /// An image with two tags is there twice.
    fn announced(&self) -> Vec<Announced<'_>> {
        let plain = self.images().map(|image| Announced {
            id: &image.id,
            tag: None,
            checksum: None,
        });
        let tops: BTreeSet<&str> = self.tagged.iter().map(Tagged::top).collect();
        let named = self.tagged.iter().map(|tagged| Announced {
            id: tagged.top(),
            tag: Some(tagged.tag()),
            checksum: None,
        });
        plain.filter(|image| !tops.contains(image.id)).chain(named).collect()
    }

    fn site(&self, site: &Site, sums: &mut BTreeMap<String, String>) -> Result<()> {
        for image in self.images() {
            let label = Layer::new(self.push.progress, &image.id);
            label.step(Step::Preparing);
            let there = self.repository.has_image(site, &image.id)?;
            match there || !self.repository.put_json(site, &image.id, &image.json)? {
                true => label.step(Step::PushExists),
                false => {
                    let sum = self.layer(site, image, &label)?;
                    sums.insert(image.id.clone(), sum);
                    label.step(Step::Pushed);
                }
            }
        }
        for tagged in self.tagged {
            self.repository.put_tag(site, tagged.tag(), tagged.top())?;
            let text = format!("{}: image {}", tagged.tag(), tagged.top());
            self.push.progress.event(Event::Line(&text));
        }
        Ok(())
    }

    /// Sends the layer and its checksums; the one that the index is told.
    fn layer(&self, site: &Site, image: &Outgoing, label: &Layer<'_>) -> Result<String> {
        let what = || format!("layer {}", &image.id[..12]);
        let (file, size) = self.blob(image.layer.as_ref()).with_context(what)?;
        let mut open = || -> Result<Box<dyn Read + Send>> {
            let mut file = file.try_clone().context("open blob")?;
            file.rewind()?;
            Ok(Box::new(file))
        };
        let sent = |done: u64| {
            label.step(Step::Pushing {
                done,
                total: Some(size),
            })
        };
        let body = Repeatable {
            size,
            open: &mut open,
            sent: &sent,
        };
        self.repository.put_layer(site, &image.id, body)?;
        crate::sys::stop_point("v1-layer-sent");
        let mut payload = Sha256::new();
        payload.update(&image.json);
        payload.update(b"\n");
        io::copy(&mut open()?, &mut Sink(|bytes: &[u8]| payload.update(bytes))).context("read blob")?;
        let payload = Digest::from_hasher(payload).to_string();
        let tarsum = self.tarsum(image).with_context(what)?;
        self.repository.put_checksum(site, &image.id, &tarsum, &payload)?;
        Ok(tarsum)
    }

    fn tarsum(&self, image: &Outgoing) -> Result<String> {
        let mut sum = TarSum::default();
        if let Some(chain) = &image.layer {
            save::write_plain(self.push.store, chain, &mut Sink(|bytes: &[u8]| sum.update(bytes)))?;
        }
        sum.finish(&image.json)
            .ok_or_else(|| Error::other("the tar of the layer is one that docker's checksum can't be computed of"))
    }

    /// The layer compressed as that age can read, and its length.
    fn blob(&self, layer: Option<&ChainId>) -> Result<(File, u64)> {
        let store = self.push.store;
        let Some(chain) = layer else {
            return self.nothing();
        };
        let known = store.layer(chain)?.blobs.into_iter().rev().find(|blob| {
            let kind = media::layer(&blob.media_type);
            kind.is_some_and(|kind| kind.compression == Compression::Gzip && !kind.foreign)
                && store.has_blob(&blob.digest)
        });
        let blob = match known {
            Some(blob) => blob,
            None => {
                let packing = Packing::default();
                compress::Making { store, chain, packing }.run(&self.push.claim)?
            }
        };
        let file = store.open_blob(&blob.digest)?;
        let size = file.metadata()?.len();
        Ok((file, size))
    }

    /// The layer of an image that changed no file.
    fn nothing(&self) -> Result<(File, u64)> {
        let staged = self.push.store.stage_file()?;
        let mut encoder = flate2::write::GzEncoder::new(staged.file(), flate2::Compression::fast());
        encoder.write_all(&[0; 1024]).and_then(|()| encoder.try_finish())?;
        let file = staged.file().try_clone().context("open blob")?;
        let size = file.metadata()?.len();
        Ok((file, size))
    }
}

/// Takes bytes and keeps nothing.
struct Sink<F>(F);

impl<F: FnMut(&[u8])> Write for Sink<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (self.0)(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
