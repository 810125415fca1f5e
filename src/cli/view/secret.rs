//! Secrets as `secret ls` and `secret inspect` show them: docker's columns, podman's JSON.

use super::{Look, labels};
use crate::error::{Error, Result};
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

/// `--filter`: of the values under one key one must match, of labels all.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    names: Vec<String>,
    ids: Vec<String>,
    labels: Vec<(String, Option<String>)>,
}

impl Filters {
    pub(crate) fn parse<'a>(words: impl Iterator<Item = &'a str>) -> Result<Filters> {
        let mut filters = Filters::default();
        for word in words {
            match word.split_once('=') {
                Some(("name", name)) => filters.names.push(name.to_owned()),
                Some(("id", id)) => filters.ids.push(id.to_owned()),
                Some(("label", label)) => filters.labels.push(match label.split_once('=') {
                    Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                    None => (label.to_owned(), None),
                }),
                _ => {
                    let error = Error::usage(format!("invalid filter '{word}'"));
                    return Err(error.with_hint("there are name=, id= and label="));
                }
            }
        }
        Ok(filters)
    }

    pub(crate) fn pass(&self, secret: &Secret) -> bool {
        let any = |wanted: &[String], test: &dyn Fn(&String) -> bool| wanted.is_empty() || wanted.iter().any(test);
        any(&self.names, &|n| secret.name.contains(n.as_str()))
            && any(&self.ids, &|i| secret.id.starts_with(i.as_str()))
            && self.labels.iter().all(|(k, v)| {
                secret
                    .labels
                    .get(k)
                    .is_some_and(|has| v.as_ref().is_none_or(|v| v == has))
            })
    }
}
