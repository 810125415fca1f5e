//! The readers of archives against archives that nobody would write: each reads to an end or to one clear error, and
//! nothing is left. Bounded, with a fixed seed; `BARGE_FUZZ=<n>` runs more rounds.

#![allow(clippy::disallowed_methods)]

use super::*;
use crate::image::progress::Silent;
use crate::store::testing::Scratch;
use serde_json::json;
use std::path::PathBuf;

fn tar_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, &content[..]).unwrap();
    }
    tar.into_inner().unwrap()
}

fn blob(files: &mut Vec<(String, Vec<u8>)>, kind: &str, bytes: Vec<u8>) -> serde_json::Value {
    let digest = Digest::of(&bytes);
    let descriptor = json!({"mediaType": kind, "digest": digest, "size": bytes.len()});
    files.push((format::layout::blob_path(&digest), bytes));
    descriptor
}

/// One good archive of each form.
fn seeds() -> Vec<Vec<u8>> {
    let layer = tar_of(&[("file".to_owned(), b"content".to_vec())]);
    let config = json!({"os": "linux", "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer)]}});
    let list = json!([{"Config": "c.json", "RepoTags": ["x:1"], "Layers": ["l/layer.tar"]}]);
    let docker = tar_of(&[
        ("l/layer.tar".to_owned(), layer.clone()),
        ("c.json".to_owned(), config.to_string().into_bytes()),
        ("manifest.json".to_owned(), list.to_string().into_bytes()),
    ]);
    let mut files = Vec::new();
    let config = blob(&mut files, format::media::OCI_CONFIG, config.to_string().into_bytes());
    let layers = [blob(&mut files, format::media::OCI_LAYER, layer.clone())];
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
    let entry = blob(
        &mut files,
        format::media::OCI_MANIFEST,
        manifest.to_string().into_bytes(),
    );
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    files.push(("index.json".to_owned(), index.to_string().into_bytes()));
    files.push(("oci-layout".to_owned(), format::layout::MARKER_TEXT.as_bytes().to_vec()));
    let oci = tar_of(&files);
    let id = |c: &str| c.repeat(64);
    let of = |json: serde_json::Value| json.to_string().into_bytes();
    let v1 = tar_of(&[
        (format!("{}/json", id("a")), of(json!({"id": id("a")}))),
        (format!("{}/layer.tar", id("a")), layer.clone()),
        (
            format!("{}/json", id("b")),
            of(json!({"id": id("b"), "parent": id("a")})),
        ),
        (format!("{}/layer.tar", id("b")), layer),
        ("repositories".to_owned(), of(json!({"x": {"1": id("b")}}))),
    ]);
    vec![docker, oci, v1]
}

/// xorshift64*: the same sequence everywhere.
fn next(state: &mut u64, limit: usize) -> usize {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    let value = state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16;
    usize::try_from(value).unwrap() % limit.max(1)
}

fn mutate(bytes: &mut Vec<u8>, state: &mut u64) {
    const WORDS: &[&str] = &[
        "..",
        "/",
        "null",
        "[]",
        "{}",
        "\0",
        "-1",
        "99999999999",
        "\x1b[2J",
        "\"\"",
        "a",
        "b",
        ":",
        ",",
        "]",
    ];
    for _ in 0..=next(state, 3) {
        if bytes.is_empty() {
            return;
        }
        let at = next(state, bytes.len());
        match next(state, 6) {
            0 => bytes.truncate(at),
            1 => bytes[at] = bytes[at].wrapping_add(1),
            2 => bytes[at] = u8::try_from(next(state, 256)).unwrap(),
            3 => {
                // Within a document, without moving what follows.
                let word = WORDS[next(state, WORDS.len())].as_bytes();
                let end = (at + word.len()).min(bytes.len());
                bytes[at..end].copy_from_slice(&word[..end - at]);
            }
            4 => {
                let block = at / 512 * 512;
                let end = (block + 512).min(bytes.len());
                let copy = bytes[block..end].to_vec();
                bytes.splice(block..block, copy);
            }
            _ => {
                let block = at / 512 * 512;
                let end = (block + 512).min(bytes.len());
                bytes.drain(block..end);
            }
        }
    }
    mend(bytes);
}

/// Headers get their right checksums back, or nothing would be looked at but these.
fn mend(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512) {
        if &block[257..262] == b"ustar" {
            let header: &mut [u8; 512] = block.try_into().unwrap();
            let mut copy = tar::Header::from_byte_slice(header).clone();
            copy.set_cksum();
            *header = *copy.as_bytes();
        }
    }
}

fn try_load(store: &Scratch, path: &PathBuf, bytes: &[u8]) -> Result<Vec<Loaded>> {
    std::fs::write(path, bytes).unwrap();
    let wanted = Load {
        input: Input::Path(path.clone()),
        platforms: Vec::new(),
    };
    load(store, &wanted, &Silent)
}

#[test]
fn good_ones_load() {
    let store = Scratch::new();
    let path = store.root().join("archive");
    for (seed, images) in seeds().iter().zip([1, 1, 1]) {
        assert_eq!(try_load(&store, &path, seed).unwrap().len(), images);
    }
    assert_eq!(store.image_ids().unwrap().len(), 2, "docker's and OCI's are the same");
    assert_eq!(store.layer_ids().unwrap().len(), 2);
}

#[test]
fn mutated_ones_never_harm() {
    let rounds = std::env::var("BARGE_FUZZ").map_or(1200, |n| n.parse().unwrap());
    let store = Scratch::new();
    let path = store.root().join("archive");
    let mut state = 0x00ba_46e0_5eed_0002;
    let seeds = seeds();
    let (mut good, mut bad) = (0, 0);
    for round in 0..rounds {
        let mut bytes = seeds[round % seeds.len()].clone();
        mutate(&mut bytes, &mut state);
        // Loading syncs the disk; what the readers make of the lists is most of it.
        let done = match round % 60 {
            0 => try_load(&store, &path, &bytes).map(drop),
            _ => try_plan(&store, &path, &bytes),
        };
        match done {
            Ok(()) => good += 1,
            Err(e) => {
                bad += 1;
                let text = format!("{e} {}", e.hint().unwrap_or_default());
                assert!(!text.contains(char::is_control), "{text:?}");
            }
        }
        let staged = std::fs::read_dir(store.root().join("staging")).unwrap().count();
        assert_eq!(staged, 0, "round {round}");
    }
    assert!(good > 0 && bad > 0, "{good} good, {bad} bad");
    for id in store.image_ids().unwrap() {
        let record = store.image(&id).unwrap();
        assert!(record.layers.iter().all(|layer| store.has_layer(layer)));
    }
}

/// All but the layers.
fn try_plan(store: &Scratch, path: &PathBuf, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).unwrap();
    let archive = Archive::open(store, &Input::Path(path.clone()))?;
    for image in choose(plan(&archive)?, &[])? {
        for layer in &image.layers {
            if let Some(mut content) = archive.find(&layer.path)? {
                let _ = is_compressed(&mut content);
            }
        }
    }
    Ok(())
}

