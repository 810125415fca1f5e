//! What `run` and `create` do about an image that is not here, or may be outdated.

use crate::cli::argument::{Values, flag, value};
use crate::cli::{access, blame};
use crate::container::config::RunArgs;
use crate::container::create;
use crate::error::{Error, Kind, Result};
use crate::image::progress::Event;
use crate::image::pull::{PullPolicy, Wanted, ensure};
use crate::model::container::ContainerConfig;
use crate::model::platform::Platform;
use crate::output::progress::{self, To};
use crate::store::Store;
use clap::{ArgMatches, Command};

/// An image that goes away between pull and use is fetched again, but not for ever.
const ATTEMPTS: usize = 3;

pub(crate) fn define(command: Command) -> Command {
    let command = command
        .arg(value(
            "pull",
            "POLICY",
            "When to pull the image: missing, always, newer or never [default: missing]",
        ))
        .arg(flag("quiet", "Say nothing of a pull").short('q'));
    access::define(command)
}

/// What was asked about the image.
pub(crate) struct Fetch {
    wanted: Wanted,
    quiet: bool,
}

pub(crate) fn of(m: &ArgMatches) -> Result<Fetch> {
    asked(m).map_err(|e| blame::flag(m, e))
}

fn asked(m: &ArgMatches) -> Result<Fetch> {
    let platform = m.text("platform").filter(|p| !p.is_empty());
    Ok(Fetch {
        wanted: Wanted {
            policy: m.text("pull").unwrap_or_default().parse::<PullPolicy>()?,
            platform: platform.map(Platform::parse).transpose()?,
            access: access::of(m)?,
        },
        quiet: m.on("quiet"),
    })
}

impl Fetch {
    /// Creates the container, and fetches its image first where that is needed. Where it is here already, this is
    /// nothing more than creating.
    pub(crate) fn create(&self, store: &Store, args: &RunArgs) -> Result<ContainerConfig> {
        if matches!(self.wanted.policy, PullPolicy::Always | PullPolicy::Newer) {
            self.ensure(store, args)?;
        }
        let mut attempt = 1;
        let mut pulled = matches!(self.wanted.policy, PullPolicy::Always | PullPolicy::Newer);
        loop {
            match create::create(store, args) {
                Err(e) if attempt < ATTEMPTS && self.is_for_an_image(store, args, &e) => {
                    self.ensure(store, args)?;
                    attempt += 1;
                    pulled = true;
                }
                Ok(config) => {
                    // A pull has said it already.
                    if !pulled && self.wanted.platform.is_none() {
                        warn_of_platform(store, &config);
                    }
                    return Ok(config);
                }
                Err(e) => return Err(e),
            }
        }
    }

    fn ensure(&self, store: &Store, args: &RunArgs) -> Result<()> {
        let progress = progress::for_command(self.quiet, To::Stderr);
        for image in self.images(args) {
            ensure(store, image, &self.wanted, &*progress)?;
        }
        Ok(())
    }

    /// The container's own, and those that are mounted in it.
    fn images<'a>(&self, args: &'a RunArgs) -> impl Iterator<Item = &'a str> {
        let own = args.root.is_default().then_some(args.image.as_str());
        own.into_iter().chain(args.images.iter().map(|i| i.reference.as_str()))
    }

    /// Whether what is missing is an image, and may be fetched.
    fn is_for_an_image(&self, store: &Store, args: &RunArgs, e: &Error) -> bool {
        e.kind() == Kind::NotFound
            && self.wanted.policy != PullPolicy::Never
            && self.images(args).any(|image| {
                crate::image::resolve::resolve_for(store, image, self.wanted.platform.as_ref())
                    .is_err_and(|e| e.kind() == Kind::NotFound)
            })
    }
}

/// As docker does of an image that is here and not for this machine.
fn warn_of_platform(store: &Store, config: &ContainerConfig) {
    let image = store.image(&config.image.id).ok();
    if let Some(warning) = image.and_then(|image| Platform::of(&image.config).warning_here()) {
        progress::lines(To::Stderr).event(Event::Notice(&warning));
    }
}
