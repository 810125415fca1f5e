//! HTTP/1.1 for tests, one request for each connection: what a token server, a proxy with faults or a server of fixed
//! answers needs. Threads belong to the namespace of the thread that starts the service.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
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
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
}

impl Service {
    /// On the loopback; port 0 is any that is free.
    pub fn start(port: u16, answer: impl Fn(&mut Request, &mut TcpStream) + Send + Sync + 'static) -> Service {
        Service::start_at(&format!("127.0.0.1:{port}"), answer)
    }

    pub fn start_at(address: &str, answer: impl Fn(&mut Request, &mut TcpStream) + Send + Sync + 'static) -> Service {
        Service::listen(address, move |stream| {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let Some((first, headers)) = head(&mut reader) else {
                // As servers do with TLS at a port without.
                return respond(stream, 400, &[], b"Bad Request");
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
            answer(&mut request, stream);
        })
    }

    /// Passes bytes on, whatever they are.
    pub fn start_raw(address: &str, upstream: &str) -> Service {
        let upstream = upstream.to_owned();
        Service::listen(address, move |stream| {
            let Ok(mut up) = TcpStream::connect(&upstream) else {
                return;
            };
            let (mut a, mut b) = (stream.try_clone().unwrap(), up.try_clone().unwrap());
            let back = std::thread::spawn(move || {
                let _ = std::io::copy(&mut b, &mut a);
                let _ = a.shutdown(Shutdown::Both);
            });
            let _ = std::io::copy(stream, &mut up);
            let _ = up.shutdown(Shutdown::Both);
            let _ = back.join();
        })
    }

    pub fn listen(address: &str, serve: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Service {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, serve) = (stop.clone(), Arc::new(serve));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                let (Ok(mut stream), serve) = (stream, serve.clone()) else {
                    continue;
                };
                std::thread::spawn(move || {
                    let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
                    serve(&mut stream);
                    finish(&mut stream);
                });
            }
        });
        Service {
            address,
            stop,
            listener: Some(thread),
        }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

/// Closes so that what was written arrives: unread input would turn the close into a reset.
fn finish(stream: &mut TcpStream) {
    let _ = stream.shutdown(Shutdown::Write);
    // A client that is slow to send, as on a busy machine, would never see the answer otherwise.
    let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
    let mut rest = [0; 65536];
    while stream.read(&mut rest).is_ok_and(|n| n > 0) {}
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Wakes the listener; the thread that drops is in the namespace the listener is in.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.listener.take() {
            let _ = thread.join();
        }
    }
}

/// What a server answered.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, v)| v.as_str())
    }
}

/// Asks `host` (plain http) and reads the answer to its end.
pub fn ask(host: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut text = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{text}\r\n").as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut reader = BufReader::new(stream);
    let (first, headers) = head(&mut reader).unwrap();
    let length = headers.iter().find(|(n, _)| n.eq_ignore_ascii_case("content-length"));
    let length = length.map_or(u64::MAX, |(_, v)| v.parse().unwrap());
    let mut answer = Vec::new();
    if method != "HEAD" {
        reader.take(length).read_to_end(&mut answer).unwrap();
    }
    Answer {
        status: first.split(' ').nth(1).unwrap().parse().unwrap(),
        headers,
        body: answer,
    }
}
