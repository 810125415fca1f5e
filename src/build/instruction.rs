//! A parsed Dockerfile as data: stages, instructions, and where each of them stands. The parser makes it; variables are
//! still unexpanded in it. `expand::statement` gives the same types with the variables replaced.

use crate::build::heredoc;
use crate::build::place::{Place, Word};
use crate::model::health::HealthCheck;
use std::fmt;

/// A whole Dockerfile.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Dockerfile {
    pub(crate) directives: Directives,
    /// The `ARG`s before the first `FROM`, in order.
    pub(crate) globals: Vec<ArgDeclaration>,
    /// At least one.
    pub(crate) stages: Vec<Stage>,
    /// Comments and oddities that only the lints are interested in.
    pub(crate) oddities: Vec<(Place, Oddity)>,
}

/// What the comment lines at the top say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directives {
    /// `# syntax=…`: noted, there is only one frontend.
    pub(crate) syntax: Option<Word>,
    /// `\`, or `` ` ``.
    pub(crate) escape: char,
    pub(crate) check: Checks,
}

impl Default for Directives {
    fn default() -> Self {
        Directives {
            syntax: None,
            escape: '\\',
            check: Checks::default(),
        }
    }
}

/// `# check=skip=A,B;error=true`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Checks {
    pub(crate) skip_all: bool,
    pub(crate) skip: Vec<String>,
    /// Rules that are off unless they are named here.
    pub(crate) experimental: Vec<String>,
    pub(crate) experimental_all: bool,
    /// A lint that finds something fails the build.
    pub(crate) error: bool,
}

/// Something that parses, but that a lint speaks about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Oddity {
    /// An empty line inside of a continuation.
    EmptyContinuation,
    /// `NAME value` without `=`.
    OldPair(Keyword),
    /// `FROM x as Y` where the case of `as` is not that of `FROM`.
    AsCasing { from: String, word: String },
    /// The keyword as it was written, where that is not in capitals.
    KeywordCasing(String),
    /// The name of the stage as it was written, where it had capitals.
    StageCasing(String),
    /// Looks like a JSON array and is none: taken for a shell line, or for words.
    BrokenJson(Keyword),
}

/// `FROM … AS name` and what follows it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stage {
    /// From 0.
    pub(crate) index: usize,
    /// In lower case.
    pub(crate) name: Option<String>,
    /// `debian:12`, `scratch`, an earlier stage's name: with variables of the global scope.
    pub(crate) base: Word,
    pub(crate) platform: Option<Word>,
    pub(crate) place: Place,
    /// The `FROM` line as written, continuations joined.
    pub(crate) text: String,
    pub(crate) statements: Vec<Statement>,
}

/// One instruction with its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Statement {
    pub(crate) place: Place,
    /// As written, continuations joined, heredocs left out: what messages show.
    pub(crate) text: String,
    pub(crate) instruction: Instruction,
}

/// The words that begin an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Keyword {
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Insert,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
}

impl Keyword {
    pub(crate) const ALL: [Keyword; 19] = [
        Keyword::Add,
        Keyword::Arg,
        Keyword::Cmd,
        Keyword::Copy,
        Keyword::Entrypoint,
        Keyword::Env,
        Keyword::Expose,
        Keyword::From,
        Keyword::Healthcheck,
        Keyword::Insert,
        Keyword::Label,
        Keyword::Maintainer,
        Keyword::Onbuild,
        Keyword::Run,
        Keyword::Shell,
        Keyword::Stopsignal,
        Keyword::User,
        Keyword::Volume,
        Keyword::Workdir,
    ];

    /// In capitals.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Keyword::Add => "ADD",
            Keyword::Arg => "ARG",
            Keyword::Cmd => "CMD",
            Keyword::Copy => "COPY",
            Keyword::Entrypoint => "ENTRYPOINT",
            Keyword::Env => "ENV",
            Keyword::Expose => "EXPOSE",
            Keyword::From => "FROM",
            Keyword::Healthcheck => "HEALTHCHECK",
            Keyword::Insert => "INSERT",
            Keyword::Label => "LABEL",
            Keyword::Maintainer => "MAINTAINER",
            Keyword::Onbuild => "ONBUILD",
            Keyword::Run => "RUN",
            Keyword::Shell => "SHELL",
            Keyword::Stopsignal => "STOPSIGNAL",
            Keyword::User => "USER",
            Keyword::Volume => "VOLUME",
            Keyword::Workdir => "WORKDIR",
        }
    }

    /// In any case.
    pub(crate) fn parse(text: &str) -> Option<Keyword> {
        Keyword::ALL.into_iter().find(|k| k.name().eq_ignore_ascii_case(text))
    }
}

