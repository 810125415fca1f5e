//! A proxy between the engine and a registry that does what networks do: cuts, corrupts, stalls, lies. It also keeps a
//! record of what was asked.
//!
//! ```
//! let proxy = Faults::before(&registry);
//! proxy.fail("GET", "/blobs/", 1, Fault::CutAfter(1000));
//! registry::barge(&host, ["pull", &proxy.name("a:1")]).run().ok();
//! ```

use super::http::{Request, Service, head, respond};
use super::registry::{Registry, leave_the_machine};
use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Debug, Clone)]
pub enum Fault {
    /// The connection ends after so many bytes of the body.
    CutAfter(u64),
    /// One bit is wrong, in the byte at this place of the body.
    Corrupt(u64),
    /// Nothing more after so many bytes, for as long as the client waits.
    StallAfter(u64),
    /// So many bytes each 10 ms.
    Slow(usize),
    /// This answer instead.
    Answer(u16, Vec<(String, String)>, Vec<u8>),
    /// Content-Length says so many more, or fewer, than there are.
    Length(i64),
    /// So many more bytes than there are, without a Content-Length.
    Extra(u64),
    /// The Range of the request is not passed on.
    NoRange,
    /// To this address.
    Redirect(String),
    /// To itself.
    Circle,
}

impl Fault {
    pub fn status(code: u16) -> Fault {
        Fault::Answer(code, Vec::new(), b"{}".to_vec())
    }

    pub fn busy(seconds: u32) -> Fault {
        Fault::Answer(429, vec![("Retry-After".into(), seconds.to_string())], b"{}".to_vec())
    }

    pub fn html() -> Fault {
        let headers = vec![("Content-Type".into(), "text/html; charset=utf-8".into())];
        Fault::Answer(200, headers, b"<html><body>Welcome to the hotel</body></html>".to_vec())
    }
}

struct Rule {
    method: String,
    path: String,
    times: usize,
    fault: Fault,
}

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub authorization: Option<String>,
    pub range: Option<String>,
}

pub struct Faults {
    pub host: String,
    rules: Arc<Mutex<Vec<Rule>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    _service: Service,
}

impl Faults {
    /// In front of a registry that speaks plain http, at a port that is free.
    pub fn before(registry: &Registry) -> Faults {
        Faults::to(&registry.host)
    }

    pub fn to(upstream: &str) -> Faults {
        leave_the_machine();
        let rules = Arc::<Mutex<Vec<Rule>>>::default();
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let (inner_rules, inner_seen, upstream) = (rules.clone(), seen.clone(), upstream.to_owned());
        let service = Service::start(0, move |request, stream| {
            inner_seen.lock().unwrap().push(Seen {
                method: request.method.clone(),
                path: request.path.clone(),
                authorization: request.header("authorization").map(str::to_owned),
                range: request.header("range").map(str::to_owned),
            });
            let fault = take(&mut inner_rules.lock().unwrap(), request);
            relay(request, stream, &upstream, fault);
        });
        Faults {
            host: format!("127.0.0.1:{}", service.port()),
            rules,
            seen,
            _service: service,
        }
    }

    /// The next `times` requests of this method (any, if empty) with `path` in their path fail so. The first rule that
    /// fits is used up before the next.
    pub fn fail(&self, method: &str, path: &str, times: usize, fault: Fault) {
        self.rules.lock().unwrap().push(Rule {
            method: method.to_owned(),
            path: path.to_owned(),
            times,
            fault,
        });
    }

    pub fn clear(&self) {
        self.rules.lock().unwrap().clear();
    }

    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host)
    }

    /// What was asked since the last call.
    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    /// The same as lines: `GET /v2/a/manifests/1`.
    pub fn lines(&self) -> Vec<String> {
        self.seen().iter().map(|s| format!("{} {}", s.method, s.path)).collect()
    }
}

fn take(rules: &mut [Rule], request: &Request) -> Option<Fault> {
    let rule = rules.iter_mut().find(|r| {
        r.times > 0 && (r.method.is_empty() || r.method == request.method) && request.path.contains(&r.path)
    })?;
    rule.times -= 1;
    Some(rule.fault.clone())
}

