//! `builder` and `buildx`: docker's other ways to `build`.

use super::{build, builder_du, builder_prune};
use crate::cli::tree::{Body, Spec};

pub(super) const SPEC: Spec = Spec {
    name: "builder",
    about: "Work with builds: the same commands, under their noun",
    examples: &[],
    also: None,
    body: Body::Noun(&[build::SPEC.under_noun("build"), builder_du::SPEC, builder_prune::SPEC]),
};

pub(super) const BUILDX: Spec = Spec {
    name: "buildx",
    about: "The same under docker's other noun",
    examples: &[],
    also: None,
    body: Body::Noun(&[build::SPEC.under_noun("build"), DU, PRUNE]),
};

const DU: Spec = Spec {
    also: Some("builder du"),
    ..builder_du::SPEC
};

const PRUNE: Spec = Spec {
    also: Some("builder prune"),
    ..builder_prune::SPEC
};
