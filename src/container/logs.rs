//! Reading the log: all, tail, since, follow.
