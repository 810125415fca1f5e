//! Changes what a container may use, and when it is started again: for the next start, and at once if it runs.

use crate::container::connect;
use crate::container::status::status;
use crate::error::{Error, Result};
use crate::model::bytes::ByteString;
use crate::model::container::{ContainerConfig, RestartPolicy};
use crate::model::event::Event;
use crate::model::id::ContainerId;
use crate::model::port::Publish;
use crate::model::resources::Resources;
use crate::model::state::{LiveState, Status};
use crate::monitor::networks::Request;
use crate::network::publish;
use crate::runtime::cgroup;
use crate::store::Store;

/// What is to change; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Update {
    pub(crate) resources: Resources,
    pub(crate) restart: Option<RestartPolicy>,
    /// Published from now on.
    pub(crate) publish_add: Vec<Publish>,
    /// Published no more.
    pub(crate) publish_rm: Vec<Publish>,
    /// Variables for its next start, `NAME=value`, and names of those that go.
    pub(crate) env: Vec<ByteString>,
    pub(crate) unset_env: Vec<ByteString>,
}

/// Changes the record, and the limits in force. Limits that this machine does not have are warned of.
pub(crate) fn update(store: &Store, id: &ContainerId, wanted: &Update) -> Result<()> {
    let live = match status(store, id) {
        Status::Damaged(why) => return Err(Error::other(why)),
        Status::Running(live) => Some(live),
        Status::Created | Status::Exited(_) => None,
    };
    let mut merged = store.config(id)?.resources;
    merge(&mut merged, &wanted.resources);
    cgroup::check(&merged)?;
    // The kernel may refuse what is in use now, so it is asked before it is promised.
    if let Some(live) = &live
        && wanted.resources != Resources::default()
    {
        apply(store, live, &merged)?;
    }
    let ports = !(wanted.publish_add.is_empty() && wanted.publish_rm.is_empty());
    if ports && live.is_some() {
        let (add, remove) = (wanted.publish_add.clone(), wanted.publish_rm.clone());
        connect::ask(store, id, &Request::Ports { add, remove })?;
    }
    let change = |config: &mut ContainerConfig| {
        if let Some(restart) = wanted.restart {
            if config.auto_remove && restart != RestartPolicy::No {
                return Err(Error::conflict(
                    "Restart policy cannot be updated because AutoRemove is enabled for the container",
                ));
            }
            config.restart = restart;
        }
        merge(&mut config.resources, &wanted.resources);
        set_variables(&mut config.process.env, wanted);
        // Of a running container its monitor has recorded them.
        match ports && live.is_none() {
            true => publish::change(config, &wanted.publish_add, &wanted.publish_rm),
            false => Ok(()),
        }
    };
    let told = |config: &ContainerConfig| Event::container("update", config);
    store.change_config_telling(id, change, &told).map(drop)
}

fn apply(store: &Store, live: &LiveState, resources: &Resources) -> Result<()> {
    for warning in cgroup::update(&cgroup::Host::probe()?, &live.cgroups, resources)? {
        store.notify(&format!("WARNING: {warning}"));
    }
    Ok(())
}

/// A variable that is set again keeps its place.
fn set_variables(env: &mut Vec<ByteString>, wanted: &Update) {
    env.retain(|e| !wanted.unset_env.iter().any(|name| name.as_bytes() == e.split_env().0));
    for new in &wanted.env {
        match env.iter_mut().find(|e| e.split_env().0 == new.split_env().0) {
            Some(old) => old.clone_from(new),
            None => env.push(new.clone()),
        }
    }
}

/// What was asked for takes the place of what was.
fn merge(into: &mut Resources, wanted: &Resources) {
    fn set<T: Clone>(into: &mut Option<T>, wanted: &Option<T>) {
        if wanted.is_some() {
            into.clone_from(wanted);
        }
    }
    set(&mut into.memory, &wanted.memory);
    set(&mut into.memory_swap, &wanted.memory_swap);
    set(&mut into.memory_reservation, &wanted.memory_reservation);
    set(&mut into.memory_swappiness, &wanted.memory_swappiness);
    set(&mut into.cpu_shares, &wanted.cpu_shares);
    set(&mut into.cpuset_cpus, &wanted.cpuset_cpus);
    set(&mut into.cpuset_mems, &wanted.cpuset_mems);
    set(&mut into.pids, &wanted.pids);
    set(&mut into.blkio_weight, &wanted.blkio_weight);
    set(&mut into.cpu_rt_runtime, &wanted.cpu_rt_runtime);
    set(&mut into.cpu_rt_period, &wanted.cpu_rt_period);
    let (old, new) = (&mut into.blkio, &wanted.blkio);
    for (old, new) in [
        (&mut old.weight, &new.weight),
        (&mut old.read_bps, &new.read_bps),
        (&mut old.write_bps, &new.write_bps),
        (&mut old.read_iops, &new.read_iops),
        (&mut old.write_iops, &new.write_iops),
    ] {
        old.retain(|o| !new.iter().any(|n| n.path == o.path));
        old.extend(new.iter().cloned());
    }
    into.oom_kill_disable |= wanted.oom_kill_disable;
    // `--cpus` is another way to say quota and period; the later word wins.
    if wanted.cpu_quota.is_some() || wanted.cpu_period.is_some() {
        into.nano_cpus = wanted.nano_cpus;
    }
    set(&mut into.cpu_quota, &wanted.cpu_quota);
    set(&mut into.cpu_period, &wanted.cpu_period);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_keep_their_place() {
        let of = |list: &[&str]| list.iter().map(|e| (*e).into()).collect::<Vec<ByteString>>();
        let mut env = of(&["A=1", "B=2", "C=3"]);
        let wanted = Update {
            env: of(&["B=two", "D=4", "D=5"]),
            unset_env: of(&["A", "none"]),
            ..Update::default()
        };
        set_variables(&mut env, &wanted);
        assert_eq!(env, of(&["B=two", "C=3", "D=5"]));
    }

    #[test]
    fn what_is_not_named_stays() {
        let mut r = Resources {
            memory: Some(1),
            nano_cpus: Some(5),
            cpu_quota: Some(2),
            cpu_period: Some(3),
            ..Resources::default()
        };
        let before = r.clone();
        merge(&mut r, &Resources::default());
        assert_eq!(r, before);
        merge(
            &mut r,
            &Resources {
                cpu_quota: Some(7),
                pids: Some(-1),
                ..Resources::default()
            },
        );
        assert_eq!(
            (r.memory, r.pids, r.cpu_quota, r.cpu_period, r.nano_cpus),
            (Some(1), Some(-1), Some(7), Some(3), None)
        );
    }
}
