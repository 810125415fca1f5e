//! TLS in front of a server of fixed answers, with a certificate of an `Authority`: says whether a client showed one.

use super::http::{Service, head};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, Stream};
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, Mutex};

pub struct Secured {
    pub host: String,
    shown: Arc<Mutex<Vec<bool>>>,
    _service: Service,
}

impl Secured {
    /// Passes on to `upstream`, one request for each connection. `dir` is the authority's.
    pub fn before(upstream: &str, dir: &Path) -> Secured {
        let config = Arc::new(config(dir));
        let shown = Arc::<Mutex<Vec<bool>>>::default();
        let (log, upstream) = (shown.clone(), upstream.to_owned());
        let service = Service::listen("127.0.0.1:0", move |stream| {
            let mut connection = ServerConnection::new(config.clone()).unwrap();
            let mut reader = BufReader::new(Stream::new(&mut connection, stream));
            let Some((first, headers)) = head(&mut reader) else {
                return;
            };
            let length = headers
                .iter()
                .find(|(n, _)| n.eq_ignore_ascii_case("content-length"))
                .map_or(0, |(_, v)| v.parse().unwrap());
            let mut text = format!("{first}\r\nConnection: close\r\n");
            for (name, value) in &headers {
                text += &format!("{name}: {value}\r\n");
            }
            let mut up = TcpStream::connect(&upstream).unwrap();
            up.write_all(format!("{text}\r\n").as_bytes()).unwrap();
            std::io::copy(&mut reader.by_ref().take(length), &mut up).unwrap();
            let mut answer = Vec::new();
            up.read_to_end(&mut answer).unwrap();
            let tls = reader.into_inner();
            log.lock().unwrap().push(tls.conn.peer_certificates().is_some());
            // Who asked may be gone.
            let _ = tls.sock.set_nodelay(true);
            let mut tls = Stream::new(tls.conn, tls.sock);
            let _ = tls.write_all(&answer);
            tls.conn.send_close_notify();
            let _ = tls.flush();
        });
        Secured {
            host: format!("127.0.0.1:{}", service.port()),
            shown,
            _service: service,
        }
    }

    /// For each request since the last call, whether it came with a client's certificate.
    pub fn shown(&self) -> Vec<bool> {
        std::mem::take(&mut *self.shown.lock().unwrap())
    }
}

fn config(dir: &Path) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let authority = CertificateDer::from_pem_file(dir.join("ca.crt")).unwrap();
    let chain = vec![CertificateDer::from_pem_file(dir.join("server.crt")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(dir.join("server.pem")).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(authority).unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .unwrap();
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .unwrap()
}
