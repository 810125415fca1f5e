//! Media types of what registries and archives hold, in the two dialects: OCI's and docker's.

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const OCI_FOREIGN_LAYER: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";
const OCI_FOREIGN_LAYER_GZIP: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
const OCI_FOREIGN_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd";

pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub(crate) const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
pub(crate) const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";
const DOCKER_FOREIGN_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

pub(crate) const SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";
pub(crate) const SCHEMA1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

/// What to ask a registry for, in the order of preference.
pub(crate) const ACCEPT: &[&str] = &[
    OCI_INDEX,
    OCI_MANIFEST,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    SCHEMA1_SIGNED,
    SCHEMA1,
];

/// How a layer's tar is packed, by what it is called; what it is, its first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// What a layer's media type promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LayerMedia {
    pub(crate) compression: Compression,
    /// Not to be handed on: it is fetched from its `urls` where the registry does not have it.
    pub(crate) foreign: bool,
}

/// `None`: not a layer of a file system.
pub(crate) fn layer(media_type: &str) -> Option<LayerMedia> {
    use Compression::{Gzip, None, Zstd};
    let (compression, foreign) = match media_type {
        OCI_LAYER | DOCKER_LAYER => (None, false),
        OCI_LAYER_GZIP | DOCKER_LAYER_GZIP => (Gzip, false),
        OCI_LAYER_ZSTD | DOCKER_LAYER_ZSTD => (Zstd, false),
        OCI_FOREIGN_LAYER => (None, true),
        OCI_FOREIGN_LAYER_GZIP | DOCKER_FOREIGN_LAYER_GZIP => (Gzip, true),
        OCI_FOREIGN_LAYER_ZSTD => (Zstd, true),
        // Before OCI 1.0 and schema 2 were settled, some builders wrote these.
        "application/vnd.oci.image.layer.tar+gzip" | "application/vnd.docker.container.image.rootfs.diff+x-gtar" => {
            (Gzip, false)
        }
        _ => return Option::None,
    };
    Some(LayerMedia { compression, foreign })
}

pub(crate) fn oci_layer(compression: Compression) -> &'static str {
    match compression {
        Compression::None => OCI_LAYER,
        Compression::Gzip => OCI_LAYER_GZIP,
        Compression::Zstd => OCI_LAYER_ZSTD,
    }
}

/// The schema 2 specification has no zstd; everybody who reads it knows this name.
pub(crate) fn docker_layer(compression: Compression) -> &'static str {
    match compression {
        Compression::None => DOCKER_LAYER,
        Compression::Gzip => DOCKER_LAYER_GZIP,
        Compression::Zstd => DOCKER_LAYER_ZSTD,
    }
}

/// The same thing in OCI's words.
pub(crate) fn oci_form(media_type: &str) -> &str {
    match media_type {
        DOCKER_MANIFEST => OCI_MANIFEST,
        DOCKER_LIST => OCI_INDEX,
        DOCKER_CONFIG => OCI_CONFIG,
        DOCKER_FOREIGN_LAYER_GZIP => OCI_FOREIGN_LAYER_GZIP,
        other => match layer(other) {
            Some(known) if !known.foreign => oci_layer(known.compression),
            _ => other,
        },
    }
}

/// The same thing in docker's words; `None` where docker has none.
pub(crate) fn docker_form(media_type: &str) -> Option<&str> {
    Some(match media_type {
        OCI_MANIFEST | DOCKER_MANIFEST => DOCKER_MANIFEST,
        OCI_INDEX | DOCKER_LIST => DOCKER_LIST,
        OCI_CONFIG | DOCKER_CONFIG => DOCKER_CONFIG,
        other => match layer(other)? {
            LayerMedia {
                compression: Compression::Zstd,
                ..
            } => return None,
            LayerMedia {
                compression: Compression::Gzip,
                foreign: true,
            } => DOCKER_FOREIGN_LAYER_GZIP,
            LayerMedia { foreign: true, .. } => return None,
            known => docker_layer(known.compression),
        },
    })
}

/// An image's configuration. Some early docker versions and registries named it carelessly.
pub(super) fn is_config(media_type: &str) -> bool {
    matches!(
        media_type,
        OCI_CONFIG | DOCKER_CONFIG | "application/octet-stream" | "application/json" | "text/html" | ""
    )
}

/// Something that [`crate::format::manifest::parse`] may take.
pub(crate) fn is_manifest(media_type: &str) -> bool {
    ACCEPT.contains(&media_type)
}

/// A list of manifests.
pub(crate) fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_LIST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dialects_translate_both_ways() {
        for (oci, docker) in [
            (OCI_MANIFEST, Some(DOCKER_MANIFEST)),
            (OCI_INDEX, Some(DOCKER_LIST)),
            (OCI_CONFIG, Some(DOCKER_CONFIG)),
            (OCI_LAYER, Some(DOCKER_LAYER)),
            (OCI_LAYER_GZIP, Some(DOCKER_LAYER_GZIP)),
            (OCI_LAYER_ZSTD, None),
            (OCI_FOREIGN_LAYER_GZIP, Some(DOCKER_FOREIGN_LAYER_GZIP)),
            (OCI_FOREIGN_LAYER, None),
        ] {
            assert_eq!(docker_form(oci), docker, "{oci}");
            assert_eq!(oci_form(docker.unwrap_or(oci)), oci);
        }
        assert_eq!(docker_form("text/plain"), None);
        assert_eq!(oci_form("text/plain"), "text/plain");
        assert_eq!(oci_form(DOCKER_LAYER_ZSTD), OCI_LAYER_ZSTD);
    }
}
