//! Attributes that name users and groups, in the numbers of another user namespace: access lists (acl(5)) and file
//! capabilities (capabilities(7)). The kernel does the same where it maps a mount.

use crate::layer::xattr::Xattr;
use crate::model::idmap::IdMap;
use std::borrow::Cow;

/// linux/capability.h: `struct vfs_ns_cap_data` is the older `struct vfs_cap_data` with the number of the user
/// namespace's root behind it.
const CAPABILITY: &[u8] = b"security.capability";
const REVISION: u32 = 0xff00_0000;
const REVISION_2: u32 = 0x0200_0000;
const REVISION_3: u32 = 0x0300_0000;
const LENGTH_2: usize = 20;
const LENGTH_3: usize = 24;

/// linux/posix_acl_xattr.h: a version, then entries of a tag, permissions and an id.
const ACCESS_LISTS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];
const USER: u16 = 0x02;
const GROUP: u16 = 0x08;

/// From the host's numbers to those of the container.
pub(super) fn inside<'a>(xattrs: &'a [Xattr], ids: &IdMap) -> Cow<'a, [Xattr]> {
    each(xattrs, |user, group| (ids.inside_user(user), ids.inside_group(group)))
}

/// From the container's numbers to those of the host.
pub(super) fn outside<'a>(xattrs: &'a [Xattr], ids: &IdMap) -> Cow<'a, [Xattr]> {
    each(xattrs, |user, group| ids.outside_owner((user, group)))
}

fn each(xattrs: &[Xattr], owner: impl Fn(u32, u32) -> (u32, u32)) -> Cow<'_, [Xattr]> {
    let names_owners = |x: &Xattr| x.name.to_bytes() == CAPABILITY || ACCESS_LISTS.contains(&x.name.to_bytes());
    if !xattrs.iter().any(names_owners) {
        return Cow::Borrowed(xattrs);
    }
    let mut all = xattrs.to_vec();
    for xattr in &mut all {
        match xattr.name.to_bytes() {
            CAPABILITY => capability(&mut xattr.value, |root| owner(root, 0).0),
            name if ACCESS_LISTS.contains(&name) => access_list(&mut xattr.value, &owner),
            _ => {}
        }
    }
    Cow::Owned(all)
}

/// The host's own root needs no number: revision 2 means it.
fn capability(value: &mut Vec<u8>, root_of: impl Fn(u32) -> u32) {
    let Some(magic) = number(value, 0) else { return };
    let root = match (magic & REVISION, value.len()) {
        (REVISION_2, LENGTH_2) => 0,
        (REVISION_3, LENGTH_3) => number(value, LENGTH_2).unwrap_or_default(),
        // The kernel takes no other.
        _ => return,
    };
    let root = root_of(root);
    value.truncate(LENGTH_2);
    let revision = match root {
        0 => REVISION_2,
        _ => {
            value.extend_from_slice(&root.to_le_bytes());
            REVISION_3
        }
    };
    value[..4].copy_from_slice(&(magic & !REVISION | revision).to_le_bytes());
}

fn access_list(value: &mut [u8], owner: impl Fn(u32, u32) -> (u32, u32)) {
    let entries = value.get_mut(4..).unwrap_or_default();
    for entry in entries.as_chunks_mut::<8>().0 {
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let id = match u16::from_le_bytes([entry[0], entry[1]]) {
            USER => owner(id, 0).0,
            GROUP => owner(0, id).1,
            _ => id,
        };
        entry[4..].copy_from_slice(&id.to_le_bytes());
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::idmap::Range;

    fn ids() -> IdMap {
        let range = |outside| Range {
            inside: 0,
            outside,
            count: 1000,
        };
        IdMap {
            users: vec![range(100_000)],
            groups: vec![range(200_000)],
        }
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    #[test]
    fn there_and_back() {
        let acl = |user, group| {
            let entry = |tag: u32, id| [tag | 7 << 16, id];
            let all = [
                entry(1, u32::MAX),
                entry(2, user),
                entry(4, u32::MAX),
                entry(8, group),
                entry(0x20, u32::MAX),
            ];
            words(&[&[2][..], &all.concat()].concat())
        };
        for (name, within, host) in [
            (
                "security.capability",
                words(&[0x0200_0001, 1, 2, 3, 4]),
                words(&[0x0300_0001, 1, 2, 3, 4, 100_000]),
            ),
            (
                "security.capability",
                words(&[0x0300_0000, 1, 2, 3, 4, 5]),
                words(&[0x0300_0000, 1, 2, 3, 4, 100_005]),
            ),
            (
                "security.capability",
                words(&[0x0100_0000, 1, 2]),
                words(&[0x0100_0000, 1, 2]),
            ),
            ("security.capability", vec![1, 2], vec![1, 2]),
            ("system.posix_acl_access", acl(7, 8), acl(100_007, 200_008)),
            ("system.posix_acl_default", acl(0, 0), acl(100_000, 200_000)),
            ("system.posix_acl_access", vec![2, 0, 0], vec![2, 0, 0]),
            ("user.name", words(&[2, 2, 7]), words(&[2, 2, 7])),
        ] {
            let xattr = |value: &[u8]| [Xattr::new(name.as_bytes(), value.to_vec()).unwrap()];
            assert_eq!(outside(&xattr(&within), &ids())[..], xattr(&host), "{name} {within:?}");
            assert_eq!(inside(&xattr(&host), &ids())[..], xattr(&within), "{name} {host:?}");
        }
    }
}