/// An archive can't give a layer that is here already a compressed form that is another layer's.
#[test]
fn a_compressed_form_is_of_the_layer() {
    let s = Scratch::new();
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let layer = tar_of(&[("file".to_owned(), b"content".to_vec())]);
    let other = tar_of(&[("file".to_owned(), b"evil".to_vec())]);
    let load_with = |packed: Vec<u8>| {
        let config = json!({"os": "linux", "architecture": "amd64",
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer)]}});
        let mut files = Vec::new();
        let config = blob(&mut files, format::media::OCI_CONFIG, config.to_string().into_bytes());
        let layers = [blob(&mut files, format::media::OCI_LAYER_GZIP, packed)];
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers}).to_string();
        let entry = blob(&mut files, format::media::OCI_MANIFEST, manifest.into_bytes());
        let index = json!({"schemaVersion": 2, "manifests": [entry]});
        files.push(("index.json".to_owned(), index.to_string().into_bytes()));
        let path = s.root().join("archive.tar");
        std::fs::write(&path, tar_of(&files)).unwrap();
        let what = Load {
            input: Input::Path(path),
            platforms: Vec::new(),
        };
        load(&s, &what, &Silent).map(drop)
    };
    load_with(gzip(&layer)).unwrap();
    let e = load_with(gzip(&other)).unwrap_err().to_string();
    assert!(e.contains("diff id"), "{e}");
    let chain = ChainId::of(None, DiffId(Digest::of(&layer)));
    assert_eq!(s.layer(&chain).unwrap().blobs.len(), 1);
    let mut longer = gzip(&layer);
    longer.extend(gzip(b""));
    load_with(longer).unwrap();
    assert_eq!(s.layer(&chain).unwrap().blobs.len(), 2);
}
