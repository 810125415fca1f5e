//! What goes in and what is refused, on a real store.

use super::*;
use crate::error::Error;
use crate::image::progress::Silent;
use crate::image::resolve;
use crate::model::image::{ImageConfig, RootFs};
use crate::store::testing::Scratch;
use flate2::write::GzEncoder;
use std::io::Write;

fn tar_of(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(if path.ends_with('/') { 0o1777 } else { 0o644 });
        if path.ends_with('/') {
            header.set_entry_type(tar::EntryType::Directory);
        }
        tar.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn config(layers: &[DiffId], architecture: &str) -> Vec<u8> {
    let config = ImageConfig {
        os: "linux".to_owned(),
        architecture: architecture.to_owned(),
        rootfs: RootFs {
            diff_ids: layers.to_vec(),
            ..RootFs::default()
        },
        ..ImageConfig::default()
    };
    serde_json::to_vec(&config).unwrap()
}

fn blob<'a>(input: &'a mut (dyn Read + Send), bytes: &[u8]) -> LayerSource<'a> {
    LayerSource::Blob {
        input,
        expected: Some((Digest::of(bytes), bytes.len() as u64)),
        media_type: Some(media::OCI_LAYER_GZIP),
    }
}

#[test]
fn layers_come_in_any_order_and_lend_their_directories() {
    let s = Scratch::new();
    let (base, top) = (tar_of(&[("tmp/", "")]), tar_of(&[("tmp/x", "1")]));
    let (base_id, top_id) = (DiffId(Digest::of(&base)), DiffId(Digest::of(&top)));
    let packed = gzip(&top);
    let intake = Intake::new(&s, &Silent).unwrap();
    let parent = ChainId::of(None, base_id);
    let done = intake
        .layer(Some(parent), Some(top_id), blob(&mut &packed[..], &packed))
        .unwrap();
    assert_eq!(done.size, 1);
    intake.commit_all().unwrap();
    assert!(s.layer_ids().unwrap().is_empty(), "not before its parent");
    intake
        .layer(None, Some(base_id), LayerSource::Tar(&mut &base[..]))
        .unwrap();
    let name = Reference::parse("x:1").unwrap();
    let config = config(&[base_id, top_id], "amd64");
    let image = NewImage {
        config: &config,
        manifest: Some((b"{}", "m")),
        names: std::slice::from_ref(&name),
        ..NewImage::default()
    };
    let id = intake.finish(&image).unwrap();
    let record = resolve::resolve(&s, "x:1").unwrap();
    assert_eq!(
        (record.id, record.size, record.layers),
        (id, 1, ChainId::chain(&[base_id, top_id]))
    );
    assert_eq!(s.read_blob(&record.manifests[0].digest).unwrap(), b"{}");
    let top = s.layer(&done.chain).unwrap();
    assert_eq!(top.blobs[0].digest, Digest::of(&packed));
    assert_eq!(s.read_blob(&top.blobs[0].digest).unwrap(), packed);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(s.layer_dir(&done.chain).join("tmp"))
            .unwrap()
            .permissions(),
    );
    assert_eq!(mode & 0o7777, 0o1777, "the layer names no tmp/");
    drop(intake);
    let held = s.lock_exclusive().unwrap();
    assert_eq!(s.drop_unreferenced(&held).unwrap().ids().count(), 0);
    assert_eq!(s.blobs().unwrap().len(), 3);
}

#[test]
fn what_is_there_is_not_read_again_and_stays_while_claimed() {
    let s = Scratch::new();
    let tar = tar_of(&[("a", "1")]);
    let diff = DiffId(Digest::of(&tar));
    let first = Intake::new(&s, &Silent).unwrap();
    first.layer(None, None, LayerSource::Tar(&mut &tar[..])).unwrap();
    first.commit_all().unwrap();
    let second = Intake::new(&s, &Silent).unwrap();
    assert!(second.has_layer(&ChainId::of(None, diff)).unwrap());
    drop(first);
    let held = s.lock_exclusive().unwrap();
    assert_eq!(s.drop_unreferenced(&held).unwrap().ids().count(), 0);
    drop(held);
    let mut unread = std::io::empty();
    let done = second.layer(None, Some(diff), LayerSource::Tar(&mut unread)).unwrap();
    assert_eq!(done.size, 1);
}

