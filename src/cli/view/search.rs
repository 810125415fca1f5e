//! Found images as `search` shows them.

use super::Look;
use crate::output::listing::{Fields, View};
use crate::registry::search::Hit;
use std::collections::BTreeMap;

pub(crate) const VIEW: View = View {
    headings: &[
        ("Name", "NAME"),
        ("Description", "DESCRIPTION"),
        ("StarCount", "STARS"),
        ("IsOfficial", "OFFICIAL"),
        ("IsAutomated", "AUTOMATED"),
        ("Index", "INDEX"),
    ],
    id: "Name",
};

pub(crate) const COLUMNS: [&str; 4] = ["Name", "Description", "StarCount", "IsOfficial"];

/// Characters of a description that fit beside the rest.
const DESCRIPTION: usize = 45;

pub(crate) struct Shown<'a> {
    pub(crate) hit: &'a Hit,
    pub(crate) look: &'a Look,
}

impl Fields for Shown<'_> {
    fn field(&self, name: &str) -> String {
        let ok = |yes: bool| if yes { "[OK]".to_owned() } else { String::new() };
        match name {
            "Name" => self.hit.name.clone(),
            "Description" => {
                let one_line = self.hit.description.replace(['\n', '\r'], " ");
                self.look.cut(one_line, DESCRIPTION)
            }
            "StarCount" => self.hit.stars.to_string(),
            "IsOfficial" => ok(self.hit.official),
            "IsAutomated" => ok(self.hit.automated),
            _ => self.hit.index.clone(),
        }
    }

    fn json(&self, name: &str) -> String {
        match name {
            "IsOfficial" => self.hit.official.to_string(),
            "IsAutomated" => self.hit.automated.to_string(),
            name => self.field(name),
        }
    }

    fn labels(&self) -> Option<&BTreeMap<String, String>> {
        None
    }
}
