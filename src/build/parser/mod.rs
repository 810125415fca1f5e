//! Text of a Dockerfile → [`Dockerfile`], the whole of it before anything is done. Every complaint has its place.

mod arguments;
mod directive;
mod flags;
pub(super) mod mount;
pub(super) use directive::checks_of_argument;
#[cfg(test)]
mod tests;

use crate::build::expand;
use crate::build::heredoc;
use crate::build::instruction::{
    ArgDeclaration, CommandLine, Directives, Dockerfile, HealthRule, Heredoc, Instruction, Keyword, Oddity, Run,
    RunDevice, RunNetwork, RunSecurity, Stage, Statement, Transfer, Trigger,
};
use crate::build::lexer::{Lexer, Line};
use crate::build::place::{Place, Word};
use crate::build::words;
use crate::error::{Error, Result};
use crate::model::near::nearest;
use flags::Flags;
use std::ops::Range;

/// Stages and instructions together: more are a mistake, or meant to be one.
const MAX_STATEMENTS: usize = 100_000;

/// Parses a Dockerfile; errors call it `name`.
pub(crate) fn parse(name: &str, bytes: &[u8]) -> Result<Dockerfile> {
    let mut parser = Parser::new(name, bytes)?;
    parser.directives = directive::read(&mut parser.lexer)?;
    let mut globals = Vec::new();
    let mut stages: Vec<Stage> = Vec::new();
    let mut count = 0;
    while let Some(line) = parser.lexer.line()? {
        count += 1;
        if count > MAX_STATEMENTS {
            return Err(line.place(0).error(format!("more than {MAX_STATEMENTS} instructions")));
        }
        match (parser.statement(&line)?, stages.last_mut()) {
            (Parsed::From(mut stage), _) => {
                stage.index = stages.len();
                stages.push(*stage);
            }
            (Parsed::Statement(statement), Some(stage)) => stage.statements.push(*statement),
            (Parsed::Statement(statement), None) => match statement.instruction {
                Instruction::Arg(declarations) => globals.extend(declarations),
                other => {
                    let keyword = other.keyword();
                    return Err(statement
                        .place
                        .error_at(keyword.name().len(), format!("{keyword} before the first FROM"))
                        .with_hint("a Dockerfile begins with FROM; only ARG may stand before it"));
                }
            },
        }
    }
    if stages.is_empty() {
        let e = match count {
            0 => Error::other(format!("{name}: the Dockerfile is empty")),
            _ => Error::other(format!("{name}: there is no FROM")),
        };
        return Err(e.with_hint("begin with FROM and a base image, such as FROM debian:12"));
    }
    Ok(Dockerfile {
        directives: parser.directives,
        globals,
        stages,
        oddities: parser.oddities,
    })
}

/// Parses an instruction that an image of the name `base` keeps for who builds on it.
pub(crate) fn trigger(text: &str, base: &str) -> Result<Statement> {
    let mut parser = Parser::new(&format!("ONBUILD of {base}"), text.as_bytes())?;
    let Some(line) = parser.lexer.line()? else {
        return Err(Error::other(format!("ONBUILD of {base}: an empty trigger")));
    };
    let keyword = words::first(&line.text, 0..line.text.len()).0;
    parser.check_trigger(&line, keyword)?;
    match parser.statement(&line)? {
        Parsed::Statement(statement) => Ok(*statement),
        Parsed::From(stage) => Err(stage.place.error("FROM isn't allowed as an ONBUILD trigger")),
    }
}

struct Parser {
    lexer: Lexer,
    directives: Directives,
    oddities: Vec<(Place, Oddity)>,
}

enum Parsed {
    From(Box<Stage>),
    Statement(Box<Statement>),
}

/// What a statement is made from: its line, and where its arguments are.
struct Arguments<'a> {
    line: &'a Line,
    keyword: Keyword,
    /// Of the keyword.
    at: Range<usize>,
    rest: Range<usize>,
}

impl Arguments<'_> {
    fn word(&self, range: &Range<usize>) -> Word {
        self.line.word(range.clone())
    }

    fn error(&self, message: impl std::fmt::Display) -> Error {
        let range = if self.rest.is_empty() {
            self.at.clone()
        } else {
            self.rest.clone()
        };
        self.line.error(range, message)
    }

    /// All of the rest as one word, which must be there.
    fn whole(&self) -> Result<Word> {
        match self.rest.is_empty() {
            true => Err(self.error(format!("{} requires exactly one argument", self.keyword))),
            false => Ok(self.word(&self.rest)),
        }
    }

    fn at_least_one(&self) -> Result<()> {
        match self.rest.is_empty() {
            true => Err(self.error(format!("{} requires at least one argument", self.keyword))),
            false => Ok(()),
        }
    }
}

