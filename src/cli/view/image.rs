//! Images as `images` shows them.

use super::{Look, labels};
use crate::image::list;
use crate::output::listing::{Row, View};
use crate::output::units;

pub(crate) const VIEW: View = View {
    headings: &[
        ("ID", "IMAGE ID"),
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("Digest", "DIGEST"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Size", "SIZE"),
        ("VirtualSize", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("Containers", "CONTAINERS"),
        ("Labels", "LABELS"),
    ],
    id: "ID",
};

pub(crate) const COLUMNS: [&str; 5] = ["Repository", "Tag", "ID", "CreatedSince", "Size"];
/// With `--digests`.
pub(crate) const COLUMNS_WITH_DIGEST: [&str; 6] = ["Repository", "Tag", "Digest", "ID", "CreatedSince", "Size"];

const NONE: &str = "<none>";

pub(crate) fn row(image: &list::Row, look: &Look) -> Row {
    let id = if look.short {
        image.id.short()
    } else {
        image.id.to_string()
    };
    let name = image.name.as_ref();
    let since = match (&image.damage, image.created) {
        (Some(_), _) => "damaged".to_owned(),
        (None, Some(time)) => look.ago(time),
        (None, None) => "N/A".to_owned(),
    };
    let size = units::size(image.size);
    // Docker counts the last three only for `system df`.
    Row::new(image.labels.clone())
        .with("ID", id)
        .with("Repository", name.map_or(NONE.to_owned(), |name| name.familiar_name()))
        .with("Tag", name.and_then(|name| name.tag.as_deref()).unwrap_or(NONE))
        .with("Digest", NONE)
        .with("CreatedSince", since)
        .with(
            "CreatedAt",
            image.created.map_or("N/A".to_owned(), |time| look.date(time)),
        )
        .with("Size", size.as_str())
        .with("VirtualSize", size)
        .with("SharedSize", "N/A")
        .with("UniqueSize", "N/A")
        .with("Containers", "N/A")
        .with("Labels", labels(&image.labels))
}
