//! Points in time: RFC 3339 with nanoseconds, as in docker's JSON.

pub(crate) use jiff::Timestamp;
