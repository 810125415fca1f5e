//! Image names: `host/repository:tag@digest` (F006, F008, F009).
