//! Tables, properties, and a bounded fuzz of the message parser.

use super::*;

fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.').filter(|l| !l.is_empty()) {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    message
}

fn with_edns(mut message: Vec<u8>, size: u16, version: u8) -> Vec<u8> {
    message[11] += 1;
    let [high, low] = size.to_be_bytes();
    message.extend_from_slice(&[0, 0, 41, high, low, 0, version, 0x80, 0, 0, 0]);
    message
}

fn name_of(message: &[u8]) -> Option<String> {
    let query = parse(message).unwrap();
    query.name(message, &mut name_buffer()).map(str::to_owned)
}

/// A small generator: xorshift, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[3]
    }
}

#[test]
fn a_question_is_read() {
    let message = question("Web-1.Example_x", AAAA);
    let query = parse(&message).unwrap();
    assert_eq!((query.kind, query.udp_limit(), query.end), (AAAA, 512, message.len()));
    assert!(query.is_ordinary() && query.wants(AAAA) && !query.wants(A));
    assert_eq!(name_of(&message).unwrap(), "web-1.example_x");
    assert_eq!(name_of(&question("", A)).unwrap(), "");
    let edns = with_edns(message, 4096, 0);
    assert_eq!(parse(&edns).unwrap().udp_limit(), 1232);
    assert_eq!(parse(&with_edns(question("a", A), 100, 0)).unwrap().udp_limit(), 512);
}

#[test]
fn what_is_no_name_of_ours_is_not_taken_for_one() {
    let mut message = question("a-b", A);
    message[14] = b'.';
    assert_eq!(name_of(&message), None);
    message[14] = 0xff;
    assert_eq!(name_of(&message), None);
    message[14] = 0;
    assert_eq!(name_of(&message), None);
}

#[test]
fn hostile_messages() {
    let good = question("web", A);
    for length in 0..HEADER {
        assert_eq!(parse(&good[..length]), Err(Fault::Drop), "{length}");
    }
    for length in HEADER..good.len() {
        assert_eq!(parse(&good[..length]), Err(Fault::Refuse(rcode::FORMAT)), "{length}");
    }
    let mut response = good.clone();
    response[2] |= 0x80;
    assert_eq!(parse(&response), Err(Fault::Drop));
    type Change = fn(&mut Vec<u8>);
    let cases: [(&str, Change); 7] = [
        ("no question", |m| m[5] = 0),
        ("many questions", |m| m[4] = 0xff),
        ("pointer to itself", |m| {
            m[HEADER..HEADER + 2].copy_from_slice(&[0xc0, 12])
        }),
        ("pointer past the end", |m| {
            m[HEADER..HEADER + 2].copy_from_slice(&[0xff, 0xff]);
        }),
        ("reserved label", |m| m[HEADER] = 0x80),
        ("label past the end", |m| m[HEADER] = 63),
        ("records that are not there", |m| m[11] = 1),
    ];
    for (what, change) in cases {
        let mut message = good.clone();
        change(&mut message);
        assert_eq!(parse(&message), Err(Fault::Refuse(rcode::FORMAT)), "{what}");
    }
    let long = ["x".repeat(63), "y".repeat(63), "z".repeat(63), "w".repeat(61)].join(".");
    assert!(parse(&question(&long, A)).is_ok());
    assert!(parse(&question(&format!("{long}y"), A)).is_err());
    assert!(name_of(&question(&long, A)).is_some());
}

#[test]
fn addresses_by_name() {
    for (name, expected) in [
        ("4.3.2.1.in-addr.arpa", Some("1.2.3.4")),
        (
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
            Some("2001:db8::1"),
        ),
        ("3.2.1.in-addr.arpa", None),
        ("5.4.3.2.1.in-addr.arpa", None),
        ("256.3.2.1.in-addr.arpa", None),
        ("04.3.2.1.in-addr.arpa", None),
        ("1.2.ip6.arpa", None),
        ("in-addr.arpa", None),
        ("web", None),
    ] {
        assert_eq!(reverse(name), expected.map(|a| a.parse().unwrap()), "{name}");
    }
    let many = "1.".repeat(64) + "ip6.arpa";
    assert_eq!(reverse(&many), None);
}

