//! `--log-opt tag=`: docker's names for a container, as `{{.Name}}`, in the text that its log records carry.

use crate::model::container::ContainerConfig;

const NAMES: [&str; 8] = [
    "ID",
    "FullID",
    "Name",
    "FullName",
    "ImageID",
    "ImageFullID",
    "ImageName",
    "DaemonName",
];

/// Replaces every `{{.Name}}`. The error says what is wrong.
pub(crate) fn expand(template: &str, value: &dyn Fn(&str) -> String) -> Result<String, String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (inside, after) = after.split_once("}}").ok_or("'{{' without '}}'")?;
        let name = inside.trim().trim_start_matches('.');
        if !NAMES.contains(&name) {
            return Err(format!("no field '{}': there are {}", inside.trim(), NAMES.join(", ")));
        }
        text.push_str(before);
        text.push_str(&value(name));
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

/// The tag of a container; docker's default is its short id.
pub(crate) fn of(config: &ContainerConfig) -> String {
    let template = config.log.options.get("tag").map_or("{{.ID}}", String::as_str);
    let image = config.image.id.to_string();
    let value = |name: &str| match name {
        "ID" => config.id.short().to_owned(),
        "FullID" => config.id.as_str().to_owned(),
        "Name" => config.name.clone(),
        "FullName" => format!("/{}", config.name),
        "ImageID" => image.chars().take(12).collect(),
        "ImageFullID" => image.clone(),
        "ImageName" => config.image.reference.clone(),
        _ => "barge".to_owned(),
    };
    expand(template, &value).unwrap_or_else(|_| config.id.short().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates() {
        let value = |name: &str| format!("<{name}>");
        for (template, want) in [
            ("", Ok("")),
            ("plain", Ok("plain")),
            ("{{.Name}}/{{ .ID }}", Ok("<Name>/<ID>")),
            ("{{.Names}}", Err("no field")),
            ("{{.Name", Err("without")),
        ] {
            match (expand(template, &value), want) {
                (Ok(text), Ok(want)) => assert_eq!(text, want),
                (Err(why), Err(want)) => assert!(why.contains(want), "{why}"),
                (got, want) => panic!("{template}: {got:?}, not {want:?}"),
            }
        }
    }
}
