//! Images as `images` shows them.

use super::{Look, labels};
use crate::image::list;
use crate::output::listing::{Fields, View};
use crate::output::units;
use std::collections::BTreeMap;

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
        ("Platform", "PLATFORM"),
    ],
    id: "ID",
};

/// The columns of the table. Platforms come last, and only where one name has several, so that scripts that count columns
/// find what they look for.
pub(crate) fn columns(digests: bool, platforms: bool) -> Vec<&'static str> {
    let mut columns = vec!["Repository", "Tag"];
    columns.extend(digests.then_some("Digest"));
    columns.extend(["ID", "CreatedSince", "Size"]);
    columns.extend(platforms.then_some("Platform"));
    columns
}

const NONE: &str = "<none>";

/// An image in a list.
pub(crate) struct Shown<'a> {
    pub(crate) image: &'a list::Row,
    pub(crate) look: &'a Look,
}

impl Fields for Shown<'_> {
    fn field(&self, name: &str) -> String {
        let Shown { image, look } = self;
        let reference = image.name.as_ref();
        match name {
            "ID" if look.short => image.id.short(),
            "ID" => image.id.to_string(),
            "Repository" => reference.map_or(NONE.to_owned(), |name| name.familiar_name()),
            "Tag" => reference
                .and_then(|name| name.tag.as_deref())
                .unwrap_or(NONE)
                .to_owned(),
            "Digest" => image.digest.map_or(NONE.to_owned(), |digest| digest.to_string()),
            "CreatedSince" => match (&image.damage, image.created) {
                (Some(_), _) => "damaged".to_owned(),
                (None, Some(time)) => look.ago(time),
                (None, None) => "N/A".to_owned(),
            },
            "CreatedAt" => image.created.map_or("N/A".to_owned(), |time| look.date(time)),
            "Size" | "VirtualSize" => units::size(image.size),
            "Labels" => labels(&image.labels),
            "Platform" => image.platform.clone(),
            // Docker counts the rest only for `system df`.
            _ => "N/A".to_owned(),
        }
    }

    fn labels(&self) -> Option<&BTreeMap<String, String>> {
        Some(&self.image.labels)
    }
}
