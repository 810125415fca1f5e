//! What is taken for which kind of manifest, what is refused, and which entry of an index is chosen.

use super::*;
use crate::model::digest::Digest;
use serde_json::{Value, json};

const CONFIG: &str = "sha256:ca3d163bab055381827226140568f3bef7eaac187cebd76878e0b63e9e442356";

fn of(value: &Value, media_type: Option<&str>) -> Result<Manifest> {
    parse(&serde_json::to_vec(value).unwrap(), media_type)
}

fn descriptor(media_type: &str) -> Value {
    json!({"mediaType": media_type, "digest": CONFIG, "size": 7})
}

fn image_json(media_type: Option<&str>, config: &str, layers: &[&str]) -> Value {
    let layers: Vec<Value> = layers.iter().map(|l| descriptor(l)).collect();
    let mut value = json!({"schemaVersion": 2, "config": descriptor(config), "layers": layers});
    if let Some(media_type) = media_type {
        value["mediaType"] = json!(media_type);
    }
    value
}

fn entry(platform: &str) -> Descriptor {
    let mut entry = Descriptor::of(media::OCI_MANIFEST, platform.as_bytes());
    let parts: Vec<&str> = platform.split('/').collect();
    entry.platform =
        (!platform.is_empty()).then(|| Platform::new(parts[0], parts[1], parts.get(2).copied().unwrap_or_default()));
    entry
}

fn list(platforms: &[&str]) -> Index {
    Index {
        dialect: Dialect::Oci,
        manifests: platforms.iter().map(|p| entry(p)).collect(),
        annotations: BTreeMap::new(),
    }
}

#[test]
fn kinds_are_told_apart() {
    let oci = image_json(
        Some(media::OCI_MANIFEST),
        media::OCI_CONFIG,
        &[media::OCI_LAYER_GZIP, media::OCI_LAYER_ZSTD],
    );
    let docker = image_json(
        Some(media::DOCKER_MANIFEST),
        media::DOCKER_CONFIG,
        &[media::DOCKER_LAYER_GZIP],
    );
    let silent = image_json(None, media::OCI_CONFIG, &[media::OCI_LAYER]);
    let index = json!({"schemaVersion": 2, "manifests": []});
    let image = |m: &Manifest| matches!(m, Manifest::Image(i) if i.dialect == Dialect::Oci);
    assert!(image(&of(&oci, None).unwrap()));
    assert!(image(
        &of(&oci, Some("Application/vnd.oci.image.manifest.v1+json; charset=utf-8")).unwrap()
    ));
    assert!(image(&of(&oci, Some("text/plain")).unwrap()));
    assert!(image(&of(&silent, None).unwrap()));
    assert!(
        matches!(of(&silent, Some(media::DOCKER_MANIFEST)).unwrap(), Manifest::Image(i) if i.dialect == Dialect::Docker)
    );
    assert!(matches!(of(&docker, None).unwrap(), Manifest::Image(i) if i.layers.len() == 1 && i.config.size == 7));
    assert!(
        matches!(of(&index, Some(media::DOCKER_LIST)).unwrap(), Manifest::Index(i) if i.dialect == Dialect::Docker)
    );
    assert!(matches!(of(&index, None).unwrap(), Manifest::Index(i) if i.dialect == Dialect::Oci));
    let no_layers = json!({"schemaVersion": 2, "config": descriptor(media::OCI_CONFIG), "layers": null});
    assert!(matches!(of(&no_layers, None).unwrap(), Manifest::Image(i) if i.layers.is_empty()));
}

#[test]
fn artifacts_are_named() {
    let helm = image_json(
        Some(media::OCI_MANIFEST),
        "application/vnd.cncf.helm.config.v1+json",
        &["application/x"],
    );
    let cosign = image_json(
        None,
        media::OCI_CONFIG,
        &["application/vnd.dev.cosign.simplesigning.v1+json"],
    );
    let mut typed = image_json(None, "application/vnd.oci.empty.v1+json", &[]);
    typed["artifactType"] = json!("application/vnd.x\u{1b}[2J");
    let old = json!({"mediaType": "application/vnd.oci.artifact.manifest.v1+json", "artifactType": "a/b", "blobs": []});
    let typed_index = json!({"schemaVersion": 2, "manifests": [], "artifactType": "a/index"});
    for (document, kind) in [
        (helm, "application/vnd.cncf.helm.config.v1+json"),
        (cosign, "application/vnd.dev.cosign.simplesigning.v1+json"),
        (typed, "application/vnd.x\\u{1b}[2J"),
        (old, "a/b"),
        (typed_index, "a/index"),
    ] {
        let Manifest::Artifact(artifact) = of(&document, None).unwrap() else {
            panic!("{document} is an artifact");
        };
        assert_eq!(
            artifact.refusal("x/y:1").to_string(),
            format!("x/y:1 is an OCI artifact (type {kind}), not an image")
        );
    }
}

