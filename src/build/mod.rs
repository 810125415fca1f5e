//! Dockerfile → image.
//!
//! `options` is what was asked, `instruction` is a parsed Dockerfile, `progress` what a build tells about itself.

#![allow(dead_code)]

mod content;
pub(crate) mod context;
pub(crate) mod copy;
mod git;
mod ignore;
pub(crate) mod instruction;
pub(crate) mod options;
mod pattern;
pub(crate) mod place;
pub(crate) mod progress;
mod url;
