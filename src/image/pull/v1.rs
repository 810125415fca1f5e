//! Images of the registries of 2013: a tag → an id → its parents → a document and a layer each. What came is turned into
//! an image of today; ids and documents are kept as they came, so that it can go back as it was.

use super::{Options, Pulled, workers};
use crate::error::{Context, Error, Result};
use crate::format::docker_v1::{self, V1Image};
use crate::format::{MAX_LAYERS, config, media};
use crate::image::intake::{Intake, NewImage, Slot, Tee, Unpacked, V1Document};
use crate::image::progress::{Event, Layer, Progress, Step};
use crate::image::v1::{Known, known};
use crate::layer::TarSum;
use crate::model::digest::Digest;
use crate::model::id::{ChainId, DiffId, ImageId, is_v1_id};
use crate::model::platform::Platform;
use crate::model::reference::{DEFAULT_TAG, Reference};
use crate::registry::v1::{ImageJson, LayerReader, Repository};
use crate::store::{LayerBlob, LayerLock, StagedFile, Store};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// From the first of `repositories` that has it.
pub(super) fn pull(of: &super::Pull<'_>, repositories: &[Repository<'_>], name: &Reference) -> Result<Vec<Pulled>> {
    let mut failure: Option<Error> = None;
    for repository in repositories {
        let pull = Pull {
            store: of.store,
            repository,
            options: of.options,
            progress: of.progress,
            told: of.told,
        };
        match pull.run(name) {
            Ok(pulled) => return Ok(pulled),
            Err(e) => failure = Some(failure.map_or_else(|| e.clone(), |before| before.and(&e))),
        }
    }
    Err(failure.unwrap_or_else(|| Error::other(format!("{name}: there is no registry to ask"))))
}

struct Pull<'a> {
    store: &'a Store,
    repository: &'a Repository<'a>,
    options: &'a Options,
    progress: &'a dyn Progress,
    told: &'a super::Told,
}

/// An image of the chain that has to be fetched.
struct Job {
    image: V1Image,
    json: ImageJson,
    /// What the index knows.
    checksum: Option<String>,
}

/// One of the chain, base first: here, or to be fetched.
enum Link {
    Here(Box<V1Image>, Vec<u8>, Known),
    Missing(Box<Job>),
}

/// A layer that was read, and found right.
struct Fetched {
    unpacked: Unpacked,
    staged: StagedFile,
    blob: LayerBlob,
}

