//! The table of commands: one file for each, which says what it takes and does it. Nouns (`container ls`) are other
//! ways to the same commands.

mod attach;
mod commit;
mod completion;
mod create;
mod exec;
mod exists;
mod export;
mod help;
mod history;
mod images;
mod import;
mod info;
mod inspect;
mod kill;
mod logs;
mod man;
mod port;
mod ps;
mod restart;
mod rm;
mod rmi;
mod run;
mod start;
mod stop;
mod tag;
mod version;
mod volume;
mod wait;

use crate::cli::tree::{Body, Spec};

/// In alphabetical order, as help shows them.
pub(crate) static COMMANDS: &[Spec] = &[
    attach::SPEC,
    commit::SPEC,
    completion::SPEC,
    CONTAINER,
    create::SPEC,
    exec::SPEC,
    export::SPEC,
    help::SPEC,
    history::SPEC,
    IMAGE,
    images::SPEC,
    import::SPEC,
    info::SPEC,
    inspect::SPEC,
    kill::SPEC,
    logs::SPEC,
    man::SPEC,
    port::SPEC,
    ps::SPEC,
    restart::SPEC,
    rm::SPEC,
    rmi::SPEC,
    run::SPEC,
    start::SPEC,
    stop::SPEC,
    tag::SPEC,
    version::SPEC,
    volume::SPEC,
    wait::SPEC,
];

const CONTAINER: Spec = Spec {
    name: "container",
    about: "Work with containers: the same commands, under their noun",
    examples: &[],
    also: None,
    body: Body::Noun(&[
        attach::SPEC.under_noun("attach"),
        commit::SPEC.under_noun("commit"),
        create::SPEC.under_noun("create"),
        exec::SPEC.under_noun("exec"),
        export::SPEC.under_noun("export"),
        exists::CONTAINER,
        inspect::CONTAINER,
        kill::SPEC.under_noun("kill"),
        logs::SPEC.under_noun("logs"),
        port::SPEC.under_noun("port"),
        ps::SPEC.under_noun("ls"),
        restart::SPEC.under_noun("restart"),
        rm::SPEC.under_noun("rm"),
        run::SPEC.under_noun("run"),
        start::SPEC.under_noun("start"),
        stop::SPEC.under_noun("stop"),
        wait::SPEC.under_noun("wait"),
    ]),
};

const IMAGE: Spec = Spec {
    name: "image",
    about: "Work with images: the same commands, under their noun",
    examples: &[],
    also: None,
    body: Body::Noun(&[
        exists::IMAGE,
        history::SPEC.under_noun("history"),
        import::SPEC.under_noun("import"),
        inspect::IMAGE,
        images::SPEC.under_noun("ls"),
        rmi::SPEC.under_noun("rm"),
        tag::SPEC.under_noun("tag"),
    ]),
};
