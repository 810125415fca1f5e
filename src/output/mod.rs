//! Text for people and for programs: tables, templates, sizes, ages, JSON. Everything is written to a `Write`; nothing
//! here knows where its data comes from.

pub(crate) mod build_progress;
pub(crate) mod inspect;
pub(crate) mod listing;
pub(crate) mod prefix;
pub(crate) mod progress;
pub(crate) mod table;
pub(crate) mod template;
pub(crate) mod terminal;
pub(crate) mod units;
