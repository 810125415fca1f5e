//! The steps of an image, as `history` shows them.

use super::Look;
use crate::image::history::Row as Step;
use crate::output::listing::{Row, View};
use crate::output::units;

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

/// `human` says sizes and times as people do, else in bytes and in full.
pub(crate) fn row(step: &Step, human: bool, look: &Look) -> Row {
    let id = match (&step.id, look.short) {
        (Some(id), true) => id.short(),
        (Some(id), false) => id.to_string(),
        (None, _) => "<missing>".to_owned(),
    };
    let known = |text: Option<String>| text.unwrap_or_else(|| "N/A".to_owned());
    let date = known(step.created.map(|time| look.date(time)));
    let since = known(step.created.map(|time| look.ago(time)));
    Row::default()
        .with("ID", id)
        .with("CreatedSince", if human { since } else { date.clone() })
        .with("CreatedAt", date)
        .with("CreatedBy", look.cut(step.created_by.replace('\t', " "), 45))
        .with(
            "Size",
            if human {
                units::size(step.size)
            } else {
                step.size.to_string()
            },
        )
        .with("Comment", step.comment.as_str())
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
        let short = row(&step, true, &look(true));
        let text = |field| short.text(field);
        assert_eq!(
            (text("ID"), text("CreatedSince"), text("Size")),
            ("<missing>".into(), "24 hours ago".into(), "72.8MB".into())
        );
        assert_eq!(text("CreatedBy").chars().count(), 45);
        let full = row(&step, false, &look(false));
        assert_eq!(full.text("CreatedSince"), "2026-01-01 03:04:05 +0000 UTC");
        assert_eq!(
            (full.text("Size"), full.text("CreatedBy").len()),
            ("72801024".into(), 60)
        );
    }
}
