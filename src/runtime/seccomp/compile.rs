//! Rules by system call number → a filter program: first a switch over the architecture, then for each a binary search
//! over ranges of numbers, then, for the few calls that have any, checks of their arguments.
//!
//! Kernels before 5.11 run this at every system call, and the time to load it grows with its length: docker's profile
//! as a list takes ten times as long as this.

use super::arch::{ARM_PRIVATE, Arch, NUMBERS, SLOTS, X32_BIT};
use super::bpf::{Assembler, Compare, Field, Fork, Label};
use super::rule::{Action, Check, Condition, Op};
use libc::sock_filter;

/// What is decided for a range of numbers, or of values of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Return(Action),
    /// The place in [`Rules::chains`].
    Chain(usize),
}

/// A range: where it begins (it ends where the next one does), and what holds in it.
type Range = (u32, Outcome);

/// The rules of a profile, by architecture and number.
pub(super) struct Rules<'a> {
    default: Action,
    arches: Vec<(Arch, Vec<Range>)>,
    /// Checks of one system call, with the rules they came from.
    chains: Vec<(Vec<usize>, Vec<&'a Check>)>,
}

impl<'a> Rules<'a> {
    pub(super) fn new(default: Action) -> Rules<'a> {
        Rules {
            default,
            arches: Vec::with_capacity(3),
            chains: Vec::new(),
        }
    }

    /// Adds an architecture. `slots` has an entry for each slot (see [`Arch::slot`]): which of `rules` name that call,
    /// in their order. Of a call's checks the first that holds counts.
    ///
    /// A call with a number above all that the profile names is newer than the profile, and does not exist as far as
    /// the program can tell: an error other than ENOSYS would keep it from trying the older call (as runc does it).
    pub(super) fn add<I>(&mut self, arch: Arch, rules: &[&'a [Check]], slots: impl Iterator<Item = I>)
    where
        I: Iterator<Item = usize> + Clone,
    {
        let mut ranges = Vec::with_capacity(SLOTS / 4);
        let mut private = Vec::new();
        let mut last = None;
        for (slot, named) in (0..).zip(slots) {
            if slot < NUMBERS {
                if named.clone().next().is_some() {
                    last = Some(number(slot));
                }
                push(&mut ranges, number(slot), self.outcome(rules, named));
            } else if arch == Arch::Arm {
                push(
                    &mut private,
                    number(slot - NUMBERS) + ARM_PRIVATE,
                    self.outcome(rules, named),
                );
            }
        }
        if let Some(last) = last {
            ranges.retain(|(start, _)| *start <= last);
            push(&mut ranges, last + 1, self.beyond());
        }
        private
            .into_iter()
            .for_each(|(start, outcome)| push(&mut ranges, start, outcome));
        self.arches.push((arch, ranges));
    }

    fn beyond(&self) -> Outcome {
        Outcome::Return(if self.default.lets_through() {
            self.default
        } else {
            Action::ENOSYS
        })
    }

    fn outcome(&mut self, rules: &[&'a [Check]], mut named: impl Iterator<Item = usize> + Clone) -> Outcome {
        let all = named.clone();
        match named.next().and_then(|first| rules[first].first()) {
            None => return Outcome::Return(self.default),
            Some(check) if check.conditions.is_empty() => return Outcome::Return(check.action),
            Some(_) => {}
        }
        let known = self
            .chains
            .iter()
            .position(|(from, _)| from.iter().copied().eq(all.clone()));
        Outcome::Chain(known.unwrap_or_else(|| {
            self.chains
                .push((all.clone().collect(), all.flat_map(|rule| rules[rule]).collect()));
            self.chains.len() - 1
        }))
    }

    /// The program, if it is not too long for the kernel.
    pub(super) fn compile(mut self) -> Option<Vec<sock_filter>> {
        let mut assembler = Assembler::new();
        let x32 = self
            .arches
            .iter()
            .position(|(arch, _)| *arch == Arch::X32)
            .map(|i| self.arches.swap_remove(i));
        let mut entry = assembler.ret(Action::KILL_PROCESS);
        for (arch, mut ranges) in std::mem::take(&mut self.arches).into_iter().rev() {
            if arch == Arch::X86_64 {
                self.join_x32(&mut ranges, x32.as_ref().map(|(_, ranges)| ranges.as_slice()));
            }
            let mut block = Block {
                assembler: &mut assembler,
                rules: &self,
                chains: Vec::new(),
                wide: arch.wide(),
            };
            let tree = block.tree(&ranges);
            let block = assembler.load(Field::Number, tree);
            entry = assembler.branch(Compare::Equal, arch.audit(), Fork { yes: block, no: entry });
        }
        assembler.load(Field::Arch, entry);
        assembler.finish()
    }

    /// The kernel gives x32 the audit number of x86-64; only a bit of the system call's number tells them apart. Where
    /// x32 is not wanted its calls are those of a foreign architecture; -1 is not one of them, but what a tracer leaves
    /// of a call it took over.
    fn join_x32(&self, ranges: &mut Vec<Range>, x32: Option<&[Range]>) {
        match x32 {
            Some(x32) => x32
                .iter()
                .for_each(|(start, outcome)| push(ranges, start | X32_BIT, *outcome)),
            None => {
                push(ranges, X32_BIT, Outcome::Return(Action::KILL_PROCESS));
                push(ranges, u32::MAX, self.beyond());
            }
        }
    }
}

/// Adds a range, unless it only goes on with the last one.
fn push(ranges: &mut Vec<Range>, start: u32, outcome: Outcome) {
    if ranges.last().is_none_or(|(_, last)| *last != outcome) {
        ranges.push((start, outcome));
    }
}

fn number(slot: usize) -> u32 {
    u32::try_from(slot).unwrap_or(u32::MAX)
}

/// The part of the program for one architecture.
struct Block<'a, 'b> {
    assembler: &'a mut Assembler,
    rules: &'a Rules<'b>,
    /// Chains written already.
    chains: Vec<(usize, Label)>,
    wide: bool,
}

impl Block<'_, '_> {
    fn label(&mut self, outcome: Outcome) -> Label {
        match outcome {
            Outcome::Return(action) => self.assembler.ret(action),
            Outcome::Chain(index) => match self.chains.iter().find(|(i, _)| *i == index) {
                Some((_, label)) => *label,
                None => {
                    let label = self.chain(&self.rules.chains[index].1);
                    self.chains.push((index, label));
                    label
                }
            },
        }
    }

    /// A search for the loaded word.
    fn tree(&mut self, ranges: &[Range]) -> Label {
        if let Some(label) = self.leaf(ranges) {
            return label;
        }
        let middle = split(ranges);
        let fork = Fork {
            yes: self.tree(&ranges[middle..]),
            no: self.tree(&ranges[..middle]),
        };
        self.assembler.branch(Compare::GreaterOrEqual, ranges[middle].0, fork)
    }

    /// Ranges that few comparisons tell apart: one for all but a few single numbers, or just two.
    fn leaf(&mut self, ranges: &[Range]) -> Option<Label> {
        match ranges {
            [(_, all)] => Some(self.label(*all)),
            [(_, left), (start, right)] => {
                let fork = Fork {
                    no: self.label(*left),
                    yes: self.label(*right),
                };
                Some(self.assembler.branch(Compare::GreaterOrEqual, *start, fork))
            }
            [(_, base), rest @ ..] if rest.len() <= 6 && rest.len().is_multiple_of(2) => {
                let single = |pair: &[Range]| pair[1].1 == *base && pair[1].0 == pair[0].0 + 1;
                if !rest.chunks_exact(2).all(single) {
                    return None;
                }
                let mut label = self.label(*base);
                for (number, outcome) in rest.iter().step_by(2).rev() {
                    let fork = Fork {
                        yes: self.label(*outcome),
                        no: label,
                    };
                    label = self.assembler.branch(Compare::Equal, *number, fork);
                }
                Some(label)
            }
            _ => None,
        }
    }

    /// The checks of one system call.
    fn chain(&mut self, checks: &[&Check]) -> Label {
        let checks: Vec<(Vec<Condition>, Action)> = checks
            .iter()
            .map(|check| {
                let fit = |c: &Condition| if self.wide { *c } else { c.narrowed() };
                (check.conditions.iter().map(fit).collect(), check.action)
            })
            .collect();
        if let Some(label) = self.search(&checks) {
            return label;
        }
        let mut entry = self.assembler.ret(self.rules.default);
        for (conditions, action) in checks.iter().rev() {
            let mut yes = self.assembler.ret(*action);
            for condition in conditions.iter().rev() {
                yes = self.condition(*condition, Fork { yes, no: entry });
            }
            entry = yes;
        }
        entry
    }

    fn condition(&mut self, condition: Condition, fork: Fork) -> Label {
        let Condition { argument, op, value } = condition;
        let (at_least, more) = (Compare::GreaterOrEqual, Compare::Greater);
        match op {
            Op::Equal => self.masked(argument, u64::MAX, value, fork),
            Op::NotEqual => self.masked(argument, u64::MAX, value, fork.swapped()),
            Op::Masked(mask) => self.masked(argument, mask, value, fork),
            Op::GreaterOrEqual => self.ordered(argument, at_least, value, fork),
            Op::Less => self.ordered(argument, at_least, value, fork.swapped()),
            Op::Greater => self.ordered(argument, more, value, fork),
            Op::LessOrEqual => self.ordered(argument, more, value, fork.swapped()),
        }
    }

    fn masked(&mut self, argument: u8, mask: u64, value: u64, fork: Fork) -> Label {
        let lower = self.masked_word(Field::Low(argument), low_word(mask), low_word(value), fork);
        if !self.wide {
            return lower;
        }
        self.masked_word(
            Field::High(argument),
            high_word(mask),
            high_word(value),
            Fork { yes: lower, ..fork },
        )
    }

    fn masked_word(&mut self, field: Field, mask: u32, value: u32, fork: Fork) -> Label {
        match (mask, value) {
            (0, 0) => return fork.yes,
            (0, _) => return fork.no,
            _ => {}
        }
        let mut next = self.assembler.branch(Compare::Equal, value, fork);
        if mask != u32::MAX {
            next = self.assembler.and(mask, next);
        }
        self.assembler.load(field, next)
    }

    /// 64 bits in two steps: the upper half decides, unless it is equal.
    fn ordered(&mut self, argument: u8, compare: Compare, value: u64, fork: Fork) -> Label {
        let lower = self.assembler.branch(compare, low_word(value), fork);
        let lower = self.assembler.load(Field::Low(argument), lower);
        if !self.wide {
            return lower;
        }
        let high = high_word(value);
        let equal = self.assembler.branch(
            Compare::Equal,
            high,
            Fork {
                yes: lower,
                no: fork.no,
            },
        );
        let upper = self.assembler.branch(
            Compare::Greater,
            high,
            Fork {
                yes: fork.yes,
                no: equal,
            },
        );
        self.assembler.load(Field::High(argument), upper)
    }

    /// Checks that all compare one and the same argument, which therefore can be searched for, as long as no value has
    /// more than 32 bits.
    fn search(&mut self, checks: &[(Vec<Condition>, Action)]) -> Option<Label> {
        let argument = checks.first()?.0.first()?.argument;
        let searchable = |conditions: &[Condition]| match conditions {
            [one] => one.argument == argument && !matches!(one.op, Op::Masked(_)) && one.value <= u64::from(u32::MAX),
            _ => false,
        };
        if checks.len() < 2 || !checks.iter().all(|(conditions, _)| searchable(conditions)) {
            return None;
        }
        let mut starts: Vec<u64> = checks
            .iter()
            .flat_map(|(c, _)| [c[0].value, c[0].value + 1])
            .chain([0])
            .collect();
        starts.sort_unstable();
        starts.dedup();
        let decide = |argument: u64| {
            let found = checks.iter().find(|(conditions, _)| conditions[0].holds(argument));
            found.map_or(self.rules.default, |(_, action)| *action)
        };
        let mut ranges = Vec::with_capacity(starts.len());
        for start in starts {
            if let Ok(word) = u32::try_from(start) {
                push(&mut ranges, word, Outcome::Return(decide(start)));
            }
        }
        let above = decide(u64::MAX);
        let tree = self.tree(&ranges);
        let lower = self.assembler.load(Field::Low(argument), tree);
        if !self.wide {
            return Some(lower);
        }
        let above = self.assembler.ret(above);
        let upper = self.assembler.branch(Compare::Equal, 0, Fork { yes: lower, no: above });
        Some(self.assembler.load(Field::High(argument), upper))
    }
}

/// Where to cut `ranges` in two: in the middle, but not beside a single number between two equal ranges.
fn split(ranges: &[Range]) -> usize {
    let single = |i: usize| {
        i > 0 && i + 1 < ranges.len() && ranges[i - 1].1 == ranges[i + 1].1 && ranges[i + 1].0 == ranges[i].0 + 1
    };
    let middle = ranges.len() / 2;
    let good = |i: &usize| (1..ranges.len()).contains(i) && !single(*i) && !single(*i - 1);
    [middle, middle + 1, middle - 1, middle + 2, middle.saturating_sub(2)]
        .into_iter()
        .find(good)
        .unwrap_or(middle)
}

#[allow(clippy::cast_possible_truncation)] // the lower half is what is wanted
fn low_word(value: u64) -> u32 {
    value as u32
}

fn high_word(value: u64) -> u32 {
    low_word(value >> 32)
}
