//! One small process per running container.

pub(crate) mod log;