impl fmt::Display for Keyword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an instruction says. `FROM` is a [`Stage`]; `INSERT` is an error of the parser.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Instruction {
    Add(Transfer),
    Arg(Vec<ArgDeclaration>),
    Cmd(CommandLine),
    Copy(Transfer),
    /// An empty list of words clears it.
    Entrypoint(CommandLine),
    Env(Vec<Pair>),
    /// `80`, `53/udp`, `8000-8010`, not checked before variables are expanded.
    Expose(Vec<Word>),
    Healthcheck(HealthRule),
    Label(Vec<Pair>),
    Maintainer(Word),
    Onbuild(Trigger),
    Run(Run),
    /// Instead of `/bin/sh -c`.
    Shell(Vec<String>),
    Stopsignal(Word),
    User(Word),
    Volume(Vec<Word>),
    Workdir(Word),
}

impl Instruction {
    pub(crate) fn keyword(&self) -> Keyword {
        match self {
            Instruction::Add(_) => Keyword::Add,
            Instruction::Arg(_) => Keyword::Arg,
            Instruction::Cmd(_) => Keyword::Cmd,
            Instruction::Copy(_) => Keyword::Copy,
            Instruction::Entrypoint(_) => Keyword::Entrypoint,
            Instruction::Env(_) => Keyword::Env,
            Instruction::Expose(_) => Keyword::Expose,
            Instruction::Healthcheck(_) => Keyword::Healthcheck,
            Instruction::Label(_) => Keyword::Label,
            Instruction::Maintainer(_) => Keyword::Maintainer,
            Instruction::Onbuild(_) => Keyword::Onbuild,
            Instruction::Run(_) => Keyword::Run,
            Instruction::Shell(_) => Keyword::Shell,
            Instruction::Stopsignal(_) => Keyword::Stopsignal,
            Instruction::User(_) => Keyword::User,
            Instruction::Volume(_) => Keyword::Volume,
            Instruction::Workdir(_) => Keyword::Workdir,
        }
    }
}

/// The two forms of RUN, CMD and ENTRYPOINT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CommandLine {
    /// For `/bin/sh -c`, or what SHELL says.
    Shell(String),
    /// A JSON array: the words themselves.
    Exec(Vec<String>),
}

/// `NAME=value` of ENV and LABEL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) name: Word,
    pub(crate) value: Word,
}

/// `ARG NAME[=default]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArgDeclaration {
    pub(crate) name: Word,
    pub(crate) default: Option<Word>,
}

/// `RUN`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Run {
    pub(crate) command: CommandLine,
    /// Those whose `<<NAME` stand in the command, in order. [`Run::script`] says what they mean.
    pub(crate) heredocs: Vec<Heredoc>,
    pub(crate) mounts: Vec<RunMount>,
    pub(crate) network: RunNetwork,
    pub(crate) security: RunSecurity,
    pub(crate) devices: Vec<RunDevice>,
}

/// `RUN --device=vendor/class=name[,required=false]`; `vendor/class` alone means all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunDevice {
    pub(crate) name: Word,
    pub(crate) required: bool,
}

/// What a RUN executes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Script {
    /// The words themselves.
    Exec(Vec<String>),
    /// One line (or several) for the stage's shell.
    Shell(String),
    /// A heredoc that begins with `#!`: `text` is to be executed as the file `/dev/pipes/<name>`, mode 0755.
    File { name: String, text: String },
}

impl Run {
    /// The command with its heredocs. Nothing in them is expanded: that is the shell's business.
    pub(crate) fn script(&self) -> Script {
        let line = match &self.command {
            CommandLine::Exec(words) => return Script::Exec(words.clone()),
            CommandLine::Shell(line) => line,
        };
        let Some(first) = self.heredocs.first() else {
            return Script::Shell(line.clone());
        };
        // Only a heredoc: its text is the script.
        if self.heredocs.len() == 1 && heredoc::opening(line.trim()).is_some() {
            let text = first.content();
            return match text.starts_with("#!") {
                true => Script::File {
                    name: first.name.clone(),
                    text,
                },
                false => Script::Shell(text),
            };
        }
        // The shell knows heredocs as well.
        let mut whole = line.clone();
        for heredoc in &self.heredocs {
            whole.push('\n');
            whole.push_str(&heredoc.text);
            whole.push_str(&heredoc.name);
        }
        Script::Shell(whole)
    }
}

