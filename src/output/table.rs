//! Columns in the look of Go's tabwriter as docker sets it: left-aligned, three spaces apart, at least ten wide.

use crate::error::Result;
use std::io::Write;
use unicode_width::UnicodeWidthStr;

const GAP: usize = 3;
const NARROWEST: usize = 10;

/// Writes lines whose cells are separated by tabs. The last cell of a line belongs to no column.
pub(crate) fn align(text: &str, out: &mut dyn Write) -> Result<()> {
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<usize> = Vec::new();
    for line in &lines {
        for (column, cell) in line[..line.len() - 1].iter().enumerate() {
            if column == widths.len() {
                widths.push(NARROWEST);
            }
            widths[column] = widths[column].max(cell.width() + GAP);
        }
    }
    let mut aligned = String::with_capacity(text.len() * 2);
    for line in &lines {
        for (column, cell) in line.iter().enumerate() {
            aligned.push_str(cell);
            if column + 1 < line.len() {
                aligned.extend(std::iter::repeat_n(' ', widths[column] - cell.width()));
            }
        }
        aligned.push('\n');
    }
    out.write_all(aligned.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_like_docker() {
        let mut out = Vec::new();
        align(
            "CONTAINER ID\tIMAGE\tNAMES\n0123456789ab\tb\tweb\nabc\t\u{8239}ship-of-ten\tx\n",
            &mut out,
        )
        .unwrap();
        let expected = "CONTAINER ID   IMAGE           NAMES\n\
                        0123456789ab   b               web\n\
                        abc            \u{8239}ship-of-ten   x\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_single_column_has_no_gap() {
        let mut out = Vec::new();
        align("A\nb\n\n", &mut out).unwrap();
        assert_eq!(out, b"A\nb\n\n");
    }
}
