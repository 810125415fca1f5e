//! Dockerfile → image.
