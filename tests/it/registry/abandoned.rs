//! Uploads that do not come to their end: the registry is told.

use crate::support::http::{Service, respond};
use crate::support::registry::{barge, leave_the_machine};
use crate::support::{Host, seconds, wait_until};
use nix::sys::signal::Signal;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

/// What the registry does with a blob's PUT and DELETE.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Takes,
    Refuses,
    /// Neither has an answer, until it takes.
    Sleeps,
    /// The PUT alone has none.
    Listens,
}

struct Sleepy {
    name: String,
    mood: Arc<(Mutex<Mood>, Condvar)>,
    seen: Arc<Mutex<Vec<String>>>,
    _service: Service,
}

impl Sleepy {
    fn new() -> Sleepy {
        leave_the_machine();
        let mood = Arc::new((Mutex::new(Mood::Takes), Condvar::new()));
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let (inner, log) = (mood.clone(), seen.clone());
        let service = Service::start(0, move |request, stream| {
            let method = request.method.clone();
            request.body();
            log.lock().unwrap().push(format!("{method} {}", request.path));
            let mood = |sleeping: &[Mood]| {
                let mood = inner.0.lock().unwrap();
                *inner.1.wait_while(mood, |mood| sleeping.contains(mood)).unwrap()
            };
            let (status, headers): (u16, &[(&str, &str)]) = match method.as_str() {
                "POST" => (202, &[("Location", "/v2/up/1")]),
                "PUT" if request.path.contains("/manifests/") => (201, &[]),
                "PUT" => match mood(&[Mood::Sleeps, Mood::Listens]) {
                    Mood::Refuses => (400, &[]),
                    _ => (201, &[]),
                },
                "DELETE" => {
                    mood(&[Mood::Sleeps]);
                    (204, &[])
                }
                "GET" if request.path == "/v2/" => (200, &[]),
                _ => (404, &[]),
            };
            respond(stream, status, headers, b"{}");
        });
        Sleepy {
            name: format!("127.0.0.1:{}/a:1", service.port()),
            mood,
            seen,
            _service: service,
        }
    }

    fn be(&self, mood: Mood) {
        *self.mood.0.lock().unwrap() = mood;
        self.mood.1.notify_all();
        self.seen.lock().unwrap().clear();
    }

    fn saw(&self, start: &str) -> bool {
        self.seen.lock().unwrap().iter().any(|line| line.starts_with(start))
    }
}

#[test]
fn what_was_sent_of_a_blob_is_taken_back() {
    let host = Host::new();
    let registry = Sleepy::new();
    let push = || barge(&host, ["push", "--retry", "0", "tiny", &registry.name]);
    push().run().ok();
    assert!(!registry.saw("DELETE"));
    registry.be(Mood::Refuses);
    push().run().fails(1);
    assert!(registry.saw("DELETE /v2/up/1"));
    // Somebody ends it; a registry that is asleep holds nobody for long, and who is impatient not at all.
    for (mood, signal, times) in [
        (Mood::Listens, Signal::SIGINT, 1),
        (Mood::Listens, Signal::SIGTERM, 1),
        (Mood::Sleeps, Signal::SIGINT, 1),
        (Mood::Sleeps, Signal::SIGINT, 2),
    ] {
        registry.be(mood);
        // Who runs the tests may be deaf to it.
        let process = push()
            .wrapped(["env", "--default-signal=INT"])
            .env("BARGE_REGISTRY_TIMEOUT", "600")
            .timeout(seconds(30))
            .spawn();
        wait_until("the blob to be on its way", || registry.saw("PUT /v2/up/1"));
        let begun = Instant::now();
        process.signal(signal);
        wait_until("it to be taken back", || registry.saw("DELETE /v2/up/1"));
        for _ in 1..times {
            process.signal(signal);
        }
        let code = process.wait().code;
        assert_eq!(code, 128 + signal as i32);
        assert!(begun.elapsed() < seconds(20));
    }
    // Who was told to be deaf to it goes on.
    registry.be(Mood::Listens);
    let process = push()
        .shell("trap '' INT; exec \"$@\"")
        .env("BARGE_REGISTRY_TIMEOUT", "600")
        .spawn();
    wait_until("the blob to be on its way", || registry.saw("PUT /v2/up/1"));
    process.signal(Signal::SIGINT);
    assert!(!registry.saw("DELETE"));
    registry.be(Mood::Takes);
    process.wait().ok();
    assert!(!registry.saw("DELETE"));
}
