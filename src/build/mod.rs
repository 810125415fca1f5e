//! Dockerfile → image.
//!
//! `options` is what was asked, `instruction` is a parsed Dockerfile, `progress` what a build tells about itself.

#![allow(dead_code)]

pub(crate) mod compat;
mod content;
pub(crate) mod context;
pub(crate) mod copy;
pub(crate) mod expand;
mod git;
mod heredoc;
mod ignore;
pub(crate) mod instruction;
mod lexer;
pub(crate) mod lint;
pub(crate) mod options;
pub(crate) mod parser;
mod pattern;
pub(crate) mod place;
pub(crate) mod plan;
pub(crate) mod progress;
mod url;
mod words;

use crate::error::{Error, Result};
use crate::model::id::ImageId;
use crate::store::Store;

/// What a build has made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Built {
    /// One per platform; none where no image was wanted.
    pub(crate) ids: Vec<ImageId>,
}

/// Builds what the options ask for.
pub(crate) fn build(_: &Store, _: &options::Options, _: &dyn progress::Progress) -> Result<Built> {
    Err(Error::other("build: not there yet"))
}
