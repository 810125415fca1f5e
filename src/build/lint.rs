//! `--check`, and `# check=`: what parses but is likely not what was meant (pure but for the look at the context). The
//! rules have docker's names, since Dockerfiles switch them off by name.

use crate::build::context;
use crate::build::expand::{Globals, Platforms, Scope};
use crate::build::instruction::{Checks, CommandLine, Dockerfile, Instruction, Keyword, Oddity, Stage, Statement};
use crate::build::options::Options;
use crate::build::parser;
use crate::build::place::{Place, Word};
use crate::build::plan::{self, Base};
use crate::error::Result;
use crate::image::resolve::resolve;
use crate::model::bytes::ByteString;
use crate::model::container::DEFAULT_PATH;
use crate::model::near::nearest;
use crate::model::platform::Platform;
use crate::store::Store;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Lines at the end of a build.
const MOST_WARNINGS: usize = 20;

/// What a rule says about a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) rule: &'static str,
    pub(crate) place: Place,
    pub(crate) text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.place, self.rule, self.text)?;
        match self.place.error("").shown() {
            Some(lines) => write!(f, "\n{lines}"),
            None => Ok(()),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// By place, without what the Dockerfile skips.
    pub(crate) findings: Vec<Finding>,
    /// `error=true`: a finding fails the build.
    pub(crate) fails: bool,
}

/// What is known besides the Dockerfile.
pub(crate) struct Known<'a> {
    pub(crate) args: &'a BTreeMap<String, String>,
    pub(crate) platforms: &'a Platforms,
    pub(crate) target: Option<&'a str>,
    /// Names of `--build-context`.
    pub(crate) contexts: &'a [String],
    /// The environment of an image that is here.
    pub(crate) env_of: &'a dyn Fn(&str) -> Option<Vec<ByteString>>,
    /// Its platform.
    pub(crate) platform_of: &'a dyn Fn(&str) -> Option<Platform>,
    /// Whether a path of the context is ignored.
    pub(crate) ignored: &'a dyn Fn(&str) -> bool,
}

/// `build --check`: the Dockerfile is fetched and read, nothing is built.
pub(crate) fn check_options(store: &Store, options: &Options) -> Result<Report> {
    let opened = context::open(store, &options.asked())?;
    let dockerfile = parser::parse(&opened.dockerfile.name, &opened.dockerfile.text)?;
    report(store, options, &dockerfile, &opened.context)
}

fn report(store: &Store, options: &Options, dockerfile: &Dockerfile, context: &context::Context) -> Result<Report> {
    let contexts: Vec<String> = options.named_contexts.iter().map(|n| n.name.clone()).collect();
    let target = options.platforms.first().cloned().unwrap_or_else(Platform::host);
    check(
        dockerfile,
        &Known {
            args: &options.args,
            platforms: &Platforms {
                build: Platform::host(),
                target,
                stage: options.target.clone().unwrap_or_else(|| "default".to_owned()),
            },
            target: options.target.as_deref(),
            contexts: &contexts,
            env_of: &|name| env_of(store, name),
            platform_of: &|name| platform_of(store, name),
            ignored: &|path| is_ignored(context, path),
        },
    )
}

/// Whether COPY of this path can find nothing. Where rules take something back, it may.
fn is_ignored(context: &context::Context, path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    let ignore = context.tree().ignore.filter(|i| i.is_final());
    ignore.is_some_and(|i| !parts.contains(&"..") && i.ignores(parts.join("/").as_bytes()))
}

/// Of an image in the store.
fn env_of(store: &Store, name: &str) -> Option<Vec<ByteString>> {
    Some(resolve(store, name).ok()?.config.config.env)
}

fn platform_of(store: &Store, name: &str) -> Option<Platform> {
    let config = resolve(store, name).ok()?.config;
    Some(Platform {
        os: config.os,
        architecture: config.architecture,
        variant: config.variant,
        ..Platform::host()
    })
}

