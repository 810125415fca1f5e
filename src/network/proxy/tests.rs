//! Tests of the proxy alone: real sockets on the loopback of a network namespace of each test's own.

use super::*;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(20);

/// This thread, and those it starts, in a network of their own.
fn own_network() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("these tests need root");
    crate::sys::interface::loopback_up().unwrap();
}

fn until(what: &str, mut met: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !met() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A proxy in a thread, as it is in a monitor: one poll, one call.
struct Running {
    stop: Arc<AtomicBool>,
    /// Seconds that the clock is ahead.
    ahead: Arc<AtomicU64>,
    connections: Arc<AtomicUsize>,
    flows: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn new(listeners: Vec<Listener>) -> Running {
        Running::inside(listeners, None)
    }

    fn inside(listeners: Vec<Listener>, inside: Option<OwnedFd>) -> Running {
        let stop = Arc::new(AtomicBool::new(false));
        let ahead = Arc::new(AtomicU64::new(0));
        let connections = Arc::new(AtomicUsize::new(0));
        let flows = Arc::new(AtomicUsize::new(0));
        let shared = (stop.clone(), ahead.clone(), connections.clone(), flows.clone());
        let thread = std::thread::spawn(move || {
            let (stop, ahead, connections, flows) = shared;
            let clock = move || Instant::now() + Duration::from_secs(ahead.load(Ordering::SeqCst));
            let now = clock.clone();
            let mut proxy = Proxy::with_clock(listeners, inside, Box::new(clock)).unwrap();
            while !stop.load(Ordering::SeqCst) {
                let mut poll = [nix::poll::PollFd::new(proxy.fd(), nix::poll::PollFlags::POLLIN)];
                let found = nix::poll::poll(&mut poll, 5u16).unwrap();
                if found > 0 || proxy.deadline().is_some_and(|at| at <= now()) {
                    proxy.ready();
                }
                connections.store(proxy.connections.len(), Ordering::SeqCst);
                flows.store(proxy.flows.len(), Ordering::SeqCst);
            }
        });
        Running {
            stop,
            ahead,
            connections,
            flows,
            thread: Some(thread),
        }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn flows(&self) -> usize {
        self.flows.load(Ordering::SeqCst)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}

fn tcp(at: SocketAddr, to: SocketAddr) -> (SocketAddr, Listener) {
    let socket = crate::network::publish::socket_at(Protocol::Tcp, at).unwrap();
    (
        rustix_name(&socket),
        Listener {
            backend: Backend(to),
            protocol: Protocol::Tcp,
            socket,
        },
    )
}

fn udp(at: SocketAddr, to: SocketAddr) -> (SocketAddr, Listener) {
    let socket = crate::network::publish::socket_at(Protocol::Udp, at).unwrap();
    (
        rustix_name(&socket),
        Listener {
            backend: Backend(to),
            protocol: Protocol::Udp,
            socket,
        },
    )
}

fn rustix_name(socket: &OwnedFd) -> SocketAddr {
    rustix::net::getsockname(socket).unwrap().try_into().unwrap()
}

fn v4(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn v6(port: u16) -> SocketAddr {
    (Ipv6Addr::LOCALHOST, port).into()
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn connect(to: SocketAddr) -> TcpStream {
    patient(TcpStream::connect(to).unwrap())
}

/// A server that does the same to each of `count` connections.
fn server(
    at: SocketAddr,
    count: usize,
    act: impl Fn(TcpStream) + Send + Sync + 'static,
) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind(at).unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        std::thread::scope(|scope| {
            for _ in 0..count {
                let stream = patient(listener.accept().unwrap().0);
                scope.spawn(|| act(stream));
            }
        });
    });
    (address, thread)
}

fn echo(mut stream: TcpStream) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match stream.read(&mut buffer).unwrap() {
            0 => break,
            n => stream.write_all(&buffer[..n]).unwrap(),
        }
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|i| (((i * 31) >> 3) & 0xff).try_into().unwrap())
        .collect()
}

