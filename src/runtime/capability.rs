//! Capability sets: what a container may have, and how its first process comes to have exactly that.
//!
//! [`from_config`] decides (docker's rules); the child then, in this order:
//!
//! 1. [`Capabilities::limit_bounding`], while it still has CAP_SETPCAP;
//! 2. [`keep_over_user_change`], as root too; then groups, gid and uid;
//! 3. [`Capabilities::before_exec`] and [`Capabilities::assume`];
//! 4. `sys::seccomp::load`, then `execve`.
//!
//! After the `execve` root has what the bounding set holds, and anyone else has nothing that the file does not give.
//! The inheritable set stays empty: filled, it gave file capabilities to users who should have none (CVE-2022-24769,
//! CVE-2022-27649 to 27651, CVE-2022-29162); so does the ambient set (CVE-2016-8867).

use crate::error::{Error, Result};
use crate::model::security::Security;
use caps::Capability;
use rustix::io;
use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets};
use std::str::FromStr;

/// A set of capabilities, one bit each, as the kernel numbers them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Capabilities(u64);

/// What a container has if nothing else is asked for: docker's fourteen.
const DEFAULT: Capabilities = Capabilities::of(&[
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FSETID,
    Capability::CAP_FOWNER,
    Capability::CAP_MKNOD,
    Capability::CAP_NET_RAW,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
    Capability::CAP_SETFCAP,
    Capability::CAP_SETPCAP,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_SYS_CHROOT,
    Capability::CAP_KILL,
    Capability::CAP_AUDIT_WRITE,
]);

/// The container's set, of what this engine has to give: what is permitted to it, and still in its bounding set.
pub(crate) fn from_config(security: &Security) -> Result<Capabilities> {
    let permitted = Capabilities(rustix::thread::capabilities(None)?.permitted.bits());
    let bounded = |bit: &u64| rustix::thread::capability_is_in_bounding_set(CapabilitySet::from_bits_retain(*bit));
    resolve(security, |wanted| {
        Capabilities(
            bits(wanted.0 & permitted.0)
                .filter(|bit| bounded(bit) == Ok(true))
                .sum(),
        )
    })
}

/// The single bits of `set`, lowest first.
fn bits(set: u64) -> impl Iterator<Item = u64> {
    (0..u64::BITS).map(|n| 1 << n).filter(move |bit| set & bit != 0)
}

/// Docker's rules: privileged is everything; `ALL` to add beats everything but single drops; `ALL` to drop leaves what
/// is added; else the defaults, less the drops, plus the adds. What the engine lacks is left out in silence where it
/// was not asked for by its name, and is an error where it was.
///
/// `has` gives what the engine has of a set; it asks the kernel for each, so it is asked for no more than is needed.
fn resolve(security: &Security, has: impl Fn(Capabilities) -> Capabilities) -> Result<Capabilities> {
    let add = Named::parse(&security.cap_add, "--cap-add")?;
    let drop = Named::parse(&security.cap_drop, "--cap-drop")?;
    if security.privileged {
        return Ok(has(Capabilities::EVERY));
    }
    let lacking = add.set.without(has(add.set));
    if let Some(name) = lacking.names().first() {
        return Err(Error::other(format!(
            "--cap-add: the engine itself does not have {name}"
        )));
    }
    match (add.all, drop.all) {
        (true, true) => Err(Error::usage("--cap-add=ALL and --cap-drop=ALL contradict each other")),
        (true, false) => Ok(has(Capabilities::EVERY.without(drop.set))),
        (false, true) => Ok(add.set),
        (false, false) => Ok(has(DEFAULT.without(drop.set)).and(add.set)),
    }
}

/// The names of one flag.
#[derive(Default)]
struct Named {
    all: bool,
    set: Capabilities,
}

impl Named {
    fn parse(names: &[String], flag: &str) -> Result<Named> {
        let mut named = Named::default();
        for name in names {
            if name.eq_ignore_ascii_case("ALL") {
                named.all = true;
            } else {
                let one = Capabilities::named(name)
                    .ok_or_else(|| Error::usage(format!("{flag}: unknown capability: \"{name}\"")))?;
                named.set = named.set.and(one);
            }
        }
        Ok(named)
    }
}

impl Capabilities {
    /// Those too that this engine has no name for.
    const EVERY: Capabilities = Capabilities(!0);
    pub(crate) const MKNOD: Capabilities = Capabilities::of(&[Capability::CAP_MKNOD]);
    pub(crate) const SYS_ADMIN: Capabilities = Capabilities::of(&[Capability::CAP_SYS_ADMIN]);