impl Parser {
    fn new(name: &str, bytes: &[u8]) -> Result<Parser> {
        Ok(Parser {
            lexer: Lexer::new(name, bytes)?,
            directives: Directives::default(),
            oddities: Vec::new(),
        })
    }

    fn statement(&mut self, line: &Line) -> Result<Parsed> {
        if let Some(place) = &line.empty_continuation {
            self.oddities.push((place.clone(), Oddity::EmptyContinuation));
        }
        let (at, rest) = words::first(&line.text, 0..line.text.len());
        let keyword = self.keyword(line, &at)?;
        let place = line.place(at.start);
        if keyword == Keyword::From {
            return Ok(Parsed::From(Box::new(self.from(line, at, rest)?)));
        }
        let instruction = self.instruction(line, keyword, at, rest)?;
        expand::check(&instruction, self.lexer.escape)?;
        Ok(Parsed::Statement(Box::new(Statement {
            place,
            text: line.text.trim().to_owned(),
            instruction,
        })))
    }

    fn keyword(&mut self, line: &Line, at: &Range<usize>) -> Result<Keyword> {
        let word = &line.text[at.clone()];
        if let Some(keyword) = Keyword::parse(word) {
            if word != keyword.name() {
                self.oddities
                    .push((line.place(at.start), Oddity::KeywordCasing(word.to_owned())));
            }
            return Ok(keyword);
        }
        let shown: String = word.chars().take(40).collect();
        let e = line.error(at.clone(), format!("unknown instruction '{shown}'"));
        let upper = word.to_uppercase();
        Err(match nearest(&upper, Keyword::ALL.iter().map(|k| k.name())) {
            Some(near) => e.with_hint(format!("did you mean {near}?")),
            None => e.with_hint("a line that goes on in the next one ends with a backslash"),
        })
    }

    fn from(&mut self, line: &Line, at: Range<usize>, rest: Range<usize>) -> Result<Stage> {
        let place = line.place(at.start);
        let (mut flags, rest) = Flags::split(line, rest, "FROM", &["platform"], &[])?;
        let arguments = words::blank(&line.text, rest.clone());
        let text = |range: &Range<usize>| &line.text[range.clone()];
        let name = match &arguments[..] {
            [_] => None,
            [_, word, name] if text(word).eq_ignore_ascii_case("as") => {
                let (from, word) = (text(&at).to_owned(), text(word).to_owned());
                let upper = |w: &str| !w.chars().any(char::is_lowercase);
                if upper(&from) != upper(&word) {
                    let place = line.place(arguments[1].start);
                    self.oddities.push((place, Oddity::AsCasing { from, word }));
                }
                Some(self.stage_name(line, name)?)
            }
            [] => return Err(line.error(at, "FROM requires either one or three arguments")),
            _ => {
                return Err(line
                    .error(rest, "FROM requires either one or three arguments")
                    .with_hint("write it like FROM image, or FROM image AS name"));
            }
        };
        Ok(Stage {
            index: 0,
            name,
            base: line.word(arguments[0].clone()),
            platform: flags.value("platform")?,
            place,
            text: line.text.trim().to_owned(),
            statements: Vec::new(),
        })
    }

    fn stage_name(&mut self, line: &Line, range: &Range<usize>) -> Result<String> {
        let word = &line.text[range.clone()];
        let name = word.to_ascii_lowercase();
        let good = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.'));
        if !good {
            return Err(line
                .error(range.clone(), format!("invalid name for build stage: '{word}'"))
                .with_hint("a name begins with a letter, and has letters, digits, - _ and . in it"));
        }
        if name != word {
            self.oddities
                .push((line.place(range.start), Oddity::StageCasing(word.to_owned())));
        }
        Ok(name)
    }