/// Two pulls that have one layer each, and wait for the other's.
#[test]
fn a_layer_that_is_ready_is_not_kept_from_others() {
    let s = Scratch::new();
    let tar = tar_of(&[("a", "1")]);
    let chain = ChainId::of(None, DiffId(Digest::of(&tar)));
    let intake = Intake::new(&s, &Silent).unwrap();
    let mut busy = || Err(Error::other("busy"));
    let lock = s.lock_layer(&chain, &mut busy).unwrap();
    let slot = Slot {
        parent: None,
        diff_id: None,
    };
    let unpacked = intake.unpack(&mut &tar[..]).unwrap();
    let lock = Some((lock, String::new()));
    intake.keep_unpacked(unpacked, slot, None, lock).unwrap();
    assert!(s.lock_layer(&chain, &mut busy).is_err() && !s.has_layer(&chain));
    intake.commit_ready().unwrap();
    assert!(s.lock_layer(&chain, &mut busy).is_ok() && s.has_layer(&chain));
}

#[test]
fn every_lie_is_found_and_leaves_nothing() {
    let s = Scratch::new();
    let tar = tar_of(&[("a", "1")]);
    let (packed, diff) = (gzip(&tar), DiffId(Digest::of(&tar)));
    let other = DiffId(Digest::of(b"other"));
    for (bytes, digest, size, diff, why) in [
        (
            &packed[..],
            Digest::of(b""),
            packed.len() as u64,
            diff,
            "digest mismatch",
        ),
        (
            b"<html>nothing here</html>",
            Digest::of(&packed),
            25,
            diff,
            "digest mismatch",
        ),
        (&packed[..], Digest::of(&packed), 1, diff, "more than 1 bytes"),
        (&packed[..], Digest::of(&packed), 1 << 20, diff, "size mismatch: got"),
        (
            &packed[..20],
            Digest::of(&packed),
            packed.len() as u64,
            diff,
            "size mismatch: got 20",
        ),
        (&packed[..], Digest::of(&packed), packed.len() as u64, other, "diff id"),
    ] {
        let intake = Intake::new(&s, &Silent).unwrap();
        let source = LayerSource::Blob {
            input: &mut &bytes[..],
            expected: Some((digest, size)),
            media_type: None,
        };
        let e = intake.layer(None, Some(diff), source).unwrap_err().to_string();
        assert!(e.contains(why), "{why}: {e}");
    }
    let intake = Intake::new(&s, &Silent).unwrap();
    let config = config(&[other], "amd64");
    let missing = NewImage {
        config: &config,
        ..NewImage::default()
    };
    assert!(intake.finish(&missing).is_err());
    drop(intake);
    s.drop_unreferenced(&s.lock_exclusive().unwrap()).unwrap();
    for dir in ["layers", "images", "blobs/sha256", "staging"] {
        assert_eq!(std::fs::read_dir(s.root().join(dir)).unwrap().count(), 0, "{dir}");
    }
}

#[test]
fn platforms_gather_under_a_name() {
    let s = Scratch::new();
    let intake = Intake::new(&s, &Silent).unwrap();
    let name = Reference::parse("x:1").unwrap();
    let tar = tar_of(&[("a", "1")]);
    let done = intake.layer(None, None, LayerSource::Tar(&mut &tar[..])).unwrap();
    let finish = |architecture: &str, replace| {
        let config = config(&[done.diff_id], architecture);
        let image = NewImage {
            config: &config,
            names: std::slice::from_ref(&name),
            replace,
            ..NewImage::default()
        };
        intake.finish(&image).unwrap()
    };
    let (arm, amd) = (finish("arm64", false), finish("amd64", false));
    assert_eq!(s.tags().unwrap().target(&name).unwrap().images(), [arm, amd]);
    finish("arm64", false);
    assert_eq!(s.tags().unwrap().target(&name).unwrap().images(), [amd, arm]);
    finish("amd64", true);
    assert_eq!(s.tags().unwrap().target(&name).unwrap().images(), [amd]);
}
