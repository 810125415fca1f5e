//! Where the last lines of a log begin, found from its end, over all its files.

use super::Span;
use super::files::{LONGEST_LINE, LogFile};
use crate::error::{Context, Result};
use crate::model::log::{Record, Stream};
use std::os::unix::fs::FileExt;

/// Bytes read at once, from the end on.
const BLOCK: usize = 32 * 1024;

/// Drops from `files` (oldest first) what comes before the last `tail` lines of the span.
pub(super) fn skip_to_tail(files: &mut Vec<LogFile>, tail: u64, span: Span) -> Result<()> {
    let mut count = Count {
        left: tail,
        span,
        in_line: [false; 2],
    };
    for at in (0..files.len()).rev() {
        if let Some(offset) = start_in(&files[at], &mut count)? {
            files[at].seek(offset);
            files.drain(..at);
            break;
        }
    }
    Ok(())
}

/// Counts lines, met from the last to the first.
struct Count {
    left: u64,
    span: Span,
    /// Of each stream: the next record belongs to a line that has been counted, unless it ends one itself.
    in_line: [bool; 2],
}

impl Count {
    /// Whether `line` is wanted.
    fn takes(&mut self, line: &[u8]) -> bool {
        let Some(record) = Record::parse(line) else { return true };
        if self.span.is_after(record.time) {
            return true;
        }
        let in_line = &mut self.in_line[usize::from(record.stream == Stream::Stderr)];
        if record.ends_line() || !*in_line {
            if self.left == 0 || self.span.is_before(record.time) {
                return false;
            }
            self.left -= 1;
            *in_line = true;
        }
        true
    }
}

/// The offset of the first wanted line; `None` if all are wanted, and perhaps more of older files.
fn start_in(log: &LogFile, count: &mut Count) -> Result<Option<u64>> {
    let file = log.file();
    let mut end = file.metadata()?.len();
    let mut size = BLOCK;
    while end > 0 {
        let start = end.saturating_sub(size as u64);
        let mut block = vec![0; usize::try_from(end - start).unwrap_or(size)];
        file.read_exact_at(&mut block, start).context("read log")?;
        // The first line may have begun before the block.
        let first = match memchr::memchr(b'\n', &block) {
            _ if start == 0 || size >= LONGEST_LINE => 0,
            Some(at) if at + 1 < block.len() => at + 1,
            _ => {
                size *= 2;
                continue;
            }
        };
        let mut rest = &block[first..];
        while !rest.is_empty() {
            let line_end = rest.strip_suffix(b"\n").unwrap_or(rest);
            let line = memchr::memrchr(b'\n', line_end).map_or(0, |at| at + 1);
            if !count.takes(&line_end[line..]) {
                return Ok(Some(start + (first + rest.len()) as u64));
            }
            rest = &rest[..line];
        }
        end = start + first as u64;
        size = BLOCK;
    }
    Ok(None)
}
