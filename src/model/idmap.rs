//! Which users and groups of a container stand for which of the host (user_namespaces(7)).

use crate::error::{Error, Result};
use crate::model::digest::Digest;
use serde::{Deserialize, Serialize};

/// What stands for everybody that is not mapped: the kernel's overflow id.
pub(crate) const NOBODY: u32 = 65534;

/// `count` ids from `inside` on, in the container, are those from `outside` on, on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Range {
    pub(crate) inside: u32,
    pub(crate) outside: u32,
    pub(crate) count: u32,
}

/// The users and the groups. Ranges of one list overlap neither inside nor outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IdMap {
    pub(crate) users: Vec<Range>,
    pub(crate) groups: Vec<Range>,
}

impl IdMap {
    /// The host's id of a user of the container; `None` if it has none.
    pub(crate) fn outside_user(&self, id: u32) -> Option<u32> {
        outside(&self.users, id)
    }

    pub(crate) fn outside_group(&self, id: u32) -> Option<u32> {
        outside(&self.groups, id)
    }

    /// The container's id of a user of the host.
    pub(crate) fn inside_user(&self, id: u32) -> u32 {
        inside(&self.users, id)
    }

    pub(crate) fn inside_group(&self, id: u32) -> u32 {
        inside(&self.groups, id)
    }

    /// The host's ids of an owner. Nobody is who has no place there; and if nobody has none either, root is.
    pub(crate) fn outside_owner(&self, (user, group): (u32, u32)) -> (u32, u32) {
        let first = |ranges: &[Range], id| {
            [id, NOBODY, 0]
                .into_iter()
                .find_map(|id| outside(ranges, id))
                .unwrap_or(id)
        };
        (first(&self.users, user), first(&self.groups, group))
    }

    /// The host's ids of the container's root.
    pub(crate) fn root(&self) -> Result<(u32, u32)> {
        let root = self.outside_user(0).zip(self.outside_group(0));
        root.ok_or_else(|| Error::usage("the user namespace has no root: a map must have the id 0"))
    }

    /// The same ids, each standing for itself.
    pub(crate) fn within(&self) -> IdMap {
        let itself = |r: &Range| Range {
            outside: r.inside,
            ..*r
        };
        IdMap {
            users: self.users.iter().map(itself).collect(),
            groups: self.groups.iter().map(itself).collect(),
        }
    }

    /// A name that no other map has.
    pub(crate) fn key(&self) -> String {
        let text = [IdMap::text(&self.users), IdMap::text(&self.groups)].join("groups\n");
        let mut key = Digest::of(text.as_bytes()).hex();
        key.truncate(32);
        key
    }

    /// The text of /proc/PID/uid_map and gid_map.
    pub(crate) fn text(ranges: &[Range]) -> String {
        let line = |r: &Range| format!("{} {} {}\n", r.inside, r.outside, r.count);
        ranges.iter().map(line).collect()
    }
}

/// Where a range of `count` ids fits into `pool` beside those that are `taken`: ranges as start and count. The first
/// place there is.
pub(crate) fn free(pool: &[(u32, u32)], taken: &[(u32, u32)], count: u32) -> Option<u32> {
    let wide = |n: u32| u64::from(n);
    for (start, length) in pool {
        let end = wide(*start) + wide(*length);
        let mut at = wide(*start);
        while at + wide(count) <= end {
            let in_the_way = taken
                .iter()
                .filter(|(t, n)| wide(*t) < at + wide(count) && at < wide(*t) + wide(*n))
                .map(|(t, n)| wide(*t) + wide(*n))
                .max();
            match in_the_way {
                None => return u32::try_from(at).ok(),
                Some(behind) => at = behind,
            }
        }
    }
    None
}

fn outside(ranges: &[Range], id: u32) -> Option<u32> {
    let range = ranges.iter().find(|r| id >= r.inside && id - r.inside < r.count)?;
    range.outside.checked_add(id - range.inside)
}

fn inside(ranges: &[Range], id: u32) -> u32 {
    let range = ranges.iter().find(|r| id >= r.outside && id - r.outside < r.count);
    range.map_or(NOBODY, |r| r.inside + (id - r.outside))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_go_where_nobody_is() {
        let pool = [(1000, 30), (5000, 20)];
        for (taken, count, expected) in [
            (&[][..], 10, Some(1000)),
            (&[(1000, 10)], 10, Some(1010)),
            (&[(1000, 10), (1020, 10)], 10, Some(1010)),
            (&[(1000, 10), (1020, 10)], 11, Some(5000)),
            (&[(995, 10)], 10, Some(1005)),
            (&[(1000, 30), (5000, 20)], 1, None),
            (&[], 31, None),
            (&[(0, u32::MAX)], 1, None),
        ] {
            assert_eq!(free(&pool, taken, count), expected, "{taken:?} {count}");
        }
    }

    #[test]
    fn both_ways() {
        let range = |inside, outside, count| Range { inside, outside, count };
        let map = IdMap {
            users: vec![range(0, 100_000, 1000), range(1000, 1000, 1), range(1001, 101_001, 10)],
            groups: vec![range(0, 200_000, 65536)],
        };
        for (inside, outside) in [(0, 100_000), (999, 100_999), (1000, 1000), (1010, 101_010)] {
            assert_eq!(map.outside_user(inside), Some(outside));
            assert_eq!(map.inside_user(outside), inside);
        }
        assert_eq!(map.outside_user(1011), None);
        assert_eq!(map.outside_owner((1005, 7)), (101_005, 200_007));
        // There is no nobody among its users.
        assert_eq!(map.outside_owner((1011, 65536)), (100_000, 265_534));
        assert_eq!(map.inside_user(0), NOBODY);
        assert_eq!(map.inside_group(200_005), 5);
        assert_eq!(IdMap::text(&map.users).lines().nth(1), Some("1000 1000 1"));
    }
}