    fn instruction(
        &mut self,
        line: &Line,
        keyword: Keyword,
        at: Range<usize>,
        rest: Range<usize>,
    ) -> Result<Instruction> {
        let (known, repeated): (&[&'static str], &[&'static str]) = match keyword {
            Keyword::Run => (&["mount", "network", "security", "device"], &["mount", "device"]),
            Keyword::Copy => (&["from", "chown", "chmod", "link", "parents", "exclude"], &["exclude"]),
            Keyword::Add => (
                &[
                    "chown",
                    "chmod",
                    "link",
                    "parents",
                    "exclude",
                    "checksum",
                    "keep-git-dir",
                    "unpack",
                ],
                &["exclude"],
            ),
            Keyword::Healthcheck => (
                &["interval", "timeout", "start-period", "start-interval", "retries"],
                &[],
            ),
            _ => (&[], &[]),
        };
        let (mut flags, rest) = Flags::split(line, rest, keyword.name(), known, repeated)?;
        let arguments = Arguments {
            line,
            keyword,
            at,
            rest,
        };
        Ok(match keyword {
            Keyword::Add => Instruction::Add(self.transfer(&arguments, &mut flags)?),
            Keyword::Copy => Instruction::Copy(self.transfer(&arguments, &mut flags)?),
            Keyword::Arg => Instruction::Arg(declarations(&arguments, self.lexer.escape)?),
            Keyword::Cmd => Instruction::Cmd(self.command(&arguments)?),
            Keyword::Entrypoint => Instruction::Entrypoint(self.command(&arguments)?),
            Keyword::Env => Instruction::Env(self.pairs(&arguments)?),
            Keyword::Label => Instruction::Label(self.pairs(&arguments)?),
            Keyword::Expose => {
                arguments.at_least_one()?;
                let words = words::blank(&line.text, arguments.rest.clone());
                Instruction::Expose(words.iter().map(|r| arguments.word(r)).collect())
            }
            Keyword::Healthcheck => Instruction::Healthcheck(self.health(&arguments, &mut flags)?),
            Keyword::Maintainer => Instruction::Maintainer(arguments.whole()?),
            Keyword::Onbuild => Instruction::Onbuild(self.onbuild(&arguments)?),
            Keyword::Run => Instruction::Run(self.run(&arguments, &mut flags)?),
            Keyword::Shell => match self.command(&arguments)? {
                CommandLine::Exec(words) if !words.is_empty() => Instruction::Shell(words),
                _ => {
                    return Err(arguments
                        .error("SHELL requires the arguments to be in JSON form")
                        .with_hint("write it like SHELL [\"/bin/bash\", \"-c\"]"));
                }
            },
            Keyword::Stopsignal => Instruction::Stopsignal(arguments.whole()?),
            Keyword::User => Instruction::User(arguments.whole()?),
            Keyword::Volume => Instruction::Volume(self.volumes(&arguments)?),
            Keyword::Workdir => Instruction::Workdir(arguments.whole()?),
            Keyword::Insert => {
                return Err(line
                    .error(arguments.at, "INSERT has been deprecated. Please use ADD instead")
                    .with_hint("write it like ADD URL PATH"));
            }
            // The caller has taken it.
            Keyword::From => return Err(arguments.error("FROM isn't allowed here")),
        })
    }

    fn run(&mut self, a: &Arguments<'_>, flags: &mut Flags<'_>) -> Result<Run> {
        a.at_least_one()?;
        let mounts = flags.values("mount")?;
        let network = match flags.value("network")? {
            None => RunNetwork::Default,
            Some(word) => match &*word {
                "default" => RunNetwork::Default,
                "none" => RunNetwork::None,
                "host" => RunNetwork::Host,
                other => {
                    return Err(word
                        .place
                        .error_at(other.len(), format!("unknown network '{other}'"))
                        .with_hint("there are default, none and host"));
                }
            },
        };
        let security = match flags.value("security")? {
            None => RunSecurity::Sandbox,
            Some(word) => match &*word {
                "sandbox" => RunSecurity::Sandbox,
                "insecure" => RunSecurity::Insecure,
                other => {
                    return Err(word
                        .place
                        .error_at(other.len(), format!("unknown security mode '{other}'"))
                        .with_hint("there are sandbox and insecure"));
                }
            },
        };
        let devices = flags.values("device")?;
        let devices = devices.into_iter().map(device).collect::<Result<_>>()?;
        let mounts = mounts.iter().map(mount::unexpanded).collect::<Result<_>>()?;
        let command = self.command(a)?;
        let heredocs = match &command {
            CommandLine::Exec(words) if words.is_empty() => {
                return Err(a.error("RUN requires at least one argument"));
            }
            CommandLine::Exec(_) => Vec::new(),
            CommandLine::Shell(_) => self.heredocs(a)?,
        };
        Ok(Run {
            command,
            heredocs,
            mounts,
            network,
            security,
            devices,
        })
    }

    /// Reads the lines that belong to the `<<NAME`s of the arguments.
    fn heredocs(&mut self, a: &Arguments<'_>) -> Result<Vec<Heredoc>> {
        let mut all = Vec::new();
        // Quotes count from the begin of the line on, as docker has it.
        for (offset, opening) in heredoc::openings(&a.line.text) {
            if offset < a.rest.start {
                continue;
            }
            let width = opening.name.chars().count() + 2;
            let place = a.line.place(offset);
            let Some(text) = self.lexer.heredoc(&opening.name, opening.strip_tabs)? else {
                return Err(place
                    .error_at(width, format!("unterminated heredoc '{}'", opening.name))
                    .with_hint(format!("it ends with a line that has only {} in it", opening.name)));
            };
            all.push(Heredoc {
                place,
                name: opening.name,
                text,
                strip_tabs: opening.strip_tabs,
                expand: opening.expand,
            });
        }
        Ok(all)
    }

