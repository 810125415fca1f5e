//! barge: a container engine without a daemon.
//!
//! # Architecture map
//!
//! One process per command. `barge run` reads a few records, makes a container's directory, and starts one small
//! monitor, which prepares everything a container needs, clones its init once, and stays as its parent: it writes the
//! log, serves attached clients, records the exit. Nothing else remains when a command has ended.
//!
//! ```text
//!   main         runs cli, prints the one error, gives the exit code
//!   cli          argv → typed arguments → one call → text        │ output  tables, templates, sizes, times
//!   build        Dockerfile → image                              │ model   plain nouns, no I/O
//!   container    what can be done to a container                 │ error   the one error type
//!   image        what can be done to an image
//!   monitor      one process per running container
//!   runtime      description → kernel: plan, steps, spawn, cgroup, seccomp
//!   network      bridges, addresses, published ports, firewall, names
//!   registry     HTTP to registries, credentials          │ format  manifests and configurations, bytes ↔ model
//!   layer        a directory tree ↔ a tar, overlay mounts
//!   store        what is on disk: records, locks, staging
//!   sys          the only unsafe code; knows no container
//! ```
//!
//! A module imports only from the rooms below it; `tests/layout.rs` holds the exact table and checks it.
//!
//! # A container's life, in files
//!
//! `cli/command/run.rs` → `image/resolve.rs` (name → image) → `container/config.rs` (flags + image → ContainerConfig,
//! pure) → `container/create.rs` (record on disk) → `container/start.rs` (starts the monitor, waits for one message)
//! → `monitor/mod.rs` → `monitor/cycle.rs` (one start to exit) → `runtime/plan.rs` (config → steps, pure) →
//! `runtime/spawn.rs` (clone3) → `runtime/apply.rs` (the child: step by step to execve).
//!
//! Other verbs: `container/status.rs` derives what is true, `container/reap.rs` releases what a dead monitor left,
//! `monitor/exec.rs` is the process behind an `exec`, `monitor/probe.rs` the one behind a health check, `sys/exe.rs` says why both run from a read-only mount.

mod build;
mod cli;
mod container;
mod error;
mod format;
mod image;
mod layer;
mod model;
mod monitor;
mod network;
mod output;
mod registry;
mod runtime;
mod store;
mod sys;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = inner_program() {
        return code;
    }
    match cli::run(std::env::args_os()) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            cli::report(&failure.error);
            ExitCode::from(failure.code)
        }
    }
}

/// The engine's program under another name: the monitor, or the process behind an `exec`.
fn inner_program() -> Option<ExitCode> {
    let name = std::env::args_os().next()?;
    let name = name.as_encoded_bytes();
    let run: fn() -> error::Result<u8> = match name {
        _ if name.starts_with(monitor::launch::TITLE.as_bytes()) => monitor::main,
        _ if name.starts_with(monitor::exec::TITLE.as_bytes()) => || monitor::exec::main().map(|()| 0),
        _ if name.starts_with(monitor::probe::TITLE.as_bytes()) => || monitor::probe::main().map(|()| 0),
        _ if name.rsplit(|b| *b == b'/').next() == Some(b"hello") => hello,
        _ => return None,
    };
    // Whoever started it has been told what there was to tell.
    Some(run().map_or(ExitCode::FAILURE, ExitCode::from))
}

/// What the built-in image `hello` runs.
fn hello() -> error::Result<u8> {
    image::report::write(&mut std::io::stdout().lock())?;
    Ok(0)
}