impl Pull<'_> {
    fn run(&self, name: &Reference) -> Result<Vec<Pulled>> {
        if name.digest.is_some() {
            return Err(Error::other(format!(
                "{name}: {} is a registry of 2013, which knows no digests",
                name.host
            )));
        }
        let checksums = self.repository.open()?;
        let tags = match self.repository.tags() {
            Ok(tags) => tags,
            // As docker did, what is no repository may be an image's id.
            Err(e) => match last_part(name) {
                id if is_v1_id(id) => {
                    let pulled = self.one(name, id, &checksums, &[]).map_err(|_| e)?;
                    return Ok(vec![pulled]);
                }
                _ => return Err(e),
            },
        };
        if !self.options.all_tags {
            let tag = name.tag.as_deref().unwrap_or(DEFAULT_TAG);
            let id = tags.get(tag).ok_or_else(|| {
                Error::not_found(format!("Tag {tag} not found in repository {}", name.familiar_name()))
            })?;
            let name = name.clone().or_latest();
            let pulled = self.one(&name, id, &checksums, std::slice::from_ref(&name))?;
            return Ok(vec![pulled]);
        }
        if tags.is_empty() {
            return Err(Error::not_found(format!("{} has no tags", name.familiar_name())));
        }
        let each = |(tag, id): (&String, &String)| {
            let name = Reference {
                tag: Some(tag.clone()),
                ..name.clone()
            };
            self.one(&name, id, &checksums, std::slice::from_ref(&name))
        };
        tags.iter().map(each).collect()
    }

    fn line(&self, text: &str) {
        self.progress.event(Event::Line(text));
    }

    /// Brings the image of this id.
    fn one(
        &self,
        name: &Reference,
        id: &str,
        checksums: &BTreeMap<String, String>,
        names: &[Reference],
    ) -> Result<Pulled> {
        let tag = name.tag.as_deref().unwrap_or(id);
        self.line(&format!("{tag}: Pulling from {}", name.repository));
        let before = self.store.tags()?.get(name);
        let made = self.image(name, id, checksums, names)?;
        self.line(&match before == Some(made) {
            true => format!("Status: Image is up to date for {name}"),
            false => format!("Status: Downloaded newer image for {name}"),
        });
        Ok(Pulled {
            name: name.clone(),
            id: made,
        })
    }

    fn image(
        &self,
        name: &Reference,
        id: &str,
        checksums: &BTreeMap<String, String>,
        names: &[Reference],
    ) -> Result<ImageId> {
        let mut ids = self.repository.ancestry(id)?;
        ids.reverse();
        if ids.len() > MAX_LAYERS {
            return Err(Error::other(format!(
                "image {} has more than {MAX_LAYERS} layers",
                &id[..12]
            )));
        }
        let intake = Intake::new(self.store, self.progress)?;
        let (links, _locks) = self.links(&intake, &name.host, &ids, checksums)?;
        let fetched = self.fetch(&intake, &links)?;
        let mut parent: Option<ChainId> = None;
        let mut diffs: Vec<DiffId> = Vec::new();
        for (link, fetched) in links.iter().zip(fetched) {
            match (link, fetched) {
                (Link::Here(_, _, here), _) => {
                    if let Some((chain, diff)) = here.layer {
                        parent = Some(chain);
                        diffs.push(diff);
                    }
                }
                (Link::Missing(job), Some(fetched)) => {
                    let slot = Slot { parent, diff_id: None };
                    let done = intake
                        .keep_blob(fetched.unpacked, slot, fetched.staged, fetched.blob)
                        .with_context(|| format!("layer {}", &job.image.id[..12]))?;
                    Layer::new(self.progress, &job.image.id).step(Step::Complete);
                    parent = Some(done.chain);
                    diffs.push(done.diff_id);
                }
                // It changed no file.
                (Link::Missing(_), None) => {}
            }
        }
        let chain: Vec<&V1Image> = links.iter().map(Link::image).collect();
        let config = docker_v1::config(&chain, &diffs)?;
        self.check_platform(name, &config)?;
        let documents: Vec<V1Document<'_>> = links
            .iter()
            .map(|link| V1Document {
                id: &link.image().id,
                json: link.json(),
                host: &name.host,
                empty: link.image().throwaway,
            })
            .collect();
        intake.finish(&NewImage {
            config: &config,
            names,
            v1: &documents,
            told: self.told.of(name),
            ..NewImage::default()
        })
    }

    fn check_platform(&self, name: &Reference, config: &[u8]) -> Result<()> {
        let Some(wanted) = &self.options.platform else {
            return Ok(());
        };
        let has = Platform::of(&config::parse(config)?);
        match wanted.rank(&has) {
            Some(_) => Ok(()),
            None => Err(Error::not_found(format!(
                "image with reference {name} was found but does not provide the specified platform ({wanted})"
            ))
            .with_hint(format!("it is for {}", has.to_string().escape_debug()))),
        }
    }

    /// The chain, base first, each on the one before; and the right to fetch what is missing of it, which nobody else
    /// has until the image is made.
    fn links(
        &self,
        intake: &Intake<'_>,
        host: &str,
        ids: &[String],
        checksums: &BTreeMap<String, String>,
    ) -> Result<(Vec<Link>, Vec<LayerLock>)> {
        let mut here = known(self.store, host)?;
        let mut locks = Vec::new();
        for id in ids
            .iter()
            .filter(|id| !here.contains_key(*id))
            .cloned()
            .collect::<Vec<_>>()
        {
            let layer = Layer::new(self.progress, &id);
            let mut waited = false;
            let mut wait = || {
                if !std::mem::replace(&mut waited, true) {
                    layer.step(Step::Elsewhere);
                }
                Ok(())
            };
            let key = ChainId(Digest::of(format!("v1 {host} {id}").as_bytes()));
            locks.push(self.store.lock_layer(&key, &mut wait)?);
            if waited {
                // Who had it may have brought more than this one.
                here = known(self.store, host)?;
            }
        }
        let mut links: Vec<Link> = Vec::new();
        for id in ids {
            let link = match here.get(id) {
                Some(known) => self.here(intake, id, *known)?,
                None => None,
            };
            let link = match link {
                Some(link) => link,
                None => self.missing(id, checksums.get(id))?,
            };
            let below = links.last().map(|below| below.image().id.as_str());
            let parent = link.image().parent.as_deref();
            if parent != below {
                return Err(Error::other(format!(
                    "image {}: its parent is {}, but the list of its parents has {}",
                    &id[..12],
                    parent.map_or("nobody", |p| &p[..12]),
                    below.map_or("nobody", |p| &p[..12]),
                )));
            }
            let step = match &link {
                Link::Here(..) => Step::Exists,
                Link::Missing(_) => Step::Waiting,
            };
            Layer::new(self.progress, id).step(step);
            links.push(link);
        }
        Ok((links, locks))
    }

    /// `None` if it is not whole.
    fn here(&self, intake: &Intake<'_>, id: &str, known: Known) -> Result<Option<Link>> {
        intake.claim(known.layer.map(|(chain, _)| chain).as_slice(), &[known.json])?;
        let whole = match known.layer {
            Some((chain, _)) => intake.find(&chain)?,
            None => true,
        };
        let Ok(json) = self.store.read_blob(&known.json) else {
            return Ok(None);
        };
        let image = V1Image::parse(&json)?;
        Ok((whole && image.id == id).then_some(Link::Here(Box::new(image), json, known)))
    }

    fn missing(&self, id: &str, checksum: Option<&String>) -> Result<Link> {
        let json = self.repository.json(id)?;
        let image = V1Image::parse(&json.bytes).with_context(|| format!("image {}", &id[..12]))?;
        if image.id != id {
            return Err(Error::other(format!(
                "image {}: its description is of another image, {}",
                &id[..12],
                &image.id[..12]
            )));
        }
        Ok(Link::Missing(Box::new(Job {
            image,
            json,
            checksum: checksum.cloned(),
        })))
    }

    /// Every missing layer, several at a time. After a failure the others end first.
    fn fetch(&self, intake: &Intake<'_>, links: &[Link]) -> Result<Vec<Option<Fetched>>> {
        let done: Vec<Mutex<Option<Fetched>>> = links.iter().map(|_| Mutex::new(None)).collect();
        let places = links.iter().zip(&done);
        let missing: Vec<_> = places
            .filter_map(|(link, place)| match link {
                Link::Missing(job) if !job.image.throwaway => Some((job, place)),
                _ => None,
            })
            .collect();
        let failure = workers::for_each(&missing, |(job, place), stop| {
            let fetched = self.layer(intake, job, stop);
            let fetched = fetched.with_context(|| format!("layer {}", &job.image.id[..12]))?;
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(fetched);
            Ok(())
        });
        match failure {
            Some(e) => Err(e),
            None => Ok(done
                .into_iter()
                .map(|place| place.into_inner().unwrap_or_else(PoisonError::into_inner))
                .collect()),
        }
    }

    fn layer(&self, intake: &Intake<'_>, job: &Job, stop: &AtomicBool) -> Result<Fetched> {
        let label = Layer::new(self.progress, &job.image.id);
        let mut payload = Sha256::new();
        payload.update(&job.json.bytes);
        payload.update(b"\n");
        let mut body = Body {
            reader: self.repository.layer(&job.image.id, job.json.size)?,
            payload,
            done: 0,
            label: &label,
            stop,
        };
        let staged = self.store.stage_file()?;
        let mut tarsum = TarSum::default();
        let mut tee = Tee::new(&mut body, None).into_file(staged.file());
        let unpacked = tee.unpack_summed(intake, None, Some(&mut tarsum))?;
        let blob = LayerBlob {
            digest: tee.digest(),
            size: tee.count,
            media_type: media_type(&unpacked).to_owned(),
        };
        let found = Sums {
            tar: tarsum.finish(&job.json.bytes),
            payload: Digest::from_hasher(body.payload).to_string(),
        };
        found.check(&job.json.checksums, job.checksum.as_deref())?;
        label.step(Step::Downloaded);
        Ok(Fetched { unpacked, staged, blob })
    }
}