fn relay(request: &mut Request, stream: &mut TcpStream, upstream: &str, fault: Option<Fault>) {
    let borrowed = |headers: &'_ [(String, String)]| -> Vec<(String, String)> { headers.to_vec() };
    match &fault {
        Some(Fault::Answer(status, headers, body)) => {
            let headers = borrowed(headers);
            let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            return respond(stream, *status, &headers, body);
        }
        Some(Fault::Redirect(to)) => return respond(stream, 307, &[("Location", to)], b""),
        Some(Fault::Circle) => return respond(stream, 307, &[("Location", &request.path.clone())], b""),
        _ => {}
    }
    let Ok(mut up) = TcpStream::connect(upstream) else {
        return;
    };
    let mut text = format!("{} {} HTTP/1.1\r\nConnection: close\r\n", request.method, request.path);
    for (name, value) in &request.headers {
        let dropped = matches!(fault, Some(Fault::NoRange)) && name.eq_ignore_ascii_case("range");
        if !dropped && !name.eq_ignore_ascii_case("connection") {
            text += &format!("{name}: {value}\r\n");
        }
    }
    if up.write_all(format!("{text}\r\n").as_bytes()).is_err() {
        return;
    }
    let buffered = request.reader.buffer().to_vec();
    let (mut client, mut to_registry) = (stream.try_clone().unwrap(), up.try_clone().unwrap());
    let sender = std::thread::spawn(move || {
        let _ = to_registry.write_all(&buffered);
        let _ = std::io::copy(&mut client, &mut to_registry);
    });
    answer(request, &mut BufReader::new(up.try_clone().unwrap()), stream, fault);
    let _ = stream.shutdown(Shutdown::Both);
    let _ = up.shutdown(Shutdown::Both);
    let _ = sender.join();
}

/// Passes the answer on, with what the fault makes of it.
fn answer(request: &Request, up: &mut BufReader<TcpStream>, stream: &mut TcpStream, fault: Option<Fault>) {
    let Some((first, headers)) = head(up) else { return };
    let mut text = format!("{first}\r\nConnection: close\r\n");
    for (name, value) in &headers {
        if name.eq_ignore_ascii_case("connection") {
            continue;
        }
        let length = name.eq_ignore_ascii_case("content-length");
        match &fault {
            Some(Fault::Length(more)) if length => {
                text += &format!("Content-Length: {}\r\n", value.parse::<i64>().unwrap() + more);
            }
            Some(Fault::Extra(_)) if length => {}
            _ => text += &format!("{name}: {value}\r\n"),
        }
    }
    if stream.write_all(format!("{text}\r\n").as_bytes()).is_err() || request.method == "HEAD" {
        return;
    }
    let mut at = 0_u64;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let mut want = buffer.len();
        match &fault {
            Some(Fault::CutAfter(n)) if at >= *n => return,
            Some(Fault::CutAfter(n)) => want = want.min((n - at).try_into().unwrap()),
            Some(Fault::StallAfter(n)) if at >= *n => {
                // Until the client has enough of it.
                let _ = stream.set_read_timeout(Some(Duration::from_secs(120)));
                let _ = stream.read(&mut [0]);
                return;
            }
            Some(Fault::StallAfter(n)) => want = want.min((n - at).try_into().unwrap()),
            Some(Fault::Slow(n)) => {
                want = want.min(*n);
                std::thread::sleep(Duration::from_millis(10));
            }
            _ => {}
        }
        let n = match up.read(&mut buffer[..want]) {
            Ok(n) if n > 0 => n,
            _ => break,
        };
        if let Some(Fault::Corrupt(place)) = &fault
            && (at..at + n as u64).contains(place)
        {
            buffer[usize::try_from(place - at).unwrap()] ^= 1;
        }
        at += n as u64;
        if stream.write_all(&buffer[..n]).is_err() {
            return;
        }
    }
    if let Some(Fault::Extra(n)) = fault {
        let _ = stream.write_all(&vec![b'x'; n.try_into().unwrap()]);
    }
}
