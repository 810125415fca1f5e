//! What a registry speaks: HTTP, credentials, the protocols; and what the machine's administrator says about registries.
//!
//! [`Remote`] is a repository that images are fetched from or sent to. Today's dialect (OCI Distribution, which is
//! docker's registry API v2) is `v2`; the registries of 2013 are another member of the same enum.

mod auth;
pub(crate) mod config;
mod cookies;
pub(crate) mod credentials;
pub(crate) mod download;
mod endpoint;
mod failure;
mod http;
mod interrupt;
pub(crate) mod login;
mod proxy;
mod remote;
mod retry;
pub(crate) mod search;
pub(crate) mod text;
mod tls;
mod url;
pub(crate) mod v1;
mod v2;

pub(crate) use config::check_policy_of_files;
pub(crate) use http::Passing;
pub(crate) use interrupt::taking_back;
pub(crate) use remote::{Access, Action, Mount, Remote, Selector, Wanted};
pub(crate) use v2::blob::BlobReader;
pub(crate) use v2::upload::{Blob, Upload};

use crate::error::Result;
use crate::model::reference::Reference;

/// What a name, as it was typed, may mean, in order: registries.conf has aliases and lists of registries for names
/// without a host. Otherwise it is exactly the one at Docker Hub.
pub(crate) fn candidates(typed: &str) -> Result<Vec<Reference>> {
    config::Config::load()?.candidates(typed)
}
