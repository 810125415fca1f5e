//! hosts(5) of a container (F173): the usual names of the loopback, hosts that were asked for, linked containers, and the
//! container's own name at its own addresses.

use crate::model::name::ExtraHost;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a file begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Base {
    /// localhost and the usual names of IPv6.
    Usual,
    /// A file of the host's, as it is.
    Copied(Vec<u8>),
}

/// Everything the file is made of.
#[derive(Debug, Clone)]
pub(crate) struct Hosts<'a> {
    pub(crate) base: Base,
    pub(crate) hostname: &'a str,
    pub(crate) domainname: &'a str,
    /// The container's own; without any, its name is the loopback's. `None` leaves its name out.
    pub(crate) own: Option<Vec<IpAddr>>,
    pub(crate) extra: &'a [ExtraHost],
    /// What `host-gateway` stands for.
    pub(crate) gateway: IpAddr,
    /// Address and names of linked containers.
    pub(crate) links: Vec<(IpAddr, String)>,
}

impl Hosts<'_> {
    pub(crate) fn render(&self) -> Vec<u8> {
        let own = match self.domainname {
            "" => self.hostname.to_owned(),
            domain => format!("{0}.{domain} {0}", self.hostname),
        };
        let (mut text, own_base) = match (&self.base, &self.own) {
            (Base::Copied(bytes), _) => (String::from_utf8_lossy(bytes).into_owned(), true),
            (Base::Usual, Some(addresses)) if addresses.is_empty() => (usual(&format!(" {own}")), false),
            (Base::Usual, _) => (usual(""), true),
        };
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        for host in self.extra {
            let _ = writeln!(text, "{}\t{}", host.address.unwrap_or(self.gateway), host.name);
        }
        for (address, names) in &self.links {
            let _ = writeln!(text, "{address}\t{names}");
        }
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let own_addresses = self
            .own
            .as_deref()
            .map(|a| if a.is_empty() { &loopback[..] } else { a });
        for address in own_addresses.into_iter().flatten().filter(|_| own_base) {
            let _ = writeln!(text, "{address}\t{own}");
        }
        text.into_bytes()
    }
}

fn usual(own: &str) -> String {
    format!(
        "127.0.0.1\tlocalhost{own}\n::1\tlocalhost ip6-localhost ip6-loopback{own}\n\
         fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(own: Option<&[&str]>) -> Hosts<'static> {
        Hosts {
            base: Base::Usual,
            hostname: "web",
            domainname: "",
            own: own.map(|list| list.iter().map(|a| a.parse().unwrap()).collect()),
            extra: &[],
            gateway: "172.17.0.1".parse().unwrap(),
            links: Vec::new(),
        }
    }

    fn text(hosts: &Hosts<'_>) -> String {
        String::from_utf8(hosts.render()).unwrap()
    }

    #[test]
    fn without_an_address_the_name_is_the_loopback_s() {
        assert_eq!(
            text(&hosts(Some(&[]))),
            "127.0.0.1\tlocalhost web\n::1\tlocalhost ip6-localhost ip6-loopback web\nfe00::\tip6-localnet\n\
             ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
        );
        let named = Hosts {
            domainname: "example.org",
            ..hosts(Some(&[]))
        };
        assert!(text(&named).starts_with("127.0.0.1\tlocalhost web.example.org web\n"));
    }

    #[test]
    fn with_addresses_the_name_is_theirs() {
        let extra = [("db", Some("10.1.1.1")), ("up", None)].map(|(name, address)| ExtraHost {
            name: name.to_owned(),
            address: address.map(|a| a.parse().unwrap()),
        });
        let all = Hosts {
            domainname: "example.org",
            extra: &extra,
            links: vec![("172.17.0.9".parse().unwrap(), "cache 0123456789ab redis".to_owned())],
            ..hosts(Some(&["172.17.0.2", "fd00::2"]))
        };
        let text = text(&all);
        assert!(text.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"));
        assert!(
            text.ends_with(
                "ff02::2\tip6-allrouters\n10.1.1.1\tdb\n172.17.0.1\tup\n172.17.0.9\tcache 0123456789ab redis\n\
                 172.17.0.2\tweb.example.org web\nfd00::2\tweb.example.org web\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_copied_file_stays_as_it_is() {
        let copied = Hosts {
            base: Base::Copied(b"10.0.0.1 a".to_vec()),
            ..hosts(None)
        };
        assert_eq!(text(&copied), "10.0.0.1 a\n");
        let own = Hosts {
            own: Some(Vec::new()),
            ..copied
        };
        assert_eq!(text(&own), "10.0.0.1 a\n127.0.0.1\tweb\n::1\tweb\n");
    }
}