impl Link {
    fn image(&self) -> &V1Image {
        match self {
            Link::Here(image, ..) => image,
            Link::Missing(job) => &job.image,
        }
    }

    fn json(&self) -> &[u8] {
        match self {
            Link::Here(_, json, _) => json,
            Link::Missing(job) => &job.json.bytes,
        }
    }
}

fn media_type(unpacked: &Unpacked) -> &'static str {
    use crate::layer::compress::Format;
    match unpacked.compression {
        Format::Gzip => media::DOCKER_LAYER_GZIP,
        // The others have none, or are no blobs of today.
        _ => "",
    }
}

fn last_part(name: &Reference) -> &str {
    name.repository.rsplit('/').next().unwrap_or_default()
}

/// What a layer's bytes turned out to be.
struct Sums {
    /// `tarsum+sha256:…`; `None` if it can't be computed of this tar.
    tar: Option<String>,
    /// `sha256:…` of document and layer.
    payload: String,
}

impl Sums {
    /// What the index says has to be right; of what the registry says, one for each kind. Kinds that are not known are
    /// no reason to refuse: later dockers made up more of them.
    fn check(&self, registry: &[String], index: Option<&str>) -> Result<()> {
        if let Some(index) = index {
            self.compare(&[index])?;
        }
        for kind in ["sha256:", "tarsum+sha256:"] {
            let of_kind: Vec<&str> = registry
                .iter()
                .map(String::as_str)
                .filter(|s| s.starts_with(kind))
                .collect();
            if !of_kind.is_empty() {
                self.compare(&of_kind)?;
            }
        }
        Ok(())
    }

