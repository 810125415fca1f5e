//! Words that were meant: the known one that is nearest to what was typed.

/// The nearest of `known`, if it is near enough to have been meant.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A whole file where a word should be is not worth a comparison.
    if word.len() > 64 {
        return None;
    }
    let near = known.into_iter().map(|k| (distance(word, k), k)).min();
    near.filter(|(d, _)| *d <= 1 + word.len() / 4).map(|(_, name)| name)
}

/// Letters to add, drop, change or swap.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distances() {
        for (a, b, want) in [
            ("", "abc", 3),
            ("run", "run", 0),
            ("rnu", "run", 1),
            ("kil", "kill", 1),
            ("log", "logs", 1),
        ] {
            assert_eq!(distance(a, b), want, "{a} {b}");
        }
    }

    #[test]
    fn only_near_ones() {
        assert_eq!(nearest("RUNN", ["RUN", "ENV"]), Some("RUN"));
        assert_eq!(nearest("xyzzy", ["RUN", "ENV"]), None);
        assert_eq!(nearest(&"R".repeat(1 << 20), ["RUN"]), None);
    }
}