#[test]
fn answers() {
    let addresses = ["10.0.0.2", "fd00::2"].map(|a| Record::Address(a.parse().unwrap()));
    let message = question("web", A);
    let query = parse(&message).unwrap();
    let mut out = Vec::new();
    answer(&message, &query, &addresses[..1], 512, &mut out);
    let expected = [
        &[0x12, 0x34, 0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 0][..],
        &message[HEADER..],
        &[0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 10, 0, 0, 2],
    ];
    assert_eq!(out, expected.concat());

    let message = with_edns(question("web", ANY), 1400, 0);
    let query = parse(&message).unwrap();
    answer(&message, &query, &addresses, 512, &mut out);
    assert_eq!((out[7], out[11]), (2, 1));
    let tail = [0, 0, 41, 0x04, 0xd0, 0, 0, 0x80, 0, 0, 0];
    assert!(out.ends_with(&tail), "{out:?}");

    let message = question("2.0.0.10.in-addr.arpa", PTR);
    answer(
        &message,
        &parse(&message).unwrap(),
        &[Record::Name("web.net".to_owned())],
        512,
        &mut out,
    );
    assert!(out.ends_with(b"\x00\x09\x03web\x03net\x00"));

    // Nothing of that kind: a name without records.
    answer(&message, &parse(&message).unwrap(), &[], 512, &mut out);
    assert_eq!((code(&out), out[7]), (rcode::OK, 0));

    let message = with_edns(question("web", A), 1400, 1);
    answer(&message, &parse(&message).unwrap(), &addresses, 512, &mut out);
    assert_eq!(
        (out[7], out[out.len() - 6]),
        (0, 1),
        "a version that is not known has code 16"
    );
}

#[test]
fn an_answer_that_is_too_long_says_so() {
    let message = question("many", A);
    let query = parse(&message).unwrap();
    let records: Vec<_> = (0..100).map(|n| Record::Address(Ipv4Addr::from(n).into())).collect();
    let mut out = Vec::new();
    answer(&message, &query, &records, 512, &mut out);
    assert!(out.len() <= 512 && out[2] & 0x02 != 0);
    assert_eq!(out[7], 30);
    answer(&message, &query, &records, 65_535, &mut out);
    assert_eq!((out[2] & 0x02, out[7]), (0, 100));
}

#[test]
fn replies_are_judged() {
    let message = question("Web.example", A);
    let asked = &message[HEADER..];
    let mut reply = message.clone();
    reply[2] |= 0x80;
    assert_eq!(judge(&reply, 0x1234, asked), Reply::Answer);
    assert_eq!(judge(&message, 0x1234, asked), Reply::Foreign, "a question is no reply");
    assert_eq!(judge(&reply, 0x1235, asked), Reply::Foreign);
    assert_eq!(judge(&reply[..11], 0x1234, asked), Reply::Foreign);
    assert_eq!(
        judge(&reply, 0x1234, &question("other.example", A)[HEADER..]),
        Reply::Foreign
    );
    let lower = reply.to_ascii_lowercase();
    assert_eq!(judge(&lower, 0x1234, asked), Reply::Answer);
    reply[3] = 5;
    assert_eq!(judge(&reply, 0x1234, asked), Reply::Failure);
    reply[3] = 3;
    assert_eq!(judge(&reply, 0x1234, asked), Reply::Answer, "no such name is an answer");
    let bare = [0x12, 0x34, 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(judge(&bare, 0x1234, asked), Reply::Failure);
    let bare = [0x12, 0x34, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(judge(&bare, 0x1234, asked), Reply::Foreign);
}

/// Whatever comes in, nothing panics, and whatever goes out can be read again.
#[test]
fn fuzz() {
    let mut random = Random(0x5eed_0001_2345_6789);
    let seeds = [
        question("web", A),
        with_edns(question("a.b.c.example", AAAA), 4096, 0),
        question("4.3.2.1.in-addr.arpa", PTR),
    ];
    let records = [
        Record::Address("10.0.0.2".parse().unwrap()),
        Record::Name("web.net".to_owned()),
    ];
    let mut out = Vec::new();
    for round in 0..200_000 {
        let mut message = match round % 4 {
            0 => (0..random.below(64)).map(|_| random.byte()).collect(),
            n => seeds[n - 1].clone(),
        };
        for _ in 0..random.below(6) {
            if !message.is_empty() {
                let at = random.below(message.len());
                message[at] = random.byte();
            }
        }
        message.truncate(message.len().saturating_sub(random.below(4)));
        judge(&message, id(&message), &seeds[0][HEADER..]);
        match parse(&message) {
            Ok(query) => {
                let _ = query.name(&message, &mut name_buffer()).map(reverse);
                assert!(query.end <= message.len());
                let limit = query.udp_limit();
                answer(&message, &query, &records, limit, &mut out);
                assert!(out.len() <= limit && id(&out) == id(&message));
                out[2] &= 0x7f;
                let again = Query {
                    edns: None,
                    ..parse(&[&out[..6], &[0; 6], &out[HEADER..]].concat()).unwrap()
                };
                assert_eq!(again, Query { edns: None, ..query });
            }
            Err(Fault::Refuse(code)) => {
                refuse(&message, None, code, &mut out);
                assert_eq!(out.len(), HEADER);
            }
            Err(Fault::Drop) => {}
        }
    }
}
