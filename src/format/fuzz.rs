//! Bounded fuzzing of every parser: good documents, mutated by a generator of a fixed seed. No panic, and nothing that a
//! terminal obeys in a message. `BARGE_FUZZ=<n>` runs more rounds.

use super::*;
use crate::format::manifest::Manifest;
use crate::model::digest::Digest;
use crate::model::id::DiffId;
use crate::model::platform::Platform;
use serde_json::json;

/// xorshift64*: the same sequence everywhere.
struct Generator(u64);

impl Generator {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 16).unwrap() % limit.max(1)
    }
}

const WORDS: &[&str] = &[
    "null",
    "[]",
    "{}",
    "-1",
    "1e999",
    "\"\"",
    "18446744073709551616",
    "\"\\u001b[2J\"",
    "\"\\ud800\"",
    "true",
    "\"sha256:\"",
    "[[[[",
    "\"../../etc/passwd\"",
    "\"layers\":null,",
    "\"manifests\":[],",
    "\x1b",
    "\u{202e}",
];

fn seeds() -> Vec<Vec<u8>> {
    let digest = Digest::of(b"x");
    let descriptor = |kind: &str| json!({"mediaType": kind, "digest": digest, "size": 3, "annotations": {"a": "b"}});
    let layer = descriptor(media::OCI_LAYER_GZIP);
    let mut documents = vec![
        json!({"schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": descriptor(media::OCI_CONFIG), "layers": [layer, layer]}),
        json!({"schemaVersion": 2, "mediaType": media::DOCKER_LIST, "manifests": [
            {"mediaType": media::DOCKER_MANIFEST, "digest": digest, "size": 3,
             "platform": {"os": "linux", "architecture": "arm", "variant": "v7"}}]}),
        schema1::tests::sample(),
        json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"], "Healthcheck": {"Test": ["CMD"]}},
            "rootfs": {"type": "layers", "diff_ids": [digest]}, "history": [{"created_by": "x"}]}),
        json!([{"Config": "x.json", "RepoTags": ["a:b"], "Layers": ["x/layer.tar"]}]),
        json!({"deb": {"latest": "a".repeat(64)}}),
        json!({"imageLayoutVersion": "1.0.0"}),
    ];
    documents.push(
        json!({"id": "a".repeat(64), "parent": "b".repeat(64), "created": "2013-01-01T00:00:00Z",
        "config": {"PortSpecs": ["80:90/udp"]}, "container_config": {"Cmd": ["x"]}}),
    );
    documents.iter().map(|d| d.to_string().into_bytes()).collect()
}

fn mutate(seed: &[u8], random: &mut Generator) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(6) {
            0 => bytes.truncate(at),
            1 => {
                let word = WORDS[random.below(WORDS.len())];
                bytes.splice(at..at, word.bytes());
            }
            2 if !bytes.is_empty() => bytes[at] = u8::try_from(random.next() & 0xff).unwrap(),
            3 => {
                let end = (at + random.below(40)).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => {
                let end = (at + random.below(200)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                // A value becomes another one: this gets past the JSON parser.
                let word = WORDS[random.below(WORDS.len())];
                let Some(colon) = bytes[at..].iter().position(|b| *b == b':') else {
                    continue;
                };
                let start = at + colon + 1;
                let end = bytes[start..].iter().position(|b| matches!(b, b',' | b'}' | b']'));
                bytes.splice(start..start + end.unwrap_or(0), word.bytes());
            }
        }
    }
    bytes
}

fn quiet<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(e) => {
            let text = format!("{e} {}", e.hint().unwrap_or_default());
            assert!(!text.contains(|c: char| c.is_control() || c == '\u{202e}'), "{text:?}");
            None
        }
    }
}

fn feed(bytes: &[u8], random: &mut Generator) {
    let served = [
        None,
        Some(media::OCI_MANIFEST),
        Some(media::SCHEMA1_SIGNED),
        Some("text/html"),
    ];
    match quiet(manifest::parse(bytes, served[random.below(served.len())])) {
        Some(Manifest::Image(image)) => {
            let rendered = image.render().unwrap();
            assert_eq!(manifest::parse(&rendered, None).unwrap(), Manifest::Image(image));
        }
        Some(Manifest::Index(index)) => {
            let _ = index.choose(&Platform::host());
            quiet::<()>(Err(index.none_for(&Platform::host())));
            let rendered = index.render().unwrap();
            assert_eq!(manifest::parse(&rendered, None).unwrap(), Manifest::Index(index));
        }
        Some(Manifest::Schema1(schema1)) => {
            let diffs = vec![DiffId(Digest::of(b"x")); schema1.blobs().len()];
            if let Some(config) = quiet(schema1.config(&diffs)) {
                quiet(config::parse(&config));
            }
        }
        Some(Manifest::Artifact(artifact)) => drop(quiet::<()>(Err(artifact.refusal("x")))),
        None => {}
    }
    if let Some(parsed) = quiet(config::parse(bytes)) {
        let again = serde_json::to_vec(&parsed).unwrap();
        assert_eq!(config::parse(&again).unwrap(), parsed);
        quiet(docker_v1::images(bytes, &[]));
    }
    if let Some(image) = quiet(docker_v1::V1Image::parse(bytes)) {
        let diffs = vec![DiffId(Digest::of(b"x")); usize::from(!image.throwaway)];
        quiet(docker_v1::config(&[&image], &diffs).and_then(|bytes| config::parse(&bytes)));
    }
    quiet(docker_archive::parse_manifest(bytes));
    quiet(docker_archive::parse_repositories(bytes));
    quiet(layout::check_marker(bytes));
    quiet(layout::parse_index(bytes));
    quiet(Platform::parse(&String::from_utf8_lossy(bytes)));
}

#[test]
fn mutated_documents() {
    let rounds = std::env::var("BARGE_FUZZ").map_or(4000, |n| n.parse().unwrap());
    let mut random = Generator(0x0b5e_55ed_ba6e_0001);
    let seeds = seeds();
    for round in 0..rounds {
        let mut bytes = seeds[round % seeds.len()].clone();
        bytes = mutate(&bytes, &mut random);
        feed(&bytes, &mut random);
    }
}

#[test]
fn go_s_compact_form() {
    assert_eq!(
        compact(" { \"a b\" : [ 1 , \"\\\" <&>\" ] } "),
        "{\"a b\":[1,\"\\\" \\u003c\\u0026\\u003e\"]}"
    );
    assert_eq!(compact("\"\\\\\" "), "\"\\\\\"");
}
