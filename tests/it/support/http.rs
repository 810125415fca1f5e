//! HTTP/1.1 for tests, one request for each connection: what a token server, a proxy with faults or a server of fixed
//! answers needs. Threads belong to the namespace of the thread that starts the service.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a client asked.
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub reader: BufReader<TcpStream>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, v)| v.as_str())
    }

    /// The body, if its length was said.
    pub fn body(&mut self) -> Vec<u8> {
        let length = self.header("content-length").map_or(0, |l| l.parse().unwrap());
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body).unwrap();
        body
    }
}

/// Reads the head of a request or an answer: the first line, and the headers.
pub fn head(reader: &mut impl BufRead) -> Option<(String, Vec<(String, String)>)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok().filter(|n| *n > 0)?;
        match header.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_owned(), value.trim().to_owned())),
            None => return Some((line.trim_end().to_owned(), headers)),
        }
    }
}

pub fn respond(stream: &mut TcpStream, status: u16, headers: &[(&str, &str)], body: &[u8]) {
    let mut text = format!(
        "HTTP/1.1 {status} Status\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    // Who asked may be gone.
    let _ = stream.write_all(format!("{text}\r\n").as_bytes());
    let _ = stream.write_all(body);
}

/// A server that answers until it is dropped.
pub struct Service {
    port: u16,
    stop: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
}

impl Service {
    pub fn start(port: u16, answer: impl Fn(&mut Request, &mut TcpStream) + Send + Sync + 'static) -> Service {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, answer) = (stop.clone(), Arc::new(answer));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                let (Ok(mut stream), answer) = (stream, answer.clone()) else {
                    continue;
                };
                std::thread::spawn(move || {
                    let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    let Some((first, headers)) = head(&mut reader) else {
                        return;
                    };
                    let mut words = first.split(' ').map(str::to_owned);
                    let (Some(method), Some(path)) = (words.next(), words.next()) else {
                        return;
                    };
                    let mut request = Request {
                        method,
                        path,
                        headers,
                        reader,
                    };
                    answer(&mut request, &mut stream);
                    finish(&mut stream);
                });
            }
        });
        Service {
            port,
            stop,
            listener: Some(thread),
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Closes so that what was written arrives: unread input would turn the close into a reset.
fn finish(stream: &mut TcpStream) {
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.set_read_timeout(Some(Duration::from_millis(500)));
    let mut rest = [0; 65536];
    while stream.read(&mut rest).is_ok_and(|n| n > 0) {}
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Wakes the listener; the thread that drops is in the namespace the listener is in.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.listener.take() {
            let _ = thread.join();
        }
    }
}