/// Sends `length` bytes that come back, closing its end in between.
fn round_trip(mut stream: TcpStream, length: usize) {
    let sent = pattern(length);
    let mut writer = stream.try_clone().unwrap();
    let copy = sent.clone();
    let thread = std::thread::spawn(move || {
        writer.write_all(&copy).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    thread.join().unwrap();
    assert!(got == sent, "{} of {length} bytes came back, or other ones", got.len());
}

#[test]
fn tcp_over_both_families_and_across() {
    own_network();
    for (at, backend) in [(v4(0), v4(0)), (v6(0), v6(0)), (v6(0), v4(0)), (v4(0), v6(0))] {
        let (to, thread) = server(backend, 3, echo);
        let (at, listener) = tcp(at, to);
        let proxy = Running::new(vec![listener]);
        for length in [0, 1, 300_000] {
            round_trip(connect(at), length);
        }
        thread.join().unwrap();
        until("the connections' end", || proxy.connections() == 0);
    }
}

#[test]
fn dual_stack_on_one_port() {
    own_network();
    let (to, thread) = server(v4(0), 2, echo);
    let (any4, first) = tcp((Ipv4Addr::UNSPECIFIED, 0).into(), to);
    let port = any4.port();
    let (_, second) = tcp((Ipv6Addr::UNSPECIFIED, port).into(), to);
    let _proxy = Running::new(vec![first, second]);
    round_trip(connect(v4(port)), 1000);
    round_trip(connect(v6(port)), 1000);
    thread.join().unwrap();
}

#[test]
fn bulk_goes_through_pipes_both_ways() {
    own_network();
    let (to, thread) = server(v4(0), 3, echo);
    let (at, listener) = tcp(v4(0), to);
    let proxy = Running::new(vec![listener]);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| round_trip(connect(at), 24 << 20));
        }
    });
    thread.join().unwrap();
    until("the connections' end", || proxy.connections() == 0);
}

#[test]
fn each_end_is_closed_by_itself() {
    own_network();
    // The server speaks only when the client has ended.
    let (to, thread) = server(v4(0), 1, |mut stream| {
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        stream.write_all(format!("{} bytes", got.len()).as_bytes()).unwrap();
    });
    let (at, listener) = tcp(v4(0), to);
    let proxy = Running::new(vec![listener]);
    let mut client = connect(at);
    client.write_all(&[7; 5000]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut said = String::new();
    client.read_to_string(&mut said).unwrap();
    assert_eq!(said, "5000 bytes");
    thread.join().unwrap();
    drop(proxy);

    // And the client when the server has.
    let (sender, receiver) = std::sync::mpsc::channel();
    let (to, thread) = server(v4(0), 1, move |mut stream| {
        stream.write_all(b"bye").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        sender.send(got.len()).unwrap();
    });
    let (at, listener) = tcp(v4(0), to);
    let proxy = Running::new(vec![listener]);
    let mut client = connect(at);
    let mut said = String::new();
    client.read_to_string(&mut said).unwrap();
    assert_eq!(said, "bye");
    client.write_all(&[1; 3000]).unwrap();
    drop(client);
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), 3000);
    thread.join().unwrap();
    until("the connection's end", || proxy.connections() == 0);
}

#[test]
fn a_server_that_is_not_there_resets() {
    own_network();
    let nobody = TcpListener::bind(v4(0)).unwrap().local_addr().unwrap();
    let (at, listener) = tcp(v4(0), nobody);
    let proxy = Running::new(vec![listener]);
    let mut client = connect(at);
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    until("the connection's end", || proxy.connections() == 0);
}

