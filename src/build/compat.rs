//! Docker's own words about a build, of 2013 and of the classic builder since: scripts look for them.

use crate::model::id::SHORT;

/// `Step 3/7 : RUN make`; 2013 had no total.
pub(crate) fn step(number: usize, total: usize, text: &str) -> String {
    format!("Step {number}/{total} : {text}")
}

/// ` ---> 0123456789ab`.
pub(crate) fn arrow(id: &str) -> String {
    format!(" ---> {}", short(id))
}

pub(crate) const USING_CACHE: &str = " ---> Using cache";

pub(crate) fn running_in(container: &str) -> String {
    format!(" ---> Running in {}", short(container))
}

pub(crate) fn removing(container: &str) -> String {
    format!("Removing intermediate container {}", short(container))
}

pub(crate) fn built(id: &str) -> String {
    format!("Successfully built {}", short(id))
}

pub(crate) fn tagged(name: &str) -> String {
    format!("Successfully tagged {name}")
}

pub(crate) fn triggers(count: usize) -> String {
    match count {
        1 => "# Executing 1 build trigger".to_owned(),
        n => format!("# Executing {n} build triggers"),
    }
}

/// What a failing RUN says.
pub(crate) fn failed(command: &str, code: u8) -> String {
    format!("The command '{command}' returned a non-zero code: {code}")
}

/// `[Warning] One or more build-args …`, if there are any.
pub(crate) fn unused(args: &[&str]) -> Option<String> {
    (!args.is_empty()).then(|| {
        format!(
            "[Warning] One or more build-args [{}] were not consumed",
            args.join(" ")
        )
    })
}

/// Ids as people see them, without their algorithm.
fn short(id: &str) -> &str {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    hex.get(..SHORT).unwrap_or(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_scripts_know() {
        let id = format!("sha256:{}", "0123456789abcdef".repeat(4));
        assert_eq!(step(3, 7, "RUN x"), "Step 3/7 : RUN x");
        assert_eq!(arrow(&id), " ---> 0123456789ab");
        assert_eq!(built(&id), "Successfully built 0123456789ab");
        assert_eq!(running_in("abc"), " ---> Running in abc");
        assert_eq!(
            failed("/bin/sh -c exit 3", 3),
            "The command '/bin/sh -c exit 3' returned a non-zero code: 3"
        );
        assert_eq!(
            unused(&["A", "B"]).unwrap(),
            "[Warning] One or more build-args [A B] were not consumed"
        );
        assert_eq!(unused(&[]), None);
    }
}
