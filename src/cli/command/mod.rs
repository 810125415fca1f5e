//! The table of commands: one file for each, which says what it takes and does it. Nouns (`container ls`) are other
//! ways to the same commands.

mod attach;
mod completion;
mod container;
mod create;
mod exec;
mod help;
mod history;
mod image;
mod images;
mod import;
mod info;
mod inspect;
mod kill;
mod load;
mod logs;
mod man;
mod pause;
mod port;
mod ps;
mod pull;
mod rename;
mod restart;
mod rm;
mod rmi;
mod run;
mod save;
mod start;
mod stats;
mod stop;
mod system;
mod tag;
mod top;
mod unpause;
mod update;
mod version;
mod volume;
mod wait;

use crate::cli::tree::Spec;

/// In alphabetical order, as help shows them.
pub(crate) static COMMANDS: &[Spec] = &[
    attach::SPEC,
    completion::SPEC,
    container::SPEC,
    create::SPEC,
    exec::SPEC,
    help::SPEC,
    history::SPEC,
    image::SPEC,
    images::SPEC,
    import::SPEC,
    info::SPEC,
    inspect::SPEC,
    kill::SPEC,
    load::SPEC,
    logs::SPEC,
    man::SPEC,
    pause::SPEC,
    port::SPEC,
    ps::SPEC,
    pull::SPEC,
    rename::SPEC,
    restart::SPEC,
    rm::SPEC,
    rmi::SPEC,
    run::SPEC,
    save::SPEC,
    start::SPEC,
    stats::SPEC,
    stop::SPEC,
    system::SPEC,
    tag::SPEC,
    top::SPEC,
    unpause::SPEC,
    update::SPEC,
    version::SPEC,
    volume::SPEC,
    wait::SPEC,
];