    fn transfer(&mut self, a: &Arguments<'_>, flags: &mut Flags<'_>) -> Result<Transfer> {
        let (mut words, json) = self.list(a)?;
        if words.len() < 2 {
            return Err(a
                .error(format!(
                    "{} requires at least two arguments, but only {} was provided",
                    a.keyword,
                    if words.is_empty() { "none" } else { "one" }
                ))
                .with_hint(format!("write it like {} SOURCE… DESTINATION", a.keyword)));
        }
        let heredocs = if json { Vec::new() } else { self.heredocs(a)? };
        let target = words.pop().unwrap_or_else(|| a.word(&a.rest));
        let is_heredoc = |word: &Word| !heredocs.is_empty() && heredoc::opening(word).is_some();
        if is_heredoc(&target) {
            return Err(target.place.error_at(
                target.chars().count(),
                format!("{} can't write to a heredoc", a.keyword),
            ));
        }
        words.retain(|word| !is_heredoc(word));
        let from = flags.value("from")?;
        if let (Some(from), Some(heredoc)) = (&from, heredocs.first()) {
            return Err(heredoc.place.error(format!("a heredoc does not come from '{from}'")));
        }
        Ok(Transfer {
            sources: words,
            inline: heredocs,
            target,
            from,
            chown: flags.value("chown")?,
            chmod: flags.value("chmod")?,
            link: flags.switch("link")?.unwrap_or(false),
            parents: flags.switch("parents")?.unwrap_or(false),
            excludes: flags.values("exclude")?,
            checksum: flags.value("checksum")?,
            keep_git_dir: flags.switch("keep-git-dir")?,
            unpack: flags.switch("unpack")?,
        })
    }

    fn onbuild(&mut self, a: &Arguments<'_>) -> Result<Trigger> {
        a.at_least_one()?;
        let (at, rest) = words::first(&a.line.text, a.rest.clone());
        let keyword = self.check_trigger(a.line, at.clone())?;
        let place = a.line.place(at.start);
        let start = at.start;
        let parsed = self.instruction(a.line, keyword, at, rest)?;
        expand::check(&parsed, self.lexer.escape)?;
        let mut text = a.line.text[start..].trim_end().to_owned();
        let heredocs: &[Heredoc] = match &parsed {
            Instruction::Run(run) => &run.heredocs,
            Instruction::Copy(transfer) | Instruction::Add(transfer) => &transfer.inline,
            _ => &[],
        };
        for heredoc in heredocs {
            text.push('\n');
            text.push_str(&heredoc.text);
            text.push_str(&heredoc.name);
        }
        Ok(Trigger { text, keyword, place })
    }

    /// Some instructions mean nothing in a trigger.
    fn check_trigger(&mut self, line: &Line, at: Range<usize>) -> Result<Keyword> {
        let keyword = self.keyword(line, &at)?;
        match keyword {
            Keyword::Onbuild => Err(line.error(at, "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")),
            Keyword::Maintainer | Keyword::From => {
                Err(line.error(at, format!("{keyword} isn't allowed as an ONBUILD trigger")))
            }
            keyword => Ok(keyword),
        }
    }

    fn health(&mut self, a: &Arguments<'_>, flags: &mut Flags<'_>) -> Result<HealthRule> {
        arguments::health(self, a, flags)
    }
}

/// `NAME[=default]…`.
fn declarations(a: &Arguments<'_>, escape: char) -> Result<Vec<ArgDeclaration>> {
    a.at_least_one()?;
    let mut all = Vec::new();
    for range in words::quoted(&a.line.text, a.rest.clone(), escape).words {
        let text = &a.line.text[range.clone()];
        let (name, default) = match text.find('=') {
            Some(at) => (
                range.start..range.start + at,
                Some(a.word(&(range.start + at + 1..range.end))),
            ),
            None => (range.clone(), None),
        };
        if name.is_empty() {
            return Err(a.line.error(range, "ARG names can not be blank"));
        }
        all.push(ArgDeclaration {
            name: a.word(&name),
            default,
        });
    }
    Ok(all)
}

/// The value of `RUN --device`.
fn device(word: Word) -> Result<RunDevice> {
    let mut fields = word.text.split(',');
    let first = fields.next().unwrap_or_default();
    let name = first.strip_prefix("name=").unwrap_or(first).to_owned();
    let bad = |why: String| {
        let e = word.place.error_at(word.chars().count(), why);
        e.with_hint("write it like --device=vendor.com/class=name")
    };
    if name.is_empty() || name.starts_with('/') || !name.contains('/') {
        return Err(bad(format!("'{name}' is no device's name")));
    }
    let mut required = true;
    for field in fields {
        required = match field {
            "required" | "required=true" => true,
            "required=false" => false,
            other => return Err(bad(format!("unknown field '{other}'"))),
        };
    }
    Ok(RunDevice {
        name: Word {
            text: name,
            place: word.place.clone(),
        },
        required,
    })
}
