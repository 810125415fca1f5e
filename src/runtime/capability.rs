//! Capability sets by name.
