//! Lists of objects as docker prints them: a table, ids only (`-q`), or whatever `--format` says.

use super::table::align;
use super::template::Template;
use super::terminal::{clean, clean_lines};
use crate::error::Result;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io::Write;

/// What there is to know of one kind of object.
#[derive(Debug)]
pub(crate) struct View {
    /// Every field of a row, and its column's heading.
    pub(crate) headings: &'static [(&'static str, &'static str)],
    /// What `-q` prints.
    pub(crate) id: &'static str,
}

/// One object of a list. A text is only made when it is shown.
pub(crate) trait Fields {
    /// The text of one of the view's fields.
    fn field(&self, name: &str) -> String;

    /// The same in `--format json`, where a few of docker's are written otherwise.
    fn json(&self, name: &str) -> String {
        self.field(name)
    }

    /// For templates that ask for a single one.
    fn labels(&self) -> Option<&BTreeMap<String, String>>;
}

/// How to print a list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style<'a> {
    /// `--format`: a template for each row; `table` in front of it aligns them below headings; `json` is one object
    /// a line. Nothing, or `table` alone, is the table of `columns`.
    pub(crate) format: Option<&'a str>,
    /// Ids only, where no other format is asked for.
    pub(crate) quiet: bool,
    /// Fields of the table.
    pub(crate) columns: &'a [&'a str],
    /// `out` is a terminal: control characters are made visible. In a table they always are.
    pub(crate) terminal: bool,
}

/// Prints `rows`.
pub(crate) fn list<T: Fields>(view: &View, rows: &[T], style: Style<'_>, out: &mut dyn Write) -> Result<()> {
    let format = style.format.unwrap_or_default().trim_start();
    let is_plain = format.is_empty() || format.trim_end() == "table";
    if style.quiet && is_plain {
        let ids: String = rows.iter().map(|row| row.field(view.id) + "\n").collect();
        out.write_all(ids.as_bytes())?;
    } else if is_plain {
        align(&table(view, rows, style.columns), out)?;
    } else if let Some(template) = format
        .strip_prefix("table")
        .filter(|t| t.starts_with([' ', '\t', '\\']))
    {
        let template = template.trim_start();
        let headings = view
            .headings
            .iter()
            .map(|(field, heading)| ((*field).to_owned(), (*heading).into()))
            .collect();
        let heading = Template::parse_header(template)?.render(&Value::Object(headings))?;
        let text = format!("{heading}\n{}", render(view, &Template::parse(template)?, rows)?);
        align(&clean_lines(&text), out)?;
    } else if matches!(format.trim_end(), "json" | "{{json .}}") {
        for row in rows {
            // As docker has it: in the order of the alphabet.
            let fields = view.headings.iter();
            let fields = fields.map(|(name, _)| ((*name).to_owned(), row.json(name).into()));
            let mut object: Map<String, Value> = fields.collect();
            object.sort_keys();
            writeln!(out, "{}", Value::Object(object))?;
        }
    } else {
        let text = render(view, &Template::parse(format)?, rows)?;
        out.write_all(
            if style.terminal {
                clean_lines(&text)
            } else {
                text.as_str().into()
            }
            .as_bytes(),
        )?;
    }
    out.flush()?;
    Ok(())
}

fn table<T: Fields>(view: &View, rows: &[T], columns: &[&str]) -> String {
    let heading = |column: &&str| {
        view.headings
            .iter()
            .find(|(field, _)| field == column)
            .map_or("", |(_, text)| text)
    };
    let mut text = columns.iter().map(heading).collect::<Vec<_>>().join("\t");
    for row in rows {
        text.push('\n');
        for (i, column) in columns.iter().enumerate() {
            if i > 0 {
                text.push('\t');
            }
            text.push_str(&clean(&row.field(column)));
        }
    }
    text
}

fn render<T: Fields>(view: &View, template: &Template, rows: &[T]) -> Result<String> {
    let none = BTreeMap::new();
    let mut text = String::new();
    for row in rows {
        let object = Value::Object(object(view, row));
        text.push_str(&template.render_labelled(&object, row.labels().unwrap_or(&none))?);
        text.push('\n');
    }
    Ok(text)
}

fn object<T: Fields>(view: &View, row: &T) -> Map<String, Value> {
    let fields = view.headings.iter();
    fields
        .map(|(name, _)| ((*name).to_owned(), row.field(name).into()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIEW: View = View {
        headings: &[
            ("ID", "CONTAINER ID"),
            ("Names", "NAMES"),
            ("Labels", "LABELS"),
            ("Size", "SIZE"),
        ],
        id: "ID",
    };

    struct Row([&'static str; 3], BTreeMap<String, String>);

    impl Fields for Row {
        fn field(&self, name: &str) -> String {
            match name {
                "ID" => self.0[0],
                "Names" => self.0[1],
                "Size" => self.0[2],
                _ => "",
            }
            .to_owned()
        }

        fn labels(&self) -> Option<&BTreeMap<String, String>> {
            Some(&self.1)
        }
    }

    fn print(format: &str, quiet: bool) -> String {
        let labels = BTreeMap::from([("a.tier".to_owned(), "x".to_owned())]);
        let rows = [
            Row(["0123456789ab", "web\x1b", "1B"], labels),
            Row(["1123456789ab", "a-longer-name", "2B"], BTreeMap::new()),
        ];
        let format = Some(format).filter(|f| !f.is_empty());
        let mut out = Vec::new();
        let style = Style {
            format,
            quiet,
            columns: &["ID", "Size", "Names"],
            terminal: false,
        };
        list(&VIEW, &rows, style, &mut out).map_or_else(|e| e.to_string(), |()| String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_usual_table() {
        let expected = "CONTAINER ID   SIZE      NAMES\n\
                        0123456789ab   1B        web\\x1b\n\
                        1123456789ab   2B        a-longer-name\n";
        assert_eq!(print("", false), expected);
        assert_eq!(print("table", false), expected);
    }

    #[test]
    fn ids_only() {
        assert_eq!(print("", true), "0123456789ab\n1123456789ab\n");
    }

    #[test]
    fn formats() {
        assert_eq!(
            print("{{.ID}}={{.Names}}", false),
            "0123456789ab=web\x1b\n1123456789ab=a-longer-name\n"
        );
        let json = "{\"ID\":\"0123456789ab\",\"Labels\":\"\",\"Names\":\"web\\u001b\",\"Size\":\"1B\"}\n";
        assert!(print("json", false).starts_with(json));
        assert!(print("{{json .}}", false).starts_with(json));
        let expected = "NAMES           SIZE      TIER\nweb\\x1b         1B        x\na-longer-name   2B        \n";
        assert_eq!(
            print(r#"table {{.Names}}\t{{.Size}}\t{{.Label "a.tier"}}"#, false),
            expected
        );
        assert!(print("{{.Nope}}", false).starts_with("template parsing error"));
    }
}
