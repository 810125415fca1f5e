//! Flags and image → ContainerConfig (pure).
