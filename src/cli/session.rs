//! What every command works with: the console, and the store at the place that was asked for.

use crate::cli::argument::Values as _;
use crate::cli::console::{self, Console};
use crate::cli::names;
use crate::cli::settings::{Origin, Settings};
use crate::container::config::{NetworkArg, RunArgs};
use crate::container::driver;
use crate::error::{Error, Result};
use crate::model::driver::Driver;
use crate::model::id::ContainerId;
use crate::store::Store;
use clap::ArgMatches;
use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::PathBuf;

const ROOT: &str = "/var/lib/barge";
const RUN_ROOT: &str = "/run/barge";
/// Containers that one command works on at a time.
const AT_ONCE: usize = 32;

pub(crate) struct Session {
    pub(crate) console: Console,
    pub(crate) debug: bool,
    root: PathBuf,
    run_root: PathBuf,
    /// What the store's containers are to be made with, if anybody said so.
    driver: Option<Driver>,
    /// `-b`: what stands for the default network.
    bridge: Option<String>,
    /// `--dns`, `--dns-search` and `--dns-option`, before the command.
    dns: Vec<IpAddr>,
    dns_search: Vec<String>,
    dns_options: Vec<String>,
    /// Of every command.
    pub(crate) settings: Settings,
    /// Where they and the options of the top level are from.
    pub(crate) origins: Vec<Origin>,
}

impl Session {
    /// From the options of the top level, the settings' among them, which win over the environment.
    pub(crate) fn of(m: &ArgMatches, settings: Settings, origins: Vec<Origin>) -> Result<Self> {
        Ok(Session {
            console: Console::new(),
            debug: m.on("debug"),
            root: directory(m.raw("root"), "BARGE_ROOT", ROOT)?,
            run_root: directory(m.raw("run-root"), "BARGE_RUN_ROOT", RUN_ROOT)?,
            driver: m.text("storage-driver").map(Driver::parse).transpose()?,
            bridge: bridge(m.text("bridge"), std::env::var("BARGE_BRIDGE").ok())?,
            dns: dns(m.texts("dns"), std::env::var("BARGE_DNS").ok())?,
            dns_search: m.texts("dns-search").map(names::domain).collect::<Result<_>>()?,
            dns_options: m.texts("dns-option").map(names::option).collect::<Result<_>>()?,
            settings,
            origins,
        })
    }

    /// Of a command that works without any settings.
    pub(crate) fn plain() -> Self {
        Session {
            console: Console::new(),
            debug: false,
            root: PathBuf::from(ROOT),
            run_root: PathBuf::from(RUN_ROOT),
            driver: None,
            bridge: None,
            dns: Vec::new(),
            dns_search: Vec::new(),
            dns_options: Vec::new(),
            settings: Settings::default(),
            origins: Vec::new(),
        }
    }

    /// What a new container does not ask for is as the administrator has it: by the options of the top level, else the
    /// environment, else the settings (F172).
    pub(crate) fn complete(&self, args: &mut RunArgs) {
        if args.network == NetworkArg::Default {
            args.network = match self.bridge.as_deref() {
                None => NetworkArg::Default,
                Some("none") => NetworkArg::None,
                Some(bridge) => NetworkArg::Bridge(bridge.to_owned()),
            };
        }
        // The files of another container's, or of the host's, are as they are.
        if matches!(args.network, NetworkArg::Container(_) | NetworkArg::Host) {
            return;
        }
        let names = &mut args.names;
        if names.dns.is_empty() {
            names.dns.clone_from(&self.dns);
        }
        if names.dns_search.is_empty() {
            names.dns_search.clone_from(&self.dns_search);
        }
        if names.dns_options.is_empty() {
            names.dns_options.clone_from(&self.dns_options);
        }
    }

    /// Whether the root is somebody else's directory: there is something in it, and never was a store, whose lock files
    /// outlive all else.
    pub(crate) fn root_is_foreign(&self) -> bool {
        let is_filled = std::fs::read_dir(&self.root).is_ok_and(|mut entries| entries.next().is_some());
        is_filled && !self.has_store() && !self.root.join("tags.lock").exists()
    }

    /// Whether there is a store already.
    pub(crate) fn has_store(&self) -> bool {
        self.root.join("format").exists()
    }

