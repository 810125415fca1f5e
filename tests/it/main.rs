//! The root tests: the real binary on the real kernel, one module per area. Each test has a `Host` of its own, at the
//! end of which nothing may be left.
//!
//! Not root: every test fails with that reason, so that nothing seems to pass that did not run.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    unreachable_pub
)]

mod archives;
mod bad_input;
mod build_cache;
mod build_cache_elsewhere;
mod build_context;
mod build_copy;
mod build_docker;
mod build_language;
mod build_real;
mod build_run;
mod cdi;
mod check;
mod chowned;
mod commit;
mod concurrency;
mod copies;
mod cp;
mod crash;
mod drivers;
mod events;
mod examples;
mod exec;
mod fetched;
mod filesystems;
mod firewall;
mod flags;
mod health;
mod images;
mod isolation;
mod layers;
mod lifecycle;
mod limits;
mod listings;
mod login;
mod logs;
mod manifest;
mod mounts;
mod names;
mod network;
mod old_registries;
mod process;
mod proxy;
mod prune;
mod publish;
mod pull;
mod push;
mod readme_2013;
mod real_input;
mod registry;
mod removal;
mod republish;
mod secrets;
mod service;
mod settings;
mod shells;
mod start;
mod streams;
mod support;
mod surroundings;
mod terminals;
mod truth;
mod upgrade;
mod users;
mod verbs;
mod volumes;
