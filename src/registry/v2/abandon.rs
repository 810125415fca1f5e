//! Uploads that nobody will end: an error or a signal came between. The registry is told, so that it need not keep what
//! was sent until it forgets of itself. Best effort, and never for longer than a moment.

use crate::registry::endpoint::{Call, To};
use crate::registry::http::Method;
use crate::registry::url::Url;
use crate::registry::v2::{Repository, Site};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

/// Who waits for it may have pressed Ctrl-C.
const MOMENT: Duration = Duration::from_secs(2);

/// Where the uploads to one place go on that have begun and not ended.
#[derive(Default)]
pub(super) struct Begun(Mutex<State>);

#[derive(Default)]
struct State {
    last: u64,
    by_number: BTreeMap<u64, Url>,
}

impl Begun {
    pub(super) fn enter(&self, location: Url) -> u64 {
        let mut state = self.state();
        state.last += 1;
        let number = state.last;
        state.by_number.insert(number, location);
        number
    }

    /// One that was taken back meanwhile stays so.
    pub(super) fn moved(&self, number: u64, to: &Url) {
        if let Some(location) = self.state().by_number.get_mut(&number) {
            *location = to.clone();
        }
    }

    /// It has ended, or will be taken back.
    pub(super) fn leave(&self, number: u64) -> Option<Url> {
        self.state().by_number.remove(&number)
    }

    fn leave_all(&self) -> Vec<Url> {
        std::mem::take(&mut self.state().by_number).into_values().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Repository {
    /// Takes back every upload that is on its way.
    pub(crate) fn abandon_uploads(&self) {
        for site in &self.places {
            abandon(site, site.begun.leave_all());
        }
    }
}

pub(super) fn abandon(site: &Arc<Site>, uploads: Vec<Url>) {
    if uploads.is_empty() {
        return;
    }
    let site = site.clone();
    let (told, done) = mpsc::channel();
    let asking = std::thread::Builder::new().name("abandon".to_owned()).spawn(move || {
        for location in uploads {
            let mut call = Call::new(Method::DELETE, To::Url(&location), &site.scopes);
            if let Ok(answer) = site.place.endpoint.attempt(&mut call) {
                answer.drain();
            }
        }
        let _ = told.send(());
    });
    if asking.is_ok() {
        let _ = done.recv_timeout(MOMENT);
    }
}
