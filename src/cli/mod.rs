//! argv → typed arguments → one call → text.
