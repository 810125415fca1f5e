//! Trees that are walked, measured, copied and removed.
