//! A reader of the event log that goes on and on: every line once, over rotations.

use super::Store;
use super::events::{EventFile, FILE, OLDER};

/// Files that may still get lines: a writer that opened one before its rotation writes there.
const KEPT: usize = 3;

/// Where a reader is.
#[derive(Debug, Default)]
pub(crate) struct EventTail {
    /// Oldest first.
    files: Vec<EventFile>,
}

impl EventTail {
    /// From the oldest line there is.
    pub(crate) fn new(store: &Store) -> EventTail {
        EventTail {
            files: store.event_files(),
        }
    }

    /// From the next line that is written.
    pub(crate) fn at_end(store: &Store) -> EventTail {
        let mut files = store.event_files();
        files.iter_mut().for_each(EventFile::seek_to_end);
        EventTail { files }
    }

    /// Hands on every whole line that has come since the last call.
    pub(crate) fn read(&mut self, store: &Store, line: &mut dyn FnMut(&[u8])) {
        for file in &mut self.files {
            file.read(line);
        }
        // Newest last, so that a rotation between the two is seen as one file that is known already.
        let newer: Vec<EventFile> = [FILE, OLDER]
            .iter()
            .filter_map(|name| EventFile::open(&store.events_dir().join(name)))
            .collect();
        for mut file in newer.into_iter().rev() {
            if self.files.iter().all(|known| known.inode != file.inode) {
                file.read(line);
                self.files.push(file);
            }
        }
        let surplus = self.files.len().saturating_sub(KEPT);
        self.files.drain(..surplus);
    }
}