#[test]
fn a_write_error_resets_the_other_end() {
    own_network();
    let (to, thread) = server(v4(0), 1, |mut stream| {
        stream.read_exact(&mut [0; 10]).unwrap();
        // Closed with a reset, what is still on the way unread.
        reset_on_close(&stream);
    });
    let (at, listener) = tcp(v4(0), to);
    let proxy = Running::new(vec![listener]);
    let mut client = connect(at);
    let ended = loop {
        if let Err(e) = client.write_all(&[0; 64 << 10]) {
            break e.kind();
        }
    };
    assert!(
        matches!(ended, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
        "{ended}"
    );
    thread.join().unwrap();
    until("the connection's end", || proxy.connections() == 0);
}

fn reset_on_close(stream: &TcpStream) {
    tcp::reset(stream.as_fd());
}

#[test]
fn a_slow_reader_holds_up_nobody_else() {
    own_network();
    let (to, thread) = server(v4(0), 2, echo);
    let (at, listener) = tcp(v4(0), to);
    let proxy = Running::new(vec![listener]);
    // Never reads: its data stays where it is until the kernel's buffers are full.
    let mut slow = TcpStream::connect(at).unwrap();
    slow.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    while slow.write(&[0; 64 << 10]).is_ok() {}
    round_trip(connect(at), 1 << 20);
    reset_on_close(&slow);
    drop(slow);
    until("the connections' end", || proxy.connections() == 0);
    drop(thread);
}

#[test]
fn many_connections_at_once() {
    own_network();
    const MANY: usize = 1500;
    let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, 16384, 65536);
    let listener = TcpListener::bind(v4(0)).unwrap();
    let to = listener.local_addr().unwrap();
    let (at, proxied) = tcp(v4(0), to);
    let proxy = Running::new(vec![proxied]);
    let mut pairs = Vec::new();
    for _ in 0..MANY {
        let client = connect(at);
        pairs.push((client, patient(listener.accept().unwrap().0)));
    }
    until("all of them", || proxy.connections() == MANY);
    for (client, server) in &mut pairs {
        client.write_all(b"ping").unwrap();
        let mut got = [0; 4];
        server.read_exact(&mut got).unwrap();
        server.write_all(&got).unwrap();
    }
    for (client, _) in &mut pairs {
        let mut got = [0; 4];
        client.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"ping");
    }
    drop(pairs);
    until("the connections' end", || proxy.connections() == 0);
}

/// Answers `count` datagrams with what they say.
fn udp_server(at: SocketAddr, count: usize) -> (SocketAddr, JoinHandle<()>) {
    let socket = UdpSocket::bind(at).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = socket.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        for _ in 0..count {
            let (n, from) = socket.recv_from(&mut buffer).unwrap();
            socket.send_to(&buffer[..n], from).unwrap();
        }
    });
    (address, thread)
}

fn udp_client(to: SocketAddr) -> UdpSocket {
    let any: IpAddr = if to.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // Connected: an answer from another address than the one that was asked is not received.
    socket.connect(to).unwrap();
    socket
}

fn ask(client: &UdpSocket, question: &[u8]) {
    client.send(question).unwrap();
    let mut buffer = vec![0; 1 << 16];
    let n = client.recv(&mut buffer).unwrap();
    assert!(&buffer[..n] == question, "{n} of {} bytes", question.len());
}

#[test]
fn udp_over_both_families_and_across() {
    own_network();
    for (at, backend) in [(v4(0), v4(0)), (v6(0), v6(0)), (v6(0), v4(0))] {
        let (to, thread) = udp_server(backend, 6);
        let (at, listener) = udp(at, to);
        let proxy = Running::new(vec![listener]);
        let (first, second) = (udp_client(at), udp_client(at));
        for client in [&first, &second] {
            ask(client, b"x");
            ask(client, b"");
            // The longest there is.
            ask(client, &pattern(65507));
        }
        thread.join().unwrap();
        until("a flow for each client", || proxy.flows() == 2);
    }
}

#[test]
fn udp_answers_come_from_the_address_asked() {
    own_network();
    let (to, thread) = udp_server(v4(0), 2);
    let (at, listener) = udp((Ipv4Addr::UNSPECIFIED, 0).into(), to);
    let _proxy = Running::new(vec![listener]);
    for ip in [[127, 0, 0, 1], [127, 0, 0, 77]] {
        ask(&udp_client((ip, at.port()).into()), b"who");
    }
    thread.join().unwrap();
}

#[test]
fn udp_outlives_a_server_that_was_not_there() {
    own_network();
    let nobody = UdpSocket::bind(v4(0)).unwrap().local_addr().unwrap();
    let (at, listener) = udp(v4(0), nobody);
    let proxy = Running::new(vec![listener]);
    let client = udp_client(at);
    client.send(b"lost").unwrap();
    until("a flow", || proxy.flows() == 1);
    let (_, thread) = udp_server(nobody, 1);
    // The refusal of the first one must not cost the second.
    ask(&client, b"found");
    thread.join().unwrap();
}

#[test]
fn udp_clients_that_are_silent_are_forgotten() {
    own_network();
    let (to, thread) = udp_server(v4(0), 3);
    let (at, listener) = udp(v4(0), to);
    let proxy = Running::new(vec![listener]);
    let (first, second) = (udp_client(at), udp_client(at));
    ask(&first, b"1");
    proxy.ahead.store(60, Ordering::SeqCst);
    ask(&second, b"2");
    assert_eq!(proxy.flows(), 2);
    proxy.ahead.store(91, Ordering::SeqCst);
    until("the first one's end", || proxy.flows() == 1);
    ask(&first, b"3");
    until("a new flow", || proxy.flows() == 2);
    proxy.ahead.store(182, Ordering::SeqCst);
    until("everybody's end", || proxy.flows() == 0);
    thread.join().unwrap();
}

