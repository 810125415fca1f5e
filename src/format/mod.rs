//! Manifests, indexes and configurations of images: bytes ↔ model. Pure.
