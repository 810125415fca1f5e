//! Signals by name and number, as `kill -l` has them on Linux (signal(7)).

/// Number 1 is at index 0. These numbers are those of x86-64 and aarch64.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// The range that programs may use: the C library keeps 32 and 33 for itself.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

pub(crate) const TERM: i32 = 15;
pub(crate) const KILL: i32 = 9;

/// `TERM`, `SIGTERM`, `term`, `15`, `RTMIN+3`, `RTMAX-1`.
pub(crate) fn parse(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=RTMAX).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(index) = NAMES.iter().position(|n| *n == name) {
        return i32::try_from(index).ok().map(|i| i + 1);
    }
    match name {
        "IOT" => Some(6),
        "CLD" => Some(17),
        "POLL" => Some(29),
        _ => real_time(name),
    }
}

fn real_time(name: &str) -> Option<i32> {
    let offset = |rest: &str, sign: char| match rest.strip_prefix(sign) {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse::<i32>().ok(),
        None if rest.is_empty() => Some(0),
        _ => None,
    };
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => RTMIN.checked_add(offset(rest, '+')?)?,
        (_, Some(rest)) => RTMAX.checked_sub(offset(rest, '-')?)?,
        _ => return None,
    };
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}

/// `SIGTERM` of 15, `SIGRTMIN+3` of 37, the bare number of what has no name.
pub(crate) fn name(number: i32) -> String {
    let index = usize::try_from(number).ok().and_then(|n| n.checked_sub(1));
    match index.and_then(|i| NAMES.get(i)) {
        Some(name) => format!("SIG{name}"),
        None if number == RTMIN => "SIGRTMIN".to_owned(),
        None if (RTMIN..=RTMAX).contains(&number) => format!("SIGRTMIN+{}", number - RTMIN),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [
            ("TERM", 15),
            ("sigterm", 15),
            ("SIGKILL", 9),
            ("9", 9),
            ("hup", 1),
            ("SYS", 31),
            ("64", 64),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("rtmax-1", 63),
            ("RTMAX", 64),
            ("POLL", 29),
        ] {
            assert_eq!(parse(text), Some(number), "{text}");
        }
        for bad in [
            "", "0", "-9", "65", "SIG", "FOO", "RTMIN+31", "RTMIN-1", "RTMIN+", "RTMIN++1", "RTMAX+1",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_number_has_a_name_that_parses_to_it() {
        for number in 1..=64 {
            assert_eq!(parse(&name(number)), Some(number), "{}", name(number));
        }
    }

    #[test]
    fn the_table_agrees_with_the_kernel() {
        for (text, number) in [
            ("USR2", libc::SIGUSR2),
            ("STKFLT", libc::SIGSTKFLT),
            ("WINCH", libc::SIGWINCH),
        ] {
            assert_eq!(parse(text), Some(number));
        }
        assert_eq!((TERM, KILL), (libc::SIGTERM, libc::SIGKILL));
    }
}