#[test]
fn udp_clients_are_limited() {
    own_network();
    let (to, _thread) = udp_server(v4(0), 0);
    let (at, listener) = udp(v4(0), to);
    let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, 16384, 65536);
    let proxy = Running::new(vec![listener]);
    // As many strangers as addresses of 127.0.0.0/8 give, from one socket each time.
    for n in 0..u16::try_from(udp::MOST + 50).unwrap() {
        let [a, b] = n.to_be_bytes();
        let client = UdpSocket::bind((Ipv4Addr::new(127, 1, a, b), 0)).unwrap();
        client.send_to(b"x", at).unwrap();
        if n % 64 == 0 {
            until("some to be taken", || proxy.flows() >= usize::from(n).min(udp::MOST));
        }
    }
    until("all there may be", || proxy.flows() == udp::MOST);
    proxy.ahead.store(11, Ordering::SeqCst);
    // Again and again: the proxy may have looked at its clock already; the last of the strangers may still be waiting.
    let client = udp_client(at);
    until("room for a new one", || {
        client.send(b"x").unwrap();
        (1..=50).contains(&proxy.flows())
    });
}

#[test]
fn inside_another_namespace() {
    own_network();
    let (sender, receiver) = std::sync::mpsc::channel();
    // A server on the loopback of a namespace of its own.
    let there = std::thread::spawn(move || {
        own_network();
        let netns = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        let (to, thread) = server(v4(0), 20, echo);
        let (udp_to, udp_thread) = udp_server(v4(0), 1);
        sender.send((netns, to, udp_to)).unwrap();
        thread.join().unwrap();
        udp_thread.join().unwrap();
    });
    let (netns, to, udp_to) = receiver.recv_timeout(PATIENCE).unwrap();
    let ((at, first), (udp_at, second)) = (tcp(v4(0), to), udp(v4(0), udp_to));
    let _proxy = Running::inside(vec![first, second], Some(netns.into()));
    for _ in 0..20 {
        round_trip(connect(at), 100);
    }
    ask(&udp_client(udp_at), b"in there");
    there.join().unwrap();
}

#[test]
fn old_events_find_nothing() {
    let mut table: Table<u8> = Table::new();
    let first = table.insert(1);
    assert_eq!(table.remove(first), Some(1));
    let second = table.insert(2);
    assert_eq!((first.index, table.get_mut(first)), (second.index, None));
    assert_eq!(table.remove(first), None);
    assert_eq!((table.len(), table.get_mut(second)), (1, Some(&mut 2)));
    for token in [
        Token::Listener(7),
        Token::Client(second),
        Token::Server(Place {
            index: u32::MAX,
            generation: 0x3fff_ffff,
        }),
        Token::Flow(first),
    ] {
        assert_eq!(Token::of(token.data()), token);
    }
}

#[test]
fn strangers_do_not_get_every_descriptor() {
    own_network();
    let (to, server) = server(v4(0), 3, echo);
    let (at, listener) = tcp(v4(0), to);
    let mut proxy = Proxy::new(vec![listener], None).unwrap();
    proxy.room = 2 * PER_CONNECTION;
    let mut clients: Vec<TcpStream> = (0..3).map(|_| connect(at)).collect();
    until("two of them", || {
        proxy.ready();
        proxy.connections.len() == 2
    });
    // The third one waits, nothing spins meanwhile, and there is an end to the waiting.
    assert!(proxy.deadline().is_some());
    let mut third = clients.pop().unwrap();
    third.write_all(b"x").unwrap();
    third.shutdown(Shutdown::Write).unwrap();
    third.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    assert!(third.read(&mut [0; 1]).is_err());
    drop(clients);
    until("its turn", || {
        proxy.ready();
        third.read(&mut [0; 1]).is_ok_and(|n| n == 1)
    });
    drop(third);
    until("all to end", || {
        proxy.ready();
        proxy.connections.len() == 0
    });
    server.join().unwrap();
}
