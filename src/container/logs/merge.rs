//! The logs of several containers as one, by the times of their records; of each it ends where the log ended when it was
//! opened, so that one that writes all the time keeps no other from being followed.

use super::files::{BLOCK, LogFile};
use super::print::Printer;
use crate::error::Result;
use crate::model::log::{Record, Stamp};
use std::collections::VecDeque;
use std::ops::Range;

/// What is left of one log.
pub(super) struct Source {
    files: VecDeque<LogFile>,
    /// Of the last file, what is after this is not history.
    end: u64,
    /// Whole lines of the first file.
    buffer: Vec<u8>,
    filled: usize,
    /// The next line in the buffer, without its newline, and its time; one without a time goes with the one before.
    line: Option<Range<usize>>,
    time: Option<Stamp>,
}

impl Source {
    /// `files`: oldest first.
    pub(super) fn new(files: Vec<LogFile>) -> Result<Source> {
        let mut source = Source {
            end: files.last().map_or(Ok(0), LogFile::length)?,
            files: files.into(),
            buffer: vec![0; BLOCK],
            filled: 0,
            line: Some(0..0),
            time: None,
        };
        source.advance(0)?;
        Ok(source)
    }

    /// The file that is written to, read up to where the history ends.
    pub(super) fn into_last(mut self) -> Option<LogFile> {
        self.files.pop_back()
    }

    /// The line that begins at `start`, or the first of what follows.
    fn advance(&mut self, mut start: usize) -> Result<()> {
        self.line = None;
        while start >= self.filled {
            let last = self.files.len() == 1;
            let file = match (last, self.files.front_mut()) {
                (true, Some(file)) if file.offset() >= self.end => return Ok(()),
                (_, Some(file)) => file,
                (_, None) => return Ok(()),
            };
            self.filled = file.fill(&mut self.buffer)?;
            start = 0;
            if self.filled == 0 {
                if last {
                    return Ok(());
                }
                self.files.pop_front();
            }
        }
        let end = memchr::memchr(b'\n', &self.buffer[start..self.filled]).map_or(self.filled, |at| start + at);
        if let Some(record) = Record::parse(&self.buffer[start..end]) {
            self.time = Some(record.time);
        }
        self.line = Some(start..end);
        Ok(())
    }
}

/// Prints the records of all, the earliest first; of the same time, in the order of the containers.
pub(super) fn merge(sources: &mut [Source], printers: &mut [Printer<'_>]) -> Result<()> {
    let mut before: Option<usize> = None;
    loop {
        let there = sources.iter().enumerate().filter(|(_, s)| s.line.is_some());
        let Some(n) = there.min_by_key(|(n, s)| (s.time, *n)).map(|(n, _)| n) else {
            break;
        };
        if let Some(other) = before.filter(|other| *other != n) {
            printers[other].flush()?;
        }
        before = Some(n);
        let source = &mut sources[n];
        let line = source.line.take().unwrap_or_default();
        let more = printers[n].line(&source.buffer[line.clone()])?;
        match more {
            true => source.advance(line.end + 1)?,
            false => source.files.clear(),
        }
    }
    printers.iter_mut().try_for_each(Printer::flush)
}
