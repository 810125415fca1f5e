//! Flags and image → ContainerConfig (pure).

/// What `run` and `create` were asked, as typed, parsed into types.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunArgs {}
