//! Text for people and programs: tables, templates, sizes, times.
