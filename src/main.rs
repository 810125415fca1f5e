//! barge: a container engine without a daemon.

mod error;
mod model;

fn main() {}
