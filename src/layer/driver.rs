//! Which driver a root has: what is recorded there, else what was asked for, else the first that works.

use crate::error::{Context as _, Error, Result};
use crate::layer::overlay::{self, Overlay};
use crate::model::driver::Driver;
use std::path::Path;

/// What is known of a root before it has a driver.
#[derive(Debug)]
pub(crate) struct Facts {
    /// `--storage-driver`, or the setting of that name.
    pub(crate) asked: Option<Driver>,
    /// What the root's containers are made with.
    pub(crate) recorded: Option<Driver>,
    /// Why overlayfs does not work on the root's filesystem.
    pub(crate) no_overlay: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) driver: Driver,
    /// One line for the person.
    pub(crate) warning: Option<String>,
}

pub(crate) fn choose(facts: &Facts) -> Result<Choice> {
    let silent = |driver| Choice { driver, warning: None };
    match (facts.recorded, facts.asked, &facts.no_overlay) {
        (Some(recorded), Some(asked), _) if recorded != asked => Err(Error::conflict(format!(
            "--storage-driver {}: the containers of this root are made with {}",
            asked.name(),
            recorded.name()
        ))
        .with_hint("a root keeps its driver: leave the flag out, or take another root (--root)")),
        (Some(recorded), _, _) => Ok(silent(recorded)),
        (None, Some(Driver::Overlay), Some(why)) => Err(Error::other(format!("--storage-driver overlay: {why}"))
            .with_hint("put the engine's root on ext4, xfs, btrfs or tmpfs (--root), or take --storage-driver copy")),
        (None, Some(asked), _) => Ok(silent(asked)),
        (None, None, None) => Ok(silent(Driver::Overlay)),
        (None, None, Some(why)) => Ok(Choice {
            driver: Driver::Copy,
            warning: Some(format!(
                "WARNING: {why}: every container gets a full copy of its image (storage driver copy); a root on ext4, \
                 xfs, btrfs or tmpfs has none of that (--root)"
            )),
        }),
    }
}

/// Why an overlay can't be mounted in `scratch`, a directory of the root that is empty and goes away afterwards; `None`
/// if it can, or if something else than kernel and filesystem is in the way.
pub(crate) fn overlay_refused(scratch: &Path) -> Result<Option<String>> {
    let make = |name: &str| {
        let path = scratch.join(name);
        std::fs::DirBuilder::new()
            .create(&path)
            .with_context(|| format!("make {}", path.display()))
            .map(|()| path)
    };
    let stack = Overlay {
        lowers: vec![make("lower")?],
        upper: make("upper")?,
        work: make("work")?,
        volatile: false,
        read_only: false,
    };
    Ok(overlay::refused(&stack))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_keeps_what_it_has() {
        use Driver::{Copy, Overlay};
        let refused = "this kernel has no overlayfs";
        for (asked, recorded, works, expected) in [
            (None, None, true, Ok(Overlay)),
            (None, None, false, Ok(Copy)),
            (Some(Overlay), None, true, Ok(Overlay)),
            (Some(Copy), None, true, Ok(Copy)),
            (Some(Copy), None, false, Ok(Copy)),
            (Some(Overlay), None, false, Err(refused)),
            (None, Some(Overlay), false, Ok(Overlay)),
            (None, Some(Copy), true, Ok(Copy)),
            (Some(Copy), Some(Copy), true, Ok(Copy)),
            (Some(Overlay), Some(Copy), true, Err("made with copy")),
            (Some(Copy), Some(Overlay), true, Err("made with overlay")),
        ] {
            let said = format!("{asked:?} {recorded:?} {works}");
            let facts = Facts {
                asked,
                recorded,
                no_overlay: (!works).then(|| refused.to_owned()),
            };
            match (choose(&facts), expected) {
                (Ok(choice), Ok(driver)) => {
                    assert_eq!(choice.driver, driver, "{said}");
                    let falls_back = asked.is_none() && recorded.is_none() && !works;
                    assert_eq!(choice.warning.is_some(), falls_back, "{said}");
                }
                (Err(e), Err(text)) => {
                    assert!(e.to_string().contains(text), "{said}: {e}");
                    assert!(e.hint().is_some(), "{said}");
                }
                (other, _) => panic!("{said}: {other:?}"),
            }
        }
    }
}
