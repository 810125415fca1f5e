//! Secrets as `secret ls` and `secret inspect` show them: docker's columns, podman's JSON.

use super::{Look, labels};
use crate::model::filter::Label;
use crate::model::secret::Secret;
use crate::output::listing::{Fields, View};
use crate::output::terminal::clean;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(crate) const VIEW: View = View {
    headings: &[
        ("ID", "ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("CreatedAt", "CREATED"),
        ("UpdatedAt", "UPDATED"),
        ("Labels", "LABELS"),
    ],
    id: "ID",
};

pub(crate) const COLUMNS: [&str; 5] = ["ID", "Name", "Driver", "CreatedAt", "UpdatedAt"];

pub(crate) struct Shown<'a> {
    pub(crate) secret: &'a Secret,
    pub(crate) look: &'a Look,
}

impl Fields for Shown<'_> {
    fn field(&self, name: &str) -> String {
        let secret = self.secret;
        match name {
            "ID" => secret.id.clone(),
            "Name" => secret.name.clone(),
            "Driver" => "file".to_owned(),
            "CreatedAt" => self.look.ago(secret.created),
            "UpdatedAt" => self.look.ago(secret.updated.unwrap_or(secret.created)),
            "Labels" => labels(&secret.labels),
            _ => String::new(),
        }
    }

    fn labels(&self) -> Option<&BTreeMap<String, String>> {
        Some(&self.secret.labels)
    }
}

/// `secret inspect`; the content only if it is given.
pub(crate) fn inspect(secret: &Secret, data: Option<&[u8]>) -> Value {
    let mut value = json!({
        "ID": secret.id,
        "CreatedAt": secret.created.to_string(),
        "UpdatedAt": secret.updated.unwrap_or(secret.created).to_string(),
        "Spec": {
            "Name": secret.name,
            "Driver": {"Name": "file", "Options": secret.driver_options},
            "Labels": secret.labels,
        },
    });
    if let (Some(data), Some(object)) = (data, value.as_object_mut()) {
        object.insert("SecretData".to_owned(), String::from_utf8_lossy(data).into());
    }
    value
}

/// For people, as docker has it.
pub(crate) fn pretty(secret: &Secret) -> String {
    let labels: String = secret.labels.iter().map(|(k, v)| format!("\n - {k}={v}")).collect();
    clean_lines(&format!(
        "ID:\t\t{}\nName:\t\t{}\nDriver:\t\tfile\nCreated at:\t{}\nUpdated at:\t{}\nLabels:{labels}",
        secret.id,
        secret.name,
        secret.created,
        secret.updated.unwrap_or(secret.created),
    ))
}

fn clean_lines(text: &str) -> String {
    text.lines()
        .map(|line| line.split('\t').map(clean).collect::<Vec<_>>().join("\t"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// What a secret may be asked for.
pub(crate) enum Filter {
    Name(String),
    Id(String),
    Label(Label),
}

pub(crate) const KEYS: [&str; 3] = ["id", "label", "name"];

impl Filter {
    pub(crate) fn parse(key: &str, value: &str) -> Result<Filter, &'static str> {
        Ok(match key {
            "id" => Filter::Id(value.to_owned()),
            "label" => Filter::Label(value.into()),
            _ => Filter::Name(value.to_owned()),
        })
    }

    pub(crate) fn matches(&self, secret: &Secret) -> bool {
        match self {
            Filter::Name(part) => secret.name.contains(part.as_str()),
            Filter::Id(start) => secret.id.starts_with(start.as_str()),
            Filter::Label(label) => label.is_in(&secret.labels),
        }
    }
}
