//! `--chmod`: octal, or symbolic as chmod(1) has it (pure).

use crate::error::{Error, Result};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Chmod {
    Octal(u32),
    Symbolic(Vec<Clause>),
}

/// `ug+rwX`: who, then what is done how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clause {
    /// Of 0o700, 0o070 and 0o007.
    who: u32,
    sign: u8,
    /// The bits as for all three; set-ID and sticky beside them.
    bits: u32,
    /// `X`: executable if it is a directory, or already is for somebody.
    if_executable: bool,
    /// `g=u`: what somebody else has.
    from: Option<u32>,
}

impl Chmod {
    pub(super) fn parse(text: &str) -> Result<Chmod> {
        let bad = || {
            Error::other(format!("invalid chmod parameter: '{}'", text.escape_debug()))
                .with_hint("it is an octal number up to 07777, or as in chmod(1): u=rwX,go=rX")
        };
        if text.bytes().all(|b| b.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).ok().filter(|m| *m <= 0o7777);
            return mode.map(Chmod::Octal).ok_or_else(bad);
        }
        let mut clauses = Vec::new();
        for part in text.split(',') {
            let at = part.find(['+', '-', '=']).ok_or_else(bad)?;
            let (people, mut rest) = part.split_at(at);
            let who = match people {
                "" => 0o777,
                _ => people
                    .bytes()
                    .try_fold(0, |who, b| Some(who | person(b)?))
                    .ok_or_else(bad)?,
            };
            while let Some(sign) = rest.bytes().next() {
                let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |n| n + 1);
                clauses.push(clause(who, sign, &rest[1..end]).ok_or_else(bad)?);
                rest = &rest[end..];
            }
        }
        Ok(Chmod::Symbolic(clauses))
    }

    /// The permission bits of something that had `mode`.
    pub(super) fn apply(&self, mode: u32, directory: bool) -> u32 {
        match self {
            Chmod::Octal(mode) => *mode,
            Chmod::Symbolic(clauses) => clauses.iter().fold(mode & 0o7777, |mode, c| c.apply(mode, directory)),
        }
    }
}

fn person(b: u8) -> Option<u32> {
    Some(match b {
        b'u' => 0o700,
        b'g' => 0o070,
        b'o' => 0o007,
        b'a' => 0o777,
        _ => return None,
    })
}

fn clause(who: u32, sign: u8, what: &str) -> Option<Clause> {
    let mut clause = Clause {
        who,
        sign,
        bits: 0,
        if_executable: false,
        from: None,
    };
    for b in what.bytes() {
        match b {
            b'r' => clause.bits |= 0o444,
            b'w' => clause.bits |= 0o222,
            b'x' => clause.bits |= 0o111,
            b'X' => clause.if_executable = true,
            b's' => clause.bits |= 0o6000,
            b't' => clause.bits |= 0o1000,
            b'u' | b'g' | b'o' if what.len() == 1 => clause.from = person(b),
            _ => return None,
        }
    }
    Some(clause)
}

impl Clause {
    fn apply(&self, mode: u32, directory: bool) -> u32 {
        let mut bits = self.bits;
        if self.if_executable && (directory || mode & 0o111 != 0) {
            bits |= 0o111;
        }
        if let Some(from) = self.from {
            let low = from & 0o111;
            bits |= (0..3)
                .filter(|n| mode & from & (low << n) != 0)
                .fold(0, |b, n| b | 0o111 << n);
        }
        // Which of the special bits this clause speaks of.
        let special = (if self.who & 0o700 != 0 { 0o4000 } else { 0 })
            | (if self.who & 0o070 != 0 { 0o2000 } else { 0 })
            | (if self.who == 0o777 || self.who & 0o007 != 0 {
                0o1000
            } else {
                0
            });
        let bits = bits & (self.who | special);
        match self.sign {
            b'+' => mode | bits,
            b'-' => mode & !bits,
            // A directory keeps its set-ID bits, as with GNU's chmod.
            _ => {
                let kept = if directory { special & 0o6000 } else { 0 };
                mode & !(self.who | special & !kept) | bits
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        for (text, before, directory, after) in [
            ("755", 0o600, false, 0o755),
            ("04711", 0o600, false, 0o4711),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o666, false, 0o444),
            ("g=u", 0o740, false, 0o770),
            ("o=g", 0o654, false, 0o655),
            ("u+s", 0o755, false, 0o4755),
            ("g+s,+t", 0o755, true, 0o3755),
            ("u+x-w", 0o600, false, 0o500),
            ("go=", 0o777, false, 0o700),
        ] {
            let got = Chmod::parse(text).unwrap().apply(before, directory);
            assert_eq!(got, after, "{text}: {got:o} instead of {after:o}");
        }
        for bad in ["", "8", "10000", "u", "z=r", "u=q", "u=ug", "r", "0x1ff", "-1"] {
            assert!(Chmod::parse(bad).is_err(), "{bad}");
        }
    }
}