/// What a build says at its end, in docker's form. What can't be checked has been said by the build itself.
pub(crate) fn warnings(
    store: &Store,
    options: &Options,
    dockerfile: &Dockerfile,
    context: &context::Context,
) -> Vec<String> {
    let findings = report(store, options, dockerfile, context).map(|r| r.findings);
    let findings = findings.unwrap_or_default();
    let mut lines = Vec::new();
    match findings.len() {
        0 => return lines,
        1 => lines.push(" 1 warning found (use --check to expand):".to_owned()),
        n => lines.push(format!(" {n} warnings found (use --check to expand):")),
    }
    let line = |f: &Finding| format!(" - {}: {} (line {})", f.rule, f.text, f.place.line);
    lines.extend(findings.iter().take(MOST_WARNINGS).map(line));
    if findings.len() > MOST_WARNINGS {
        lines.push(format!(" - and {} more", findings.len() - MOST_WARNINGS));
    }
    lines
}

/// Looks for everything. What can't be planned at all is an error, as in a build.
pub(crate) fn check(dockerfile: &Dockerfile, known: &Known<'_>) -> Result<Report> {
    let mut linter = Linter {
        dockerfile,
        known,
        findings: Vec::new(),
    };
    let globals = Globals::new(dockerfile, known.args, known.platforms)?;
    linter.oddities();
    linter.stages(&globals);
    linter.base_names(&globals);
    linter.defaults()?;
    for stage in &dockerfile.stages {
        linter.stage(stage);
    }
    linter.variables(&globals)?;
    linter.descriptions();
    let mut checks = dockerfile.directives.check.clone();
    if let Some(text) = known.args.get("BUILDKIT_DOCKERFILE_CHECK") {
        checks = parser::checks_of_argument(text)?;
    }
    let mut findings = linter.findings;
    findings.retain(|f| !skipped(&checks, f.rule));
    let experiment =
        |rule: &str| checks.experimental_all || checks.experimental.iter().any(|e| e.eq_ignore_ascii_case(rule));
    findings.retain(|f| f.rule != "InvalidDefinitionDescription" || experiment(f.rule));
    findings.sort_by(|a, b| (a.place.line, a.place.offset, a.rule).cmp(&(b.place.line, b.place.offset, b.rule)));
    findings.dedup();
    Ok(Report {
        findings,
        fails: checks.error,
    })
}

/// `# check=error=true`: a build whose Dockerfile says so has no findings, or does not begin.
pub(crate) fn enforce(
    store: &Store,
    options: &Options,
    dockerfile: &Dockerfile,
    context: &context::Context,
) -> Result<()> {
    match dockerfile.directives.check.error || options.args.contains_key("BUILDKIT_DOCKERFILE_CHECK") {
        true => refuse(&report(store, options, dockerfile, context)?),
        false => Ok(()),
    }
}

fn refuse(report: &Report) -> Result<()> {
    match report.findings.first() {
        Some(first) if report.fails => {
            let more = match report.findings.len() - 1 {
                0 => String::new(),
                n => format!(" (and {n} more)"),
            };
            Err(first
                .place
                .error(format!("{}: {}{more}", first.rule, first.text))
                .with_hint("the Dockerfile says check=error=true; barge build --check shows all"))
        }
        _ => Ok(()),
    }
}

fn skipped(checks: &Checks, rule: &str) -> bool {
    checks.skip_all || checks.skip.iter().any(|s| s.eq_ignore_ascii_case(rule))
}

struct Linter<'a> {
    dockerfile: &'a Dockerfile,
    known: &'a Known<'a>,
    findings: Vec<Finding>,
}

