//! What goes wrong between us and a server, in words of one line, and whether trying again could help.

use crate::error::Error;
use crate::registry::retry::Reason;
use crate::registry::text::clean;
use std::io;

/// A request that got no answer, or one that can't be used.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) reason: Reason,
    /// The other side does not speak TLS, or nobody listens at its port: where plain http is allowed, it is next.
    pub(crate) perhaps_plain: bool,
    pub(crate) error: Error,
}

impl Trouble {
    pub(crate) fn fatal(error: Error) -> Trouble {
        Trouble {
            reason: Reason::Fatal,
            perhaps_plain: false,
            error,
        }
    }

    fn new(reason: Reason, message: impl Into<String>) -> Trouble {
        Trouble {
            reason,
            perhaps_plain: false,
            error: Error::other(message),
        }
    }

    fn plain(mut self) -> Trouble {
        self.perhaps_plain = true;
        self
    }
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Error {
        trouble.error
    }
}

/// A failed exchange with `host`.
pub(crate) fn explain(e: ureq::Error, host: &str) -> Trouble {
    match e {
        ureq::Error::Io(e) => explain_io(&e, host),
        ureq::Error::Rustls(e) => tls(&e, host),
        ureq::Error::HostNotFound => no_such_host(host, "it has no address"),
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
            Trouble::new(Reason::Unreachable, format!("connect to {host}: no answer in time")).plain()
        }
        ureq::Error::Timeout(_) => Trouble::new(Reason::Broken, format!("{host} has stalled")),
        ureq::Error::ConnectionFailed => Trouble::new(Reason::Unreachable, format!("connect to {host}")).plain(),
        ureq::Error::ConnectProxyFailed(why) => Trouble::new(
            Reason::Unreachable,
            format!("connect to {host} through the proxy: {}", clean(&why)),
        ),
        ureq::Error::InvalidProxyUrl => Trouble::fatal(Error::other("the address of the proxy is invalid")),
        ureq::Error::LargeResponseHeader(..) => {
            Trouble::fatal(Error::other(format!("{host}: the header of the answer is too long")))
        }
        ureq::Error::Protocol(e) => Trouble::new(
            Reason::Broken,
            format!("{host} does not speak HTTP: {}", clean(&e.to_string())),
        )
        .plain(),
        ureq::Error::Tls(why) => Trouble::fatal(Error::other(format!("{host}: TLS: {why}"))),
        other => Trouble::fatal(Error::other(format!("{host}: {}", clean(&other.to_string())))),
    }
}

/// A failed read or write on a connection to `host`.
pub(crate) fn explain_io(e: &io::Error, host: &str) -> Trouble {
    if let Some(inner) = e.get_ref() {
        if let Some(e) = inner.downcast_ref::<rustls::Error>() {
            return tls(e, host);
        }
        if let Some(ureq::Error::Timeout(_)) = inner.downcast_ref::<ureq::Error>() {
            return Trouble::new(Reason::Broken, format!("{host} has stalled"));
        }
    }
    use io::ErrorKind as K;
    if e.to_string() == "tls handshake eof" {
        return no_https(
            Reason::Unreachable,
            &format!("{host} has cut the connection instead of answering in https"),
        );
    }
    let what = || format!("connect to {host}: {}", Error::from(io::Error::from(e.kind())));
    match e.kind() {
        K::ConnectionRefused => Trouble::new(Reason::Unreachable, what()).plain(),
        K::HostUnreachable | K::NetworkUnreachable | K::NetworkDown | K::AddrNotAvailable => {
            Trouble::new(Reason::Unreachable, what())
        }
        K::TimedOut | K::WouldBlock => Trouble::new(Reason::Broken, format!("{host} has stalled")),
        K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe | K::UnexpectedEof => {
            Trouble::new(Reason::Broken, format!("{host} has cut the connection")).plain()
        }
        _ if e.to_string().contains("lookup address") => no_such_host(host, &lookup_cause(&e.to_string())),
        _ => Trouble::new(
            Reason::Broken,
            format!(
                "{host}: {}",
                clean(&Error::from(io::Error::other(e.to_string())).to_string())
            ),
        ),
    }
}

fn no_https(reason: Reason, what: &str) -> Trouble {
    let hint = "where plain http shall do: `insecure = true` for it in registries.conf, or --tls-verify=false";
    Trouble {
        reason,
        perhaps_plain: true,
        error: Error::other(what).with_hint(hint),
    }
}

fn no_such_host(host: &str, why: &str) -> Trouble {
    let mut trouble = Trouble::new(Reason::Unreachable, format!("look up {host}: {why}"));
    trouble.error = trouble.error.with_hint("is this machine online, and the name right?");
    trouble
}

/// getaddrinfo's words, without Rust's.
fn lookup_cause(text: &str) -> String {
    clean(text.rsplit(": ").next().unwrap_or(text)).to_lowercase()
}

fn tls(e: &rustls::Error, host: &str) -> Trouble {
    use rustls::CertificateError as C;
    use rustls::Error as E;
    let certificate = |why: String, hint: &str| {
        let e = Error::other(format!("{host}: {why}"));
        Trouble::fatal(match hint {
            "" => e,
            hint => e.with_hint(hint),
        })
    };
    match e {
        E::InvalidMessage(_) => no_https(Reason::Fatal, &format!("{host} does not speak https")),
        E::InvalidCertificate(C::Expired | C::ExpiredContext { .. }) => certificate(
            "its certificate has expired".to_owned(),
            "or is the clock of this machine wrong?",
        ),
        E::InvalidCertificate(C::NotValidYet | C::NotValidYetContext { .. }) => certificate(
            "its certificate is not valid yet".to_owned(),
            "or is the clock of this machine wrong?",
        ),
        E::InvalidCertificate(C::UnknownIssuer) => certificate(
            "its certificate is signed by an unknown authority".to_owned(),
            &format!("put the authority's certificate into /etc/containers/certs.d/{host}/ca.crt"),
        ),
        E::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. }) => {
            certificate("its certificate is for another name".to_owned(), "")
        }
        E::InvalidCertificate(C::Revoked) => certificate("its certificate was revoked".to_owned(), ""),
        E::AlertReceived(alert) => {
            let alert = format!("{alert:?}");
            match alert.contains("Certificate") || alert.contains("UnknownCA") {
                true => certificate(
                    format!("it wants a client certificate that it knows ({alert})"),
                    &format!("put it into /etc/containers/certs.d/{host}/ as client.cert and client.key"),
                ),
                false => certificate(format!("it refused the TLS connection ({alert})"), ""),
            }
        }
        other => certificate(format!("TLS: {}", clean(&other.to_string())), ""),
    }
}