#[test]
fn what_is_refused() {
    let both = json!({"schemaVersion": 2, "config": descriptor(media::OCI_CONFIG), "layers": [], "manifests": []});
    let many = image_json(None, media::OCI_CONFIG, &vec![media::OCI_LAYER; 1001]);
    let lie = json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": []});
    let mut sha512 = image_json(None, media::OCI_CONFIG, &[]);
    sha512["config"]["digest"] = json!("sha512:00");
    let mut negative = image_json(None, media::OCI_CONFIG, &[]);
    negative["config"]["size"] = json!(-1);
    let mut version = image_json(Some(media::OCI_MANIFEST), media::OCI_CONFIG, &[]);
    version["schemaVersion"] = json!(3);
    for (document, served, why) in [
        (both, None, "ambiguous"),
        (many, None, "1001 layers"),
        (lie, Some(media::OCI_MANIFEST), "was served as"),
        (sha512, None, "invalid digest"),
        (negative, None, "damaged"),
        (version, None, "schema version 3"),
        (json!({}), None, "not a manifest"),
        (json!({"mediaType": media::OCI_MANIFEST}), None, "no configuration"),
        (json!({"mediaType": 7}), None, "damaged"),
        (json!([]), None, ""),
        (json!("x"), None, "damaged"),
    ] {
        let e = of(&document, served).unwrap_err().to_string();
        assert!(e.contains(why), "{document}: {e}");
    }
    for (bytes, why) in [
        (&b"<!DOCTYPE html>"[..], "HTML"),
        (b"", "empty"),
        (b"{\"a\":", "damaged"),
        (b"\xff\xfe", "damaged"),
    ] {
        let e = parse(bytes, Some(media::OCI_MANIFEST)).unwrap_err().to_string();
        assert!(e.contains(why), "{e}");
    }
    let huge = vec![b' '; super::super::MAX_BYTES + 1];
    assert!(parse(&huge, None).unwrap_err().to_string().contains("larger than"));
}

#[test]
fn the_best_entry_is_chosen() {
    let asked = |text: &str| Platform::parse(text).unwrap();
    for (entries, platform, chosen) in [
        (
            &["linux/386", "linux/amd64", "linux/arm64"][..],
            "linux/amd64",
            Some("linux/amd64"),
        ),
        (&["linux/386", "linux/s390x"], "linux/amd64", Some("linux/386")),
        (&["linux/arm/v5", "linux/arm/v6"], "linux/arm/v7", Some("linux/arm/v6")),
        (&["linux/arm64/v8"], "linux/arm64", Some("linux/arm64/v8")),
        (&["unknown/unknown"], "linux/amd64", None),
        (&["linux/arm64"], "linux/amd64", None),
        (&[""], "linux/amd64", Some("")),
        (&["", ""], "linux/amd64", None),
        (&["", "linux/amd64"], "linux/amd64", Some("linux/amd64")),
        (&[], "linux/amd64", None),
    ] {
        let found = list(entries).choose(&asked(platform)).map(|d| d.digest);
        assert_eq!(
            found,
            chosen.map(|c| Digest::of(c.as_bytes())),
            "{platform} of {entries:?}"
        );
    }
    // An index without a platform says inside what it is for.
    let mut nested = list(&["linux/arm64", ""]);
    let amd = asked("linux/amd64");
    assert!(nested.choose(&amd).is_none());
    media::OCI_INDEX.clone_into(&mut nested.manifests[1].media_type);
    assert_eq!(nested.choose(&amd).map(|d| d.digest), Some(nested.manifests[1].digest));
    assert_eq!(
        nested.choose(&asked("linux/arm64")).map(|d| d.digest),
        Some(nested.manifests[0].digest)
    );
    let mut attested = list(&["linux/amd64", "linux/amd64/x"]);
    attested.manifests[0].annotations.insert(
        "vnd.docker.reference.type".to_owned(),
        "attestation-manifest".to_owned(),
    );
    assert_eq!(attested.images().count(), 1);
    let e = list(&["linux/arm64", "linux/s390x", "unknown/unknown"]).none_for(&asked("linux/amd64"));
    assert_eq!(
        e.to_string(),
        "no matching manifest for linux/amd64 in the manifest list entries"
    );
    assert_eq!(e.hint().unwrap(), "it has linux/arm64, linux/s390x");
}

#[test]
fn rendering_is_stable_and_reads_back() {
    for dialect in [Dialect::Oci, Dialect::Docker] {
        let (config, layer) = match dialect {
            Dialect::Oci => (media::OCI_CONFIG, media::OCI_LAYER_GZIP),
            Dialect::Docker => (media::DOCKER_CONFIG, media::DOCKER_LAYER_GZIP),
        };
        let image = ImageManifest {
            dialect,
            config: Descriptor::of(config, b"config"),
            layers: vec![Descriptor::of(layer, b"1"), Descriptor::of(layer, b"2")],
            annotations: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        };
        let bytes = image.render().unwrap();
        assert_eq!(bytes, image.render().unwrap());
        assert_eq!(parse(&bytes, Some(image.media_type())).unwrap(), Manifest::Image(image));
        let index = Index {
            dialect,
            ..list(&["linux/amd64", "linux/arm/v7"])
        };
        let bytes = index.render().unwrap();
        assert_eq!(parse(&bytes, None).unwrap(), Manifest::Index(index));
    }
    // docker/distribution's own words for an image without layers.
    let docker = ImageManifest {
        dialect: Dialect::Docker,
        config: Descriptor::of(media::DOCKER_CONFIG, b""),
        layers: Vec::new(),
        annotations: BTreeMap::new(),
    };
    let text = String::from_utf8(docker.render().unwrap()).unwrap();
    assert!(
        text.starts_with("{\n   \"schemaVersion\": 2,\n   \"mediaType\": \""),
        "{text}"
    );
}
