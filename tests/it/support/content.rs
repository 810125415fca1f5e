//! Hand-made content for a registry that takes anybody's: blobs, manifests, small images.

use super::http::ask;
use super::registry::Registry;
use super::{sha2_hex, tiny_tar};
use serde_json::{Value, json};
use std::io::Write;

/// An image as a registry has it.
pub struct Published {
    /// `127.0.0.1:5000/a:1`
    pub name: String,
    /// Of the manifest.
    pub digest: String,
    pub config: String,
    /// Digest and size of its only layer, compressed.
    pub layer: (String, u64),
}

pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", sha2_hex(bytes))
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The configuration of an image of these (uncompressed) layers.
pub fn config(layers: &[&[u8]], command: &[&str]) -> Vec<u8> {
    let ids: Vec<String> = layers.iter().map(|l| digest(l)).collect();
    let architecture = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    let json = json!({
        "architecture": architecture, "os": "linux", "config": {"Cmd": command},
        "rootfs": {"type": "layers", "diff_ids": ids},
    });
    json.to_string().into_bytes()
}

impl Registry {
    pub fn put_blob(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        let begun = ask(
            &self.host,
            "POST",
            &format!("/v2/{repository}/blobs/uploads/"),
            &[],
            b"",
        );
        assert_eq!(begun.status, 202);
        let location = begun.header("location").unwrap();
        let path = location.split_once(&self.host).map_or(location, |(_, path)| path);
        let headers = [("Content-Type", "application/octet-stream")];
        let done = ask(&self.host, "PUT", &format!("{path}&digest={digest}"), &headers, bytes);
        assert_eq!(done.status, 201, "{}", String::from_utf8_lossy(&done.body));
        digest
    }

    /// `reference` is a tag or a digest.
    pub fn put_manifest(&self, repository: &str, reference: &str, manifest: &Value) -> String {
        let bytes = manifest.to_string().into_bytes();
        let media_type = manifest["mediaType"].as_str().unwrap();
        let path = format!("/v2/{repository}/manifests/{reference}");
        let done = ask(&self.host, "PUT", &path, &[("Content-Type", media_type)], &bytes);
        assert_eq!(done.status, 201, "{}", String::from_utf8_lossy(&done.body));
        digest(&bytes)
    }

    /// An image of one layer with the program `/tiny`.
    pub fn publish(&self, repository: &str, tag: &str) -> Published {
        self.publish_layer(repository, tag, &tiny_tar())
    }

    /// An image of this layer (a tar).
    pub fn publish_layer(&self, repository: &str, tag: &str, layer: &[u8]) -> Published {
        self.publish_packed(repository, tag, layer, &gzip(layer))
    }

    /// An image of this layer, which the registry has as these bytes.
    pub fn publish_packed(&self, repository: &str, tag: &str, layer: &[u8], packed: &[u8]) -> Published {
        let size = packed.len() as u64;
        let blob = self.put_blob(repository, packed);
        let kind = match packed.first() {
            Some(0x1f) => "application/vnd.oci.image.layer.v1.tar+gzip",
            _ => "application/vnd.oci.image.layer.v1.tar+zstd",
        };
        let config = config(&[layer], &["/tiny"]);
        let config_digest = self.put_blob(repository, &config);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": config.len()},
            "layers": [{"mediaType": kind, "digest": blob, "size": size}],
        });
        Published {
            name: self.name(&format!("{repository}:{tag}")),
            digest: self.put_manifest(repository, tag, &manifest),
            config: config_digest,
            layer: (blob, size),
        }
    }
}

/// Bytes that no compressor makes smaller.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let byte = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[1]
    };
    std::iter::repeat_with(byte).take(length).collect()
}