    pub(crate) const fn of(list: &[Capability]) -> Capabilities {
        let (mut bits, mut i) = (0, 0);
        while i < list.len() {
            bits |= 1 << list[i] as u8;
            i += 1;
        }
        Capabilities(bits)
    }

    /// One capability by its name, with or without `CAP_`, in any case.
    pub(crate) fn named(name: &str) -> Option<Capabilities> {
        Capability::from_str(&caps::to_canonical(name))
            .ok()
            .map(|c| Capabilities::of(&[c]))
    }

    /// The names of those this engine knows, `CAP_` first, in the kernel's order.
    pub(crate) fn names(self) -> Vec<String> {
        let mut known: Vec<_> = caps::all()
            .into_iter()
            .filter(|c| self.contains(Capabilities::of(&[*c])))
            .collect();
        known.sort_unstable_by_key(Capability::index);
        known.iter().map(ToString::to_string).collect()
    }

    pub(crate) const fn contains(self, other: Capabilities) -> bool {
        other.0 & !self.0 == 0
    }

    pub(crate) const fn and(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 | other.0)
    }

    pub(crate) const fn without(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 & !other.0)
    }

    /// Takes every other capability out of the caller's bounding set for ever, those this engine has no name for too:
    /// the kernel says EINVAL behind its last one.
    pub(crate) fn limit_bounding(self) -> io::Result<()> {
        for bit in bits(!self.0) {
            match rustix::thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(bit)) {
                Err(io::Errno::INVAL) => break,
                result => result?,
            }
        }
        Ok(())
    }

    /// What the caller needs right before `execve`, out of the container's set `self`: as root the set itself, else
    /// nothing, so that the program is looked up with the user's own rights; and CAP_SYS_ADMIN as long as the seccomp
    /// filter can't be loaded without. The `execve` takes that away again, as it isn't in the bounding set.
    pub(crate) const fn before_exec(self, root: bool, no_new_privileges: bool) -> Capabilities {
        let own = if root { self } else { Capabilities(0) };
        if no_new_privileges {
            own
        } else {
            own.and(Capabilities::SYS_ADMIN)
        }
    }

    /// Makes this the caller's effective and permitted set. Its inheritable set becomes empty, and with it, by the
    /// kernel's own rule, the ambient set.
    pub(crate) fn assume(self) -> io::Result<()> {
        let set = CapabilitySet::from_bits_retain(self.0);
        let sets = CapabilitySets {
            effective: set,
            permitted: set,
            inheritable: CapabilitySet::empty(),
        };
        rustix::thread::set_capabilities(None, sets)
    }
}