    /// Whether one of these, which are of one kind, is right.
    fn compare(&self, wanted: &[&str]) -> Result<()> {
        let found = match wanted.first() {
            Some(first) if first.starts_with("sha256:") => Some(&self.payload),
            Some(first) if first.starts_with("tarsum+sha256:") => self.tar.as_ref(),
            _ => None,
        };
        match found {
            Some(found) if !wanted.iter().any(|w| w.eq_ignore_ascii_case(found)) => Err(Error::other(format!(
                "checksum mismatch: got {found}, want {}",
                wanted.join(" or ").escape_debug()
            ))),
            _ => Ok(()),
        }
    }
}

/// The bytes of a layer on their way.
struct Body<'a> {
    reader: LayerReader<'a>,
    payload: Sha256,
    done: u64,
    label: &'a Layer<'a>,
    stop: &'a AtomicBool,
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("another layer failed"));
        }
        let n = self.reader.read(buffer)?;
        self.payload.update(&buffer[..n]);
        self.done += n as u64;
        self.label.step(Step::Downloading {
            done: self.done,
            total: self.reader.size().filter(|size| *size >= self.done),
        });
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_of_each_kind() {
        let sums = Sums {
            tar: Some("tarsum+sha256:aa".to_owned()),
            payload: "sha256:bb".to_owned(),
        };
        for (registry, index, right) in [
            (&[][..], None, true),
            (&["sha256:bb"], None, true),
            (&["sha256:cc"], None, false),
            (&["sha256:cc", "sha256:bb"], None, true),
            (&["sha256:bb", "tarsum+sha256:cc"], None, false),
            (&["tarsum+sha256:AA"], None, true),
            (&["tarsum.v9+sha256:cc", "md5:x"], None, true),
            (&[], Some("tarsum+sha256:aa"), true),
            (&["sha256:bb"], Some("tarsum+sha256:cc"), false),
            (&[], Some("sha256:cc"), false),
        ] {
            let registry: Vec<String> = registry.iter().map(|s| (*s).to_owned()).collect();
            assert_eq!(sums.check(&registry, index).is_ok(), right, "{registry:?} {index:?}");
        }
        let none = Sums {
            tar: None,
            payload: String::new(),
        };
        assert!(none.check(&["tarsum+sha256:cc".to_owned()], None).is_ok());
    }
}
