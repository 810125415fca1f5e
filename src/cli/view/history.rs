//! The steps of an image, as `history` shows them.

use super::Look;
use crate::image::history::Row as Step;
use crate::output::listing::{Fields, View};
use crate::output::units;
use std::collections::BTreeMap;

pub(crate) const VIEW: View = View {
    headings: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ],
    id: "ID",
};

pub(crate) const COLUMNS: [&str; 5] = ["ID", "CreatedSince", "CreatedBy", "Size", "Comment"];

/// A step in a list.
pub(crate) struct Shown<'a> {
    pub(crate) step: &'a Step,
    pub(crate) look: &'a Look,
    /// Sizes and times as people say them, else in bytes and in full.
    pub(crate) human: bool,
}

impl Fields for Shown<'_> {
    fn field(&self, name: &str) -> String {
        let Shown { step, look, human } = self;
        let known = |text: Option<String>| text.unwrap_or_else(|| "N/A".to_owned());
        match name {
            "ID" => match (&step.id, look.short) {
                (Some(id), true) => id.short(),
                (Some(id), false) => id.to_string(),
                (None, _) => "<missing>".to_owned(),
            },
            "CreatedSince" if *human => known(step.created.map(|time| look.ago(time))),
            "CreatedSince" | "CreatedAt" => known(step.created.map(|time| look.rfc3339(time))),
            "CreatedBy" => look.cut(step.created_by.replace('\t', " "), 45),
            "Size" if *human => units::size(step.size),
            "Size" => step.size.to_string(),
            "Comment" => step.comment.clone(),
            _ => String::new(),
        }
    }

    fn labels(&self) -> Option<&BTreeMap<String, String>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZone;

    #[test]
    fn the_fields_of_a_step() {
        let look = |short| Look {
            now: "2026-01-02T03:04:05Z".parse().unwrap(),
            zone: TimeZone::UTC,
            short,
        };
        let step = Step {
            id: None,
            created: Some("2026-01-01T03:04:05Z".parse().unwrap()),
            created_by: "long ".repeat(12),
            size: 72_801_024,
            comment: "why".to_owned(),
        };
        let (short, long) = (look(true), look(false));
        let row = Shown {
            step: &step,
            look: &short,
            human: true,
        };
        assert_eq!(
            ["ID", "CreatedSince", "Size"].map(|field| row.field(field)),
            ["<missing>", "24 hours ago", "72.8MB"]
        );
        assert_eq!(row.field("CreatedBy").chars().count(), 45);
        let row = Shown {
            step: &step,
            look: &long,
            human: false,
        };
        assert_eq!(
            ["CreatedSince", "Size", "Comment"].map(|field| row.field(field)),
            ["2026-01-01T03:04:05Z", "72801024", "why"]
        );
        assert_eq!(row.field("CreatedBy").len(), 60);
    }
}