impl Linter<'_> {
    fn add(&mut self, rule: &'static str, place: &Place, text: impl Into<String>) {
        self.findings.push(Finding {
            rule,
            place: place.clone(),
            text: text.into(),
        });
    }

    /// What the parser noticed.
    fn oddities(&mut self) {
        let mut cased: Vec<(&Place, &String)> = Vec::new();
        for (place, oddity) in &self.dockerfile.oddities {
            match oddity {
                Oddity::EmptyContinuation => {
                    self.add(
                        "NoEmptyContinuation",
                        place,
                        "an empty line inside of an instruction that goes on",
                    );
                }
                Oddity::OldPair(keyword) => {
                    self.add(
                        "LegacyKeyValueFormat",
                        place,
                        format!("write {keyword} name=value, with the ="),
                    );
                }
                Oddity::AsCasing { from, word } => {
                    self.add(
                        "FromAsCasing",
                        place,
                        format!("'{word}' and '{from}' are not of the same case"),
                    );
                }
                Oddity::StageCasing(name) => {
                    self.add(
                        "StageNameCasing",
                        place,
                        format!("the stage's name '{name}' has capitals"),
                    );
                }
                Oddity::KeywordCasing(word) => cased.push((place, word)),
                // A program's name may begin with a bracket: `CMD [ -f x ]` is test(1).
                Oddity::BrokenJson(keyword) => {
                    if matches!(keyword, Keyword::Copy | Keyword::Add | Keyword::Volume) {
                        continue;
                    }
                    self.add(
                        "JSONArgsRecommended",
                        place,
                        format!("{keyword} looks like a JSON array but is none"),
                    );
                }
            }
        }
        self.casing(&cased);
    }

    /// All keywords should be of one case: the one of most of them.
    fn casing(&mut self, not_upper: &[(&Place, &String)]) {
        let all: usize = self.dockerfile.stages.iter().map(|s| 1 + s.statements.len()).sum();
        let is_lower = |w: &str| !w.chars().any(char::is_uppercase);
        let lower = not_upper.iter().filter(|(_, w)| is_lower(w)).count();
        let upper = all.saturating_sub(not_upper.len());
        if lower > upper {
            for (place, word) in not_upper.iter().filter(|(_, w)| !is_lower(w)) {
                self.add(
                    "ConsistentInstructionCasing",
                    place,
                    format!("'{word}', where most are in lower case"),
                );
            }
            let mut stray = Vec::new();
            for stage in &self.dockerfile.stages {
                let statements = stage.statements.iter().map(|s| (&s.place, &s.text));
                for (place, text) in std::iter::once((&stage.place, &stage.text)).chain(statements) {
                    let word = text.split_whitespace().next().unwrap_or_default();
                    if !word.chars().any(char::is_lowercase) {
                        stray.push((place.clone(), word.to_owned()));
                    }
                }
            }
            for (place, word) in stray {
                self.add(
                    "ConsistentInstructionCasing",
                    &place,
                    format!("'{word}', where most are in lower case"),
                );
            }
        } else {
            for (place, word) in not_upper {
                self.add(
                    "ConsistentInstructionCasing",
                    place,
                    format!("'{word}', where most are in capitals"),
                );
            }
        }
    }

    fn stages(&mut self, globals: &Globals) {
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        for stage in &self.dockerfile.stages {
            if let Some(name) = stage.name.as_deref() {
                if matches!(name, "scratch" | "context") {
                    self.add(
                        "ReservedStageName",
                        &stage.place,
                        format!("'{name}' means something else already"),
                    );
                }
                if !seen.insert(name) {
                    self.add(
                        "DuplicateStageName",
                        &stage.place,
                        format!("there is another stage of the name '{name}'"),
                    );
                }
            }
            let Some(platform) = &stage.platform else { continue };
            let whole = platform
                .trim_start_matches("${")
                .trim_start_matches('$')
                .trim_end_matches('}');
            if whole == "TARGETPLATFORM" && platform.contains('$') {
                self.add(
                    "RedundantTargetPlatform",
                    &platform.place,
                    format!("{platform} is what is built for anyway"),
                );
            }
            let constant = !platform.contains('$');
            // Two stages for two platforms, put together in a third one, have to say them.
            let named = stage
                .name
                .as_ref()
                .is_some_and(|n| n.contains("linux") || n.contains("arm") || n.contains("amd"));
            if constant && !named && globals.is_declared("TARGETPLATFORM") {
                self.add(
                    "FromPlatformFlagConstDisallowed",
                    &platform.place,
                    format!("{platform} whatever the build is for: use an argument such as $BUILDPLATFORM"),
                );
            }
        }
    }

    fn base_names(&mut self, globals: &Globals) {
        let mut found = Vec::new();
        for stage in &self.dockerfile.stages {
            for word in std::iter::once(&stage.base).chain(&stage.platform) {
                let Ok(text) = globals.text_of_from(word) else { continue };
                for name in text.unset.iter().filter(|n| !globals.is_declared(n)) {
                    let platforms = [
                        "TARGETPLATFORM",
                        "TARGETOS",
                        "TARGETARCH",
                        "TARGETVARIANT",
                        "BUILDPLATFORM",
                        "BUILDOS",
                        "BUILDARCH",
                        "BUILDVARIANT",
                    ];
                    let declared = self.dockerfile.globals.iter().map(|d| &*d.name);
                    let hint = match nearest(name, declared.chain(platforms)) {
                        Some(near) => format!(" (did you mean ${near}?)"),
                        None => String::new(),
                    };
                    found.push((
                        word.place.clone(),
                        format!("no ARG before the first FROM declares {name}{hint}"),
                    ));
                }
            }
        }
        for (place, text) in found {
            self.add("UndefinedArgInFrom", &place, text);
        }
    }

    /// A base's name that only build arguments make possible.
    fn defaults(&mut self) -> Result<()> {
        let globals = Globals::new(self.dockerfile, &BTreeMap::new(), self.known.platforms)?;
        let mut found = Vec::new();
        for stage in self.dockerfile.stages.iter().filter(|s| s.base.contains('$')) {
            let base = globals.text_of_from(&stage.base)?.text;
            if base != "scratch" && crate::model::reference::Reference::parse(&base).is_err() {
                found.push((
                    stage.base.place.clone(),
                    format!(
                        "with the defaults of its arguments, {} is '{base}', which is no image",
                        stage.base
                    ),
                ));
            }
        }
        for (place, text) in found {
            self.add("InvalidDefaultArgInFrom", &place, text);
        }
        Ok(())
    }

    fn stage(&mut self, stage: &Stage) {
        let mut last: BTreeMap<Keyword, &Statement> = BTreeMap::new();
        let mut own_shell = false;
        let mut absolute = self.inherits_absolute_workdir(stage);
        for statement in &stage.statements {
            let keyword = statement.instruction.keyword();
            if matches!(keyword, Keyword::Cmd | Keyword::Entrypoint | Keyword::Healthcheck)
                && let Some(before) = last.insert(keyword, statement)
            {
                let place = before.place.clone();
                self.add(
                    "MultipleInstructionsDisallowed",
                    &place,
                    format!("a later {keyword} of this stage replaces it"),
                );
            }
            match &statement.instruction {
                Instruction::Shell(_) => own_shell = true,
                Instruction::Cmd(CommandLine::Shell(line)) | Instruction::Entrypoint(CommandLine::Shell(line))
                    if !own_shell && !line.trim_start().starts_with('[') =>
                {
                    self.add(
                        "JSONArgsRecommended",
                        &statement.place,
                        format!("{keyword} as a JSON array: a shell in between keeps signals to itself"),
                    );
                }
                Instruction::Maintainer(_) => {
                    self.add(
                        "MaintainerDeprecated",
                        &statement.place,
                        "use LABEL org.opencontainers.image.authors=…",
                    );
                }
                Instruction::Workdir(path) => {
                    let text = path.trim_start_matches(['"', '\'']);
                    if text.starts_with('/') || text.starts_with('$') {
                        absolute = true;
                    } else if !absolute {
                        self.add(
                            "WorkdirRelativePath",
                            &path.place,
                            format!("'{path}' depends on the base image"),
                        );
                        absolute = true;
                    }
                }
                Instruction::Env(pairs) => {
                    for pair in pairs {
                        self.secret(&pair.name, keyword);
                    }
                }
                Instruction::Arg(all) => {
                    for declaration in all {
                        self.secret(&declaration.name, keyword);
                    }
                }
                Instruction::Expose(words) => self.ports(words),
                Instruction::Copy(transfer) | Instruction::Add(transfer) if transfer.from.is_none() => {
                    self.copied(&transfer.sources);
                }
                _ => {}
            }
        }
    }

    /// Whether an earlier stage that this one stands on has set an absolute directory.
    fn inherits_absolute_workdir(&self, stage: &Stage) -> bool {
        let mut base = &stage.base;
        let mut before = stage.index;
        // Each step goes to an earlier stage.
        while let Some(earlier) = self.dockerfile.stages[..before]
            .iter()
            .rev()
            .find(|s| s.name.as_deref().is_some_and(|n| n.eq_ignore_ascii_case(base)))
        {
            if earlier
                .statements
                .iter()
                .any(|s| matches!(&s.instruction, Instruction::Workdir(p) if p.starts_with('/')))
            {
                return true;
            }
            base = &earlier.base;
            before = earlier.index;
        }
        false
    }

    fn secret(&mut self, name: &Word, keyword: Keyword) {
        let parts: Vec<String> = name.to_ascii_lowercase().split('_').map(str::to_owned).collect();
        let last = parts.last().map_or("", String::as_str);
        let public = parts.iter().any(|p| p == "public") || matches!(last, "file" | "path" | "url" | "uri");
        let words = [
            "password",
            "passwd",
            "pword",
            "pswd",
            "pass",
            "token",
            "secret",
            "secrets",
            "credential",
            "credentials",
            "apikey",
            "auth",
        ];
        let key = last == "key" && parts.len() > 1;
        if !public && (key || parts.iter().any(|p| words.contains(&p.as_str()))) {
            self.add(
                "SecretsUsedInArgOrEnv",
                &name.place,
                format!("{keyword} {name} stays in the image's history: use RUN --mount=type=secret"),
            );
        }
    }

    fn ports(&mut self, words: &[Word]) {
        for word in words.iter().filter(|w| !w.contains('$')) {
            let (port, protocol) = word.split_once('/').unwrap_or((word, ""));
            if protocol.chars().any(char::is_uppercase) {
                self.add("ExposeProtoCasing", &word.place, format!("'{protocol}' in lower case"));
            }
            if port.contains(':') {
                self.add(
                    "ExposeInvalidFormat",
                    &word.place,
                    format!("'{word}': EXPOSE names the container's port only"),
                );
            }
        }
    }

    fn copied(&mut self, sources: &[Word]) {
        for source in sources {
            let plain = !source.contains(['*', '?', '[', '$', '\\']) && !source.contains("://");
            if plain && (self.known.ignored)(source) {
                self.add(
                    "CopyIgnoredFile",
                    &source.place,
                    format!("the ignore file leaves '{source}' out"),
                );
            }
        }
    }

    /// A comment right above a stage or an argument says what that is, and begins with its name: `--call outline` shows
    /// it. An experiment of docker's, off unless it is asked for.
    fn descriptions(&mut self) {
        let mut named: Vec<(&Place, Vec<&str>, &str)> = Vec::new();
        let dockerfile = self.dockerfile;
        for declaration in &dockerfile.globals {
            named.push((&declaration.name.place, vec![&declaration.name], "argument"));
        }
        for stage in &dockerfile.stages {
            named.extend(
                stage
                    .name
                    .as_deref()
                    .map(|name| (&stage.place, vec![name], "build stage")),
            );
            for statement in &stage.statements {
                if let Instruction::Arg(all) = &statement.instruction {
                    named.push((
                        &statement.place,
                        all.iter().map(|a| &*a.name.text).collect(),
                        "argument",
                    ));
                }
            }
        }
        for (place, names, what) in named {
            let Some(comment) = place.comment_above() else { continue };
            let first = comment.split(' ').next().unwrap_or_default();
            // A directive is no description.
            if names.contains(&first) || place.line <= 4 && comment.contains('=') && !comment.contains(' ') {
                continue;
            }
            let name = if names.len() == 1 { names[0] } else { "NAME" };
            self.add(
                "InvalidDefinitionDescription",
                place,
                format!("a comment right above the {what} should begin with its name: `# {name} what it is`"),
            );
        }
    }

    /// Variables that nothing sets; only where the base's environment is known.
    fn variables(&mut self, globals: &Globals) -> Result<()> {
        let request = plan::Request {
            target: self.known.target,
            contexts: self.known.contexts,
            all_stages: true,
            replace_base: None,
        };
        let plan = match plan::plan(self.dockerfile, globals, request) {
            Ok(plan) => plan,
            // That has been said.
            Err(_) if self.findings.iter().any(|f| f.rule == "InvalidDefaultArgInFrom") => return Ok(()),
            Err(e) => return Err(e),
        };
        let mut scopes: BTreeMap<usize, Scope> = BTreeMap::new();
        for planned in &plan.stages {
            if let Base::Image(name) = &planned.base {
                let wanted = planned.platform.as_ref().unwrap_or(&self.known.platforms.target);
                let found = (self.known.platform_of)(name);
                if let Some(found) = found.filter(|f| (&f.os, &f.architecture) != (&wanted.os, &wanted.architecture)) {
                    let place = &self.dockerfile.stages[planned.index].place;
                    self.add(
                        "InvalidBaseImagePlatform",
                        place,
                        format!("{name} is here for {found}, where {wanted} is built"),
                    );
                }
            }
            let path = || vec![ByteString::from(format!("PATH={DEFAULT_PATH}"))];
            let base = match &planned.base {
                Base::Scratch => Some(Scope::stage(globals, &path())),
                Base::Stage(index) => scopes.get(index).map(Scope::on_top),
                Base::Image(name) => {
                    (self.known.env_of)(name).map(|env| Scope::stage(globals, &[path(), env].concat()))
                }
                Base::Context(_) => None,
            };
            let Some(mut scope) = base else { continue };
            for statement in &self.dockerfile.stages[planned.index].statements {
                // What is wrong with values shows when it is built.
                let Ok(expanded) = scope.statement(statement) else {
                    continue;
                };
                // ARG NAME declares what it reads.
                for name in expanded.unset.iter().filter(|n| !scope.declares(n)) {
                    let hint = match nearest(name, scope.names()) {
                        Some(near) => format!(" (did you mean ${near}?)"),
                        None => String::new(),
                    };
                    self.add("UndefinedVar", &statement.place, format!("nothing sets ${name}{hint}"));
                }
            }
            scopes.insert(planned.index, scope);
        }
        Ok(())
    }
}

/// Names of all rules, for near misses in `# check=skip=`.
#[cfg(test)]
pub(crate) const RULES: &[&str] = &[
    "ConsistentInstructionCasing",
    "CopyIgnoredFile",
    "DuplicateStageName",
    "ExposeInvalidFormat",
    "ExposeProtoCasing",
    "FromAsCasing",
    "FromPlatformFlagConstDisallowed",
    "InvalidBaseImagePlatform",
    "InvalidDefaultArgInFrom",
    "InvalidDefinitionDescription",
    "JSONArgsRecommended",
    "LegacyKeyValueFormat",
    "MaintainerDeprecated",
    "MultipleInstructionsDisallowed",
    "NoEmptyContinuation",
    "RedundantTargetPlatform",
    "ReservedStageName",
    "SecretsUsedInArgOrEnv",
    "StageNameCasing",
    "UndefinedArgInFrom",
    "UndefinedVar",
    "WorkdirRelativePath",
];

#[cfg(test)]
#[path = "lint_tests.rs"]
mod tests;
