//! Layers beside what other programs make of them.