    /// Opens the store; only root can.
    pub(crate) fn store(&self) -> Result<Store> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::other("only root can do this").with_hint("try it with sudo"));
        }
        let store = Store::open(self.root.clone(), self.run_root.clone())?;
        let store = store.with_notice(|text| console::say(&format!("barge: {text}\n")));
        if self.driver.is_some() {
            driver::settle(&store, self.driver)?;
        }
        Ok(store)
    }

    /// Does something to each container named, whatever becomes of the others. What worked is said by its name as
    /// typed, what did not, on stderr. The exit code.
    pub(crate) fn each<'a>(
        &mut self,
        names: impl Iterator<Item = &'a str>,
        mut act: impl FnMut(&Store, &ContainerId) -> Result<Option<String>>,
    ) -> Result<u8> {
        let store = self.store()?;
        self.each_name(names, |name| {
            let id = store.resolve_container(name)?;
            Ok(act(&store, &id)?.unwrap_or_else(|| name.to_owned()))
        })
    }

    /// The same for what takes a while and needs no order: all are worked on at once, so that one slow container holds
    /// up no other. Their names are said in the order given.
    pub(crate) fn each_at_once(
        &mut self,
        names: &[&str],
        act: &(dyn Fn(&Store, &ContainerId) -> Result<()> + Sync),
    ) -> Result<u8> {
        let store = self.store()?;
        let one = |name: &str| store.resolve_container(name).and_then(|id| act(&store, &id));
        let mut code = 0;
        for group in names.chunks(AT_ONCE) {
            if let [name] = group {
                code |= self.each_name([*name].into_iter(), |name| one(name).map(|()| name.to_owned()))?;
                continue;
            }
            let done = std::thread::scope(|scope| {
                let threads: Vec<_> = group.iter().map(|name| scope.spawn(|| one(name))).collect();
                let broken = || Err(Error::other("a thread ended early"));
                threads
                    .into_iter()
                    .map(|t| t.join().unwrap_or_else(|_| broken()))
                    .collect::<Vec<_>>()
            });
            let mut done = done.into_iter();
            let mut next = || done.next().unwrap_or(Ok(()));
            code |= self.each_name(group.iter().copied(), |name| next().map(|()| name.to_owned()))?;
        }
        Ok(code)
    }

    /// The same for things that are not containers; `act` gives the line to say.
    pub(crate) fn each_name<'a>(
        &mut self,
        names: impl Iterator<Item = &'a str>,
        mut act: impl FnMut(&str) -> Result<String>,
    ) -> Result<u8> {
        let mut code = 0;
        for name in names {
            match act(name) {
                Ok(said) => {
                    self.console.line(&said)?;
                    self.console.flush()?;
                }
                Err(e) => {
                    self.console.error(&e);
                    code = 1;
                }
            }
        }
        Ok(code)
    }
}

fn dns<'a>(flags: impl Iterator<Item = &'a str>, environment: Option<String>) -> Result<Vec<IpAddr>> {
    let given: Vec<IpAddr> = flags.map(names::server).collect::<Result<_>>()?;
    if !given.is_empty() {
        return Ok(given);
    }
    let environment = environment.unwrap_or_default();
    let words = environment.split([',', ' ']).filter(|w| !w.is_empty());
    words.map(names::server).collect()
}

fn bridge(flag: Option<&str>, environment: Option<String>) -> Result<Option<String>> {
    let given = flag.map(str::to_owned).or(environment).filter(|b| !b.is_empty());
    match given {
        Some(bridge) if !crate::network::link::is_valid_name(&bridge) => {
            Err(Error::usage(format!("invalid bridge name '{}'", bridge.escape_debug())))
        }
        other => Ok(other),
    }
}

/// An absolute path: the store records and names things by it.
fn directory(option: Option<&OsStr>, variable: &str, default: &str) -> Result<PathBuf> {
    let given = option
        .map(OsStr::to_owned)
        .or_else(|| std::env::var_os(variable).filter(|v| !v.is_empty()));
    let Some(given) = given else {
        return Ok(PathBuf::from(default));
    };
    if given.is_empty() {
        return Err(Error::usage(format!("the directory for {variable} is empty")));
    }
    Ok(std::path::absolute(given)?)
}
