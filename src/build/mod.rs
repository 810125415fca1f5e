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
pub(crate) mod options;
pub(crate) mod parser;
mod pattern;
pub(crate) mod place;
pub(crate) mod plan;
pub(crate) mod progress;
mod url;
mod words;