/// `<<NAME` and the lines up to `NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heredoc {
    /// Of the `<<`.
    pub(crate) place: Place,
    /// Without quotes; in COPY the file's name.
    pub(crate) name: String,
    /// As written, every line with its `\n`.
    pub(crate) text: String,
    /// `<<-`: tabs at the begin of lines do not count.
    pub(crate) strip_tabs: bool,
    /// The name was not quoted: in COPY and ADD, variables are replaced.
    pub(crate) expand: bool,
}

impl Heredoc {
    /// The text, without the tabs that `<<-` takes away.
    pub(crate) fn content(&self) -> String {
        match self.strip_tabs {
            true => self
                .text
                .split_inclusive('\n')
                .map(|line| line.trim_start_matches('\t'))
                .collect(),
            false => self.text.clone(),
        }
    }
}

/// One `--mount` of RUN. `kind` is final after expansion; before, options with `$` in them may have their default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunMount {
    /// The option as written.
    pub(crate) text: Word,
    pub(crate) kind: MountKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MountKind {
    /// A part of the context (`from: None`), of a stage or of an image; changes to it are thrown away.
    Bind {
        from: Option<String>,
        /// Inside of `from`, empty or `/` for its root.
        source: String,
        target: String,
        read_write: bool,
    },
    Cache {
        /// The target, unless another one was said.
        id: String,
        target: String,
        read_only: bool,
        sharing: Sharing,
        /// What an empty cache begins with.
        from: Option<String>,
        source: String,
        owner: MountOwner,
    },
    Tmpfs {
        target: String,
        /// Bytes.
        size: Option<u64>,
    },
    Secret {
        /// Which `--secret`; without one the target's last component.
        id: String,
        /// `/run/secrets/<id>` unless another one was said; `None` if only a variable was asked for.
        target: Option<String>,
        /// `env=NAME`: the secret as an environment variable.
        variable: Option<String>,
        required: bool,
        owner: MountOwner,
    },
    Ssh {
        /// `default` unless said.
        id: String,
        /// `/run/buildkit/ssh_agent.<n>` (n-th ssh mount of the RUN) unless said.
        target: Option<String>,
        required: bool,
        owner: MountOwner,
    },
}

/// Who has a mounted directory or file, and with what mode. Defaults: 0:0; 0755 cache, 0400 secret, 0600 socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MountOwner {
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) mode: Option<u32>,
}

/// Two builds that want the same cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Both use it at once.
    #[default]
    Shared,
    /// The second one gets a new one.
    Private,
    /// The second one waits.
    Locked,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum RunNetwork {
    #[default]
    Default,
    None,
    /// Needs `--allow network.host`.
    Host,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum RunSecurity {
    #[default]
    Sandbox,
    /// Privileged; needs `--allow security.insecure`.
    Insecure,
}

/// `COPY` and `ADD`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Transfer {
    /// Paths in the context with wildcards; for ADD also URLs and git repositories. Heredocs are in `inline`.
    pub(crate) sources: Vec<Word>,
    /// Files whose contents stand in the Dockerfile, named as their delimiter.
    pub(crate) inline: Vec<Heredoc>,
    pub(crate) target: Word,
    /// COPY only: a stage's name or index, a named context or an image.
    pub(crate) from: Option<Word>,
    /// `user[:group]`, names or numbers.
    pub(crate) chown: Option<Word>,
    /// Octal, or symbolic as in chmod(1).
    pub(crate) chmod: Option<Word>,
    pub(crate) link: bool,
    pub(crate) parents: bool,
    pub(crate) excludes: Vec<Word>,
    /// ADD only: `sha256:…` of the one remote source.
    pub(crate) checksum: Option<Word>,
    /// ADD only.
    pub(crate) keep_git_dir: Option<bool>,
    /// ADD only: `None` unpacks local archives and leaves remote ones as they are.
    pub(crate) unpack: Option<bool>,
}

/// HEALTHCHECK.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum HealthRule {
    /// `NONE`: also not the base image's.
    None,
    /// Complete: `Test` begins with `CMD` or `CMD-SHELL`.
    Check(HealthCheck),
}

/// ONBUILD: an instruction that is stored in the image.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Trigger {
    /// As it goes into the image, heredocs included: `RUN make`.
    pub(crate) text: String,
    /// Checked already: an unknown or forbidden one is an error where it is written.
    pub(crate) keyword: Keyword,
    /// After expansion too: variables of a trigger are expanded when it is used.
    pub(crate) place: Place,
}