/// Lets the permitted set outlive the change from root to another user, until the next `execve`; needs CAP_SETPCAP.
/// All other secure bits are cleared: inherited from the engine's caller, they could take from the container's root the
/// capabilities of root, or leave another user with them.
pub(crate) fn keep_over_user_change() -> io::Result<()> {
    rustix::thread::set_capabilities_secure_bits(CapabilitiesSecureBits::KEEP_CAPS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// An engine without CAP_SYS_RESOURCE, with one capability newer than this program.
    const ENGINE: Capabilities = Capabilities((1 << 42) - 1).without(Capabilities(1 << 24));

    fn security(privileged: bool, add: &[&str], drop: &[&str]) -> Security {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        Security {
            privileged,
            cap_add: owned(add),
            cap_drop: owned(drop),
            ..Security::default()
        }
    }

    fn within(engine: Capabilities) -> impl Fn(Capabilities) -> Capabilities {
        move |wanted| Capabilities(wanted.0 & engine.0)
    }

    fn set(names: &[&str]) -> Capabilities {
        names
            .iter()
            .map(|n| Capabilities::named(n).unwrap())
            .fold(Capabilities(0), Capabilities::and)
    }

    #[test]
    fn names_are_known_in_every_spelling() {
        for name in ["CAP_SYS_ADMIN", "SYS_ADMIN", "sys_admin", "cap_Sys_Admin"] {
            assert_eq!(Capabilities::named(name), Some(Capabilities::SYS_ADMIN), "{name}");
        }
        for name in ["", "CAP_", "CAP_ALL", "SYS ADMIN", "CAP_CAP_SYS_ADMIN", "21"] {
            assert_eq!(Capabilities::named(name), None, "{name}");
        }
        let all = Capabilities((1 << 41) - 1);
        assert_eq!(all.names().len(), 41);
        assert_eq!(
            all.names()
                .iter()
                .map(|n| Capabilities::named(n).unwrap().0)
                .sum::<u64>(),
            all.0
        );
        assert_eq!(DEFAULT.0, 0xa804_25fb, "docker's mask");
    }

    #[test]
    fn adds_and_drops_are_dockers() {
        let cases: [(&str, Security, Capabilities); 9] = [
            ("nothing", security(false, &[], &[]), DEFAULT),
            ("privileged", security(true, &[], &[]), ENGINE),
            ("privileged, drops", security(true, &[], &["ALL"]), ENGINE),
            (
                "add",
                security(false, &["net_admin"], &[]),
                DEFAULT.and(set(&["NET_ADMIN"])),
            ),
            (
                "drop",
                security(false, &[], &["CAP_MKNOD"]),
                DEFAULT.without(set(&["MKNOD"])),
            ),
            ("drop all, add", security(false, &["CHOWN"], &["all"]), set(&["CHOWN"])),
            (
                "add all, drop",
                security(false, &["ALL"], &["SYS_ADMIN"]),
                ENGINE.without(Capabilities::SYS_ADMIN),
            ),
            (
                "add wins over its own drop",
                security(false, &["MKNOD"], &["MKNOD"]),
                DEFAULT,
            ),
            (
                "drop of what the engine lacks",
                security(false, &[], &["SYS_RESOURCE"]),
                DEFAULT,
            ),
        ];
        for (what, security, wanted) in cases {
            assert_eq!(resolve(&security, within(ENGINE)).unwrap(), wanted, "{what}");
        }
        let poor = ENGINE.without(set(&["MKNOD"]));
        assert_eq!(
            resolve(&security(false, &[], &[]), within(poor)).unwrap(),
            DEFAULT.without(set(&["MKNOD"]))
        );
    }

    #[test]
    fn what_cannot_be_given_is_named() {
        let cases = [
            (
                security(false, &["SYS_RESOURCE"], &[]),
                "--cap-add: the engine itself does not have CAP_SYS_RESOURCE",
            ),
            (security(false, &["FLY"], &[]), "--cap-add: unknown capability: \"FLY\""),
            (security(true, &[], &["FLY"]), "--cap-drop: unknown capability: \"FLY\""),
            (
                security(false, &["ALL"], &["ALL"]),
                "--cap-add=ALL and --cap-drop=ALL contradict each other",
            ),
        ];
        for (security, message) in cases {
            assert_eq!(resolve(&security, within(ENGINE)).unwrap_err().to_string(), message);
        }
    }

    /// The five sets of a program executed by a thread that went through the steps of the module's comment, from a
    /// caller with odd secure bits. The change of user is the thread's own, by the raw system call.
    fn executed(security: Security, uid: u32) -> Vec<String> {
        let child = move || {
            let set = from_config(&security).unwrap();
            let odd = CapabilitiesSecureBits::NO_ROOT | CapabilitiesSecureBits::NO_SETUID_FIXUP;
            rustix::thread::set_capabilities_secure_bits(odd).unwrap();
            set.limit_bounding().unwrap();
            keep_over_user_change().unwrap();
            rustix::thread::set_thread_uid(rustix::thread::Uid::from_raw(uid)).unwrap();
            set.before_exec(uid == 0, security.no_new_privileges).assume().unwrap();
            let output = Command::new("grep")
                .args(["^Cap", "/proc/self/status"])
                .output()
                .unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let text = std::thread::spawn(child).join().unwrap();
        text.lines().map(|line| line.replace(":\t", " ")).collect()
    }

    #[test]
    fn an_executed_program_has_its_set_and_nothing_more() {
        let every = from_config(&security(true, &[], &[])).unwrap();
        for no_new_privileges in [false, true] {
            for (privileged, own) in [(false, DEFAULT), (true, every)] {
                let sets = |effective: Capabilities| {
                    let none = Capabilities(0);
                    ["Inh", "Prm", "Eff", "Bnd", "Amb"]
                        .iter()
                        .zip([none, effective, effective, own, none])
                        .map(|(name, set)| format!("Cap{name} {:016x}", set.0))
                        .collect::<Vec<_>>()
                };
                let security = Security {
                    no_new_privileges,
                    ..security(privileged, &[], &[])
                };
                assert_eq!(executed(security.clone(), 0), sets(own));
                assert_eq!(executed(security, 1000), sets(Capabilities(0)));
            }
        }
    }
}
