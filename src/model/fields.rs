//! Values that are lists of fields: `type=bind,src=/a,"dst=/b,c"`.

/// One record of a CSV file (RFC 4180): a quote inside a quoted field is doubled.
pub(crate) fn split(text: &str) -> Option<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut chars = text.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        let field = fields.last_mut()?;
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => fields.push(String::new()),
            _ => field.push(c),
        }
    }
    (!quoted).then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_and_quotes() {
        for (text, want) in [
            ("a=1,b", Some(vec!["a=1", "b"])),
            ("", Some(vec![""])),
            ("\"a,b\",c", Some(vec!["a,b", "c"])),
            ("\"a\"\"b\"", Some(vec!["a\"b"])),
            ("\"a,b", None),
        ] {
            let want: Option<Vec<String>> = want.map(|w| w.into_iter().map(str::to_owned).collect());
            assert_eq!(split(text), want, "{text}");
        }
    }
}
