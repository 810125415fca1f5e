//! The table of commands: one file for each, which says what it takes and does it. Nouns (`container ls`) are other
//! ways to the same commands.

mod attach;
mod auto_update;
mod boot;
mod build;
mod builder;
mod builder_du;
mod builder_prune;
mod commit;
mod completion;
mod container;
mod cp;
mod create;
mod diff;
mod events;
mod exec;
mod export;
mod generate;
mod healthcheck;
mod help;
mod history;
mod image;
mod image_mount;
mod images;
mod import;
mod info;
mod insert;
mod inspect;
mod kill;
mod load;
mod login;
mod logout;
mod logs;
mod man;
mod manifest;
mod mount;
mod network;
mod network_reload;
mod pause;
mod port;
mod ps;
mod pull;
mod push;
mod rename;
mod reset;
mod restart;
mod rm;
mod rmi;
mod run;
mod save;
mod search;
mod secret;
mod start;
mod stats;
mod stop;
mod system;
mod tag;
mod top;
mod update;
mod version;
mod volume;
mod volume_archive;
mod wait;

use crate::cli::tree::Spec;

/// In alphabetical order, as help shows them.
pub(crate) static COMMANDS: &[Spec] = &[
    attach::SPEC,
    auto_update::SPEC,
    build::SPEC,
    builder::SPEC,
    builder::BUILDX,
    commit::SPEC,
    completion::SPEC,
    container::SPEC,
    cp::SPEC,
    create::SPEC,
    diff::SPEC,
    events::SPEC,
    exec::SPEC,
    export::SPEC,
    generate::SPEC,
    healthcheck::SPEC,
    help::SPEC,
    history::SPEC,
    image::SPEC,
    images::SPEC,
    import::SPEC,
    info::SPEC,
    insert::SPEC,
    inspect::SPEC,
    kill::SPEC,
    load::SPEC,
    login::SPEC,
    logout::SPEC,
    logs::SPEC,
    man::SPEC,
    manifest::SPEC,
    mount::SPEC,
    network::SPEC,
    pause::PAUSE,
    port::SPEC,
    ps::SPEC,
    pull::SPEC,
    push::SPEC,
    rename::SPEC,
    restart::SPEC,
    rm::SPEC,
    rmi::SPEC,
    run::SPEC,
    save::SPEC,
    search::SPEC,
    secret::SPEC,
    start::SPEC,
    stats::SPEC,
    stop::SPEC,
    system::SPEC,
    tag::SPEC,
    top::SPEC,
    mount::UNMOUNT.under_noun("umount"),
    mount::UNMOUNT,
    pause::UNPAUSE,
    update::SPEC,
    version::SPEC,
    volume::SPEC,
    wait::SPEC,
];
