//! An index and registries of 2013, after the "Registry & Index" documents and docker-registry 0.6 to 0.9: what they
//! answer, what they refuse, what they get wrong. Every image they hold is in a [`World`], so that a test can look at it.

use super::http::{Request, Service, respond};
use super::sha2_hex;
use base64::Engine as _;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard};

/// An image as a registry keeps it.
#[derive(Clone, Default, Debug)]
pub struct Image {
    pub json: Vec<u8>,
    pub layer: Option<Vec<u8>>,
    /// What a registry says its checksums are.
    pub checksum: Option<String>,
    /// It is still being sent.
    pub marked: bool,
}

/// What a server does wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    Status(u16),
    /// Announces everything, and sends so many bytes of it.
    Cut(usize),
    /// Says its answer is one byte longer or shorter than it is.
    Length(i64),
    Redirect(String),
    Body(Vec<u8>),
}

#[derive(Default)]
pub struct World {
    pub images: BTreeMap<String, Image>,
    /// Repository → tag → id.
    pub tags: BTreeMap<String, BTreeMap<String, String>>,
    /// What the index knows: repository → id → checksum.
    pub listed: BTreeMap<String, BTreeMap<String, Option<String>>>,
    /// Name → password.
    pub users: BTreeMap<String, String>,
    /// Nobody gets in without a password.
    pub private: bool,
    /// Registries without sessions, as docker-registry 0.9 is: a token is good for more than one request.
    pub no_cookies: bool,
    /// Ancestry by lines.
    pub lines: bool,
    /// The next requests whose path has this go wrong, once each.
    pub faults: Vec<(String, Fault)>,
    tokens: BTreeMap<String, String>,
    sessions: BTreeMap<String, String>,
    /// `METHOD PATH [how it got in]`, after the port it came to.
    pub log: Vec<String>,
    count: u64,
}

pub enum Role {
    /// Sends to these registries.
    Index(Vec<String>),
    Registry,
    Standalone,
    /// Only GET, no headers of its own.
    Files,
}

pub struct Old {
    pub host: String,
    pub world: Arc<Mutex<World>>,
    _service: Service,
}

impl Old {
    pub fn start(port: u16, role: Role, world: &Arc<Mutex<World>>) -> Old {
        super::registry::leave_the_machine();
        let host = format!("127.0.0.1:{port}");
        let (own, shared) = (host.clone(), world.clone());
        let service = Service::start(port, move |request, stream| {
            let server = Server {
                host: &own,
                role: &role,
            };
            server.serve(&mut shared.lock().unwrap(), request, stream);
        });
        Old {
            host,
            world: world.clone(),
            _service: service,
        }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host)
    }
}

/// An id made of one digit.
pub fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

impl World {
    pub fn new() -> Arc<Mutex<World>> {
        Arc::default()
    }

    /// An image of this layer (a tar) on top of `parent`, with a document that nobody would write so again.
    pub fn add(&mut self, id: &str, parent: Option<&str>, layer: &[u8]) {
        let parent = parent.map(|p| format!("\"parent\" :\"{p}\",\n")).unwrap_or_default();
        let json = format!(
            "{{ {parent}\t\"id\": \"{id}\",\"created\":\"2013-06-15T10:00:00.1-07:00\",\n\"container_config\":\
             {{\"Cmd\":[\"/bin/sh\",\"-c\",\"a > b\"]}}, \"config\": {{\"Cmd\": [\"/tiny\", \"print\", \"old\"]}},\
             \"architecture\":\"x86_64\",\"docker_version\":\"0.6.3\",\"odd\":1.50}}\n"
        );
        let image = Image {
            layer: Some(super::content::gzip(layer)),
            json: json.into_bytes(),
            ..Image::default()
        };
        self.images.insert(id.to_owned(), image);
    }

    pub fn tag(&mut self, repository: &str, tag: &str, id: &str) {
        let tags = self.tags.entry(repository.to_owned()).or_default();
        tags.insert(tag.to_owned(), id.to_owned());
        let mut next = Some(id.to_owned());
        while let Some(id) = next.take() {
            let listed = self.listed.entry(repository.to_owned()).or_default();
            if listed.insert(id.clone(), None).is_none() {
                next = self.parent(&id);
            }
        }
    }

    fn parent(&self, id: &str) -> Option<String> {
        let json: Value = serde_json::from_slice(&self.images.get(id)?.json).ok()?;
        json["parent"].as_str().map(str::to_owned)
    }

    /// The right checksums, as a registry has them after a push.
    pub fn sum(&mut self, id: &str) {
        let image = self.images.get_mut(id).unwrap();
        let layer = image.layer.clone().unwrap();
        image.checksum = Some(json!([payload(&image.json, &layer), tarsum(&image.json, &layer)]).to_string());
    }

    pub fn fault(&mut self, path: &str, fault: Fault) {
        self.faults.push((path.to_owned(), fault));
    }

    /// What was asked since the last time.
    pub fn seen(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    fn number(&mut self) -> u64 {
        self.count += 1;
        self.count
    }
}

/// `sha256:` of document and layer.
pub fn payload(json: &[u8], layer: &[u8]) -> String {
    format!("sha256:{}", sha2_hex(&[json, b"\n", layer].concat()))
}

/// By the words of the specification; the engine has a way of its own.
pub fn tarsum(json: &[u8], layer: &[u8]) -> String {
    let mut plain = Vec::new();
    match layer.starts_with(&[0x1f, 0x8b]) {
        true => flate2::read::MultiGzDecoder::new(layer)
            .read_to_end(&mut plain)
            .map(drop)
            .unwrap(),
        false => plain = layer.to_vec(),
    }
    let mut sums = Vec::new();
    let mut archive = tar::Archive::new(&plain[..]);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        let mut text = Vec::new();
        let mut say = |key: &str, value: &[u8]| {
            text.extend_from_slice(key.as_bytes());
            text.extend_from_slice(value);
        };
        let device = |n: Option<u32>| n.unwrap_or_default().to_string();
        say("name", &entry.path_bytes());
        say("mode", header.mode().unwrap().to_string().as_bytes());
        say("uid", header.uid().unwrap().to_string().as_bytes());
        say("gid", header.gid().unwrap().to_string().as_bytes());
        say("size", header.size().unwrap().to_string().as_bytes());
        say("mtime", header.mtime().unwrap().to_string().as_bytes());
        say("typeflag", &[header.as_bytes()[156]]);
        say("linkname", &entry.link_name_bytes().unwrap_or_default());
        say("uname", header.username_bytes().unwrap_or_default());
        say("gname", header.groupname_bytes().unwrap_or_default());
        say("devmajor", device(header.device_major().unwrap_or_default()).as_bytes());
        say("devminor", device(header.device_minor().unwrap_or_default()).as_bytes());
        entry.read_to_end(&mut text).unwrap();
        sums.push(sha2_hex(&text));
    }
    sums.sort();
    format!("tarsum+sha256:{}", sha2_hex(&[json, sums.concat().as_bytes()].concat()))
}

struct Server<'a> {
    host: &'a str,
    role: &'a Role,
}

/// An answer on its way out.
struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

fn reply(status: u16, body: impl Into<Vec<u8>>) -> Reply {
    Reply {
        status,
        headers: vec![("Content-Type", "application/json".to_owned())],
        body: body.into(),
    }
}

fn refused(status: u16, why: &str) -> Reply {
    reply(status, json!({"error": why}).to_string())
}

impl Reply {
    fn with(mut self, name: &'static str, value: impl Into<String>) -> Reply {
        self.headers.push((name, value.into()));
        self
    }
}

impl Server<'_> {
    fn serve(&self, world: &mut World, request: &mut Request, stream: &mut TcpStream) {
        let how = match (request.header("authorization"), request.header("cookie")) {
            (Some(a), Some(_)) => format!("{} cookie", a.split(' ').next().unwrap_or_default()),
            (Some(a), None) => a.split(' ').next().unwrap_or_default().to_owned(),
            (None, Some(_)) => "cookie".to_owned(),
            (None, None) => "-".to_owned(),
        };
        let port = self.host.rsplit(':').next().unwrap();
        world
            .log
            .push(format!("{port} {} {} [{how}]", request.method, request.path));
        let body = request.body();
        let mut out = self.answer(world, request, &body);
        let at = world
            .faults
            .iter()
            .position(|(needle, _)| request.path.contains(needle.as_str()));
        let fault = at.map(|at| world.faults.remove(at).1);
        match &fault {
            Some(Fault::Status(status)) => out = refused(*status, "fault"),
            Some(Fault::Redirect(to)) => out = reply(302, "").with("Location", to.clone()),
            Some(Fault::Body(body)) => out.body.clone_from(body),
            Some(Fault::Cut(_) | Fault::Length(_)) | None => {}
        }
        // docker-registry says one more of a range than it sends.
        let mut announced = i64::try_from(out.body.len()).unwrap() + i64::from(out.status == 206);
        let mut sent = out.body.len();
        match fault {
            Some(Fault::Cut(bytes)) => sent = sent.min(bytes),
            Some(Fault::Length(more)) => announced += more,
            _ => {}
        }
        let mut text = format!(
            "HTTP/1.1 {} Status\r\nConnection: close\r\nContent-Length: {announced}\r\n",
            out.status
        );
        for (name, value) in &out.headers {
            text += &format!("{name}: {value}\r\n");
        }
        let _ = stream.write_all(format!("{text}\r\n").as_bytes());
        let _ = stream.write_all(&out.body[..sent]);
    }

    fn answer(&self, world: &mut World, request: &Request, body: &[u8]) -> Reply {
        let path = request.path.split('?').next().unwrap().to_owned();
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let method = request.method.as_str();
        if parts == ["v1", "_ping"] {
            return self.ping();
        }
        if let (Role::Files, true) = (self.role, method != "GET" || request.path.ends_with('/')) {
            return reply(405, "");
        }
        match parts.as_slice() {
            ["v1", "users", ..] if !matches!(self.role, Role::Files) => self.users(world, request, body),
            ["v1", "search"] => {
                let hits =
                    json!({"query": "x", "num_results": 1, "results": [{"name": "team/app", "description": "d"}]});
                reply(200, hits.to_string())
            }
            ["v1", "images", id, what] if !matches!(self.role, Role::Index(_)) => match self.enter(world, request) {
                Err(refusal) => *refusal,
                Ok(session) => with_session(self.image(world, request, id, what, body), session),
            },
            ["v1", "repositories", rest @ ..] => self.repositories(world, request, rest, body),
            _ => Reply {
                headers: vec![("Content-Type", "text/html".to_owned())],
                ..reply(404, "<h1>Not Found</h1>")
            },
        }
    }

    fn ping(&self) -> Reply {
        match self.role {
            Role::Files => Reply {
                headers: vec![("Content-Type", "application/octet-stream".to_owned())],
                ..reply(200, "true")
            },
            Role::Standalone => reply(200, "true")
                .with("X-Docker-Registry-Version", "0.9.1")
                .with("X-Docker-Registry-Standalone", "True"),
            _ => reply(200, "true").with("X-Docker-Registry-Version", "0.6.0"),
        }
    }

    /// Name and password, if they are right.
    fn is_user(world: &World, request: &Request) -> bool {
        let given = request.header("authorization").unwrap_or_default();
        let Some(pair) = given.strip_prefix("Basic ") else {
            return false;
        };
        let pair = String::from_utf8(base64::prelude::BASE64_STANDARD.decode(pair).unwrap()).unwrap();
        let (user, password) = pair.split_once(':').unwrap();
        world.users.get(user).is_some_and(|known| known == password)
    }

    fn wants_password() -> Reply {
        refused(401, "Requires authorization").with("WWW-Authenticate", "Basic realm=\"auth required\",Token")
    }

    fn users(&self, world: &mut World, request: &Request, body: &[u8]) -> Reply {
        if request.method == "GET" {
            return match Server::is_user(world, request) {
                true => reply(200, "\"OK\""),
                false => Server::wants_password(),
            };
        }
        let json: Value = serde_json::from_slice(body).unwrap();
        let text = |key: &str| json[key].as_str().unwrap().to_owned();
        assert_eq!(json["auth"], "");
        if world.users.contains_key(&text("username")) {
            return reply(400, "\"Username or email already exists\"");
        }
        if !text("email").contains('@') {
            return reply(400, "{\"email\": \"wrong format\"}");
        }
        world.users.insert(text("username"), text("password"));
        reply(201, "\"User Created\"")
    }

    /// Whether a registry lets the request in; a cookie that is to be set.
    fn enter(&self, world: &mut World, request: &Request) -> Result<Option<String>, Box<Reply>> {
        let refusal = || Box::new(refused(401, "Requires authorization").with("WWW-Authenticate", "Token"));
        match self.role {
            Role::Files => return Ok(None),
            Role::Standalone if world.private && !Server::is_user(world, request) => {
                return Err(Box::new(Server::wants_password()));
            }
            Role::Standalone => return Ok(None),
            _ => {}
        }
        let access_of = |method: &str| match method {
            "GET" => "read",
            "DELETE" => "delete",
            _ => "write",
        };
        let good =
            |access: &str| access == access_of(&request.method) || (access == "write" && request.method == "GET");
        if let Some(cookie) = request.header("cookie") {
            assert!(request.header("authorization").is_none_or(|a| a.starts_with("Token ")));
            let session = cookie.strip_prefix("session=").unwrap_or_default();
            if world.sessions.get(session).is_some_and(|access| good(access)) {
                return Ok(None);
            }
        }
        let token = request.header("authorization").and_then(|a| a.strip_prefix("Token "));
        let token = token.unwrap_or_default().to_owned();
        let access = match world.no_cookies {
            true => world.tokens.get(&token).cloned(),
            // Once and never again.
            false => world.tokens.remove(&token),
        };
        match access {
            Some(access) if good(&access) && world.no_cookies => Ok(None),
            Some(access) if good(&access) => {
                let session = format!("s{}", world.number());
                world.sessions.insert(session.clone(), access);
                Ok(Some(session))
            }
            _ => Err(refusal()),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what a path and a request are made of")]
    fn image(&self, world: &mut World, request: &Request, id: &str, what: &str, body: &[u8]) -> Reply {
        if id.len() != 64 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return refused(404, "Invalid image ID");
        }
        if request.method == "PUT" {
            return put(world, request, id, what, body);
        }
        let Some(image) = world.images.get(id).cloned() else {
            return refused(404, "Image not found");
        };
        if image.marked {
            return refused(400, "Image is being uploaded, retry later");
        }
        let files = matches!(self.role, Role::Files);
        match what {
            "ancestry" => {
                let mut all = vec![id.to_owned()];
                while let Some(parent) = world.parent(all.last().unwrap()) {
                    if all.len() > 5000 {
                        break;
                    }
                    all.push(parent);
                }
                match world.lines {
                    true => reply(200, all[1..].iter().rev().map(|l| format!("{l}\n")).collect::<String>()),
                    false => reply(200, json!(all).to_string()),
                }
            }
            "json" => {
                let mut out = reply(200, image.json);
                if let (Some(layer), false) = (&image.layer, files) {
                    out = out.with("X-Docker-Size", layer.len().to_string());
                }
                match image.checksum.filter(|_| !files) {
                    Some(sum) => out.with("X-Docker-Checksum", sum),
                    None => out,
                }
            }
            "layer" => match image.layer {
                None => refused(404, "Image not found"),
                Some(layer) => ranged(request, layer),
            },
            _ => refused(404, "?"),
        }
    }

    fn token(&self, world: &mut World, repository: &str, access: &str, out: Reply) -> Reply {
        let token = format!(
            "signature=t{},repository=\"{repository}\",access={access}",
            world.number()
        );
        world.tokens.insert(token.clone(), access.to_owned());
        match self.role {
            Role::Index(endpoints) => out
                .with("X-Docker-Token", token)
                .with("X-Docker-Endpoints", endpoints.join(", ")),
            _ => out
                .with("X-Docker-Token", format!("Token {token}"))
                .with("X-Docker-Endpoints", self.host),
        }
    }

    fn repositories(&self, world: &mut World, request: &Request, rest: &[&str], body: &[u8]) -> Reply {
        let method = request.method.as_str();
        let (name, what) = match rest {
            [name @ .., "images"] => (name.join("/"), "images"),
            [name @ .., "tags"] => (name.join("/"), "tags"),
            [name @ .., "tags", tag] => (name.join("/"), *tag),
            [name @ .., ""] => (name.join("/"), ""),
            name => (name.join("/"), ""),
        };
        let is_index = match self.role {
            Role::Index(_) => true,
            Role::Standalone => what == "images" || (what.is_empty() && method == "PUT"),
            Role::Registry | Role::Files => false,
        };
        let name = name.strip_prefix("library/").unwrap_or(&name).to_owned();
        if is_index {
            return self.index(world, request, &name, what, body);
        }
        match self.enter(world, request) {
            Err(refusal) => *refusal,
            Ok(session) => with_session(self.tags(world, method, &name, what, body), session),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what a path and a request are made of")]
    fn tags(&self, world: &mut World, method: &str, name: &str, what: &str, body: &[u8]) -> Reply {
        match (method, what) {
            ("GET", "tags") => match world.tags.get(name) {
                None => refused(404, "Repository not found"),
                Some(tags) => reply(200, json!(tags).to_string()),
            },
            ("PUT", tag) => {
                let id: String = serde_json::from_slice(body).unwrap();
                if !world.images.contains_key(&id) {
                    return refused(404, "Image not found");
                }
                world
                    .tags
                    .entry(name.to_owned())
                    .or_default()
                    .insert(tag.to_owned(), id);
                reply(200, "true")
            }
            ("DELETE", "") => match world.tags.remove(name) {
                None => refused(404, "Repository not found"),
                Some(_) => reply(200, "true"),
            },
            ("DELETE", tag) => match world.tags.get_mut(name).and_then(|tags| tags.remove(tag)) {
                None => refused(404, "Tag not found"),
                Some(_) => reply(200, "true"),
            },
            _ => refused(404, "?"),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what a path and a request are made of")]
    fn index(&self, world: &mut World, request: &Request, name: &str, what: &str, body: &[u8]) -> Reply {
        let method = request.method.as_str();
        let password = world.private || (method != "GET" && !world.users.is_empty());
        if password && !Server::is_user(world, request) {
            return Server::wants_password();
        }
        if !matches!(what, "images" | "") {
            return refused(404, "?");
        }
        assert_eq!(request.header("x-docker-token"), Some("true"));
        match (method, what) {
            ("GET", "images") => {
                let Some(listed) = world.listed.get(name) else {
                    return refused(404, "images not found");
                };
                let all: Vec<Value> = listed
                    .iter()
                    .map(|(id, sum)| json!({"id": id, "checksum": sum.clone().unwrap_or_default()}))
                    .collect();
                self.token(world, name, "read", reply(200, json!(all).to_string()))
            }
            ("PUT", "" | "images") => {
                let list: Vec<Value> = serde_json::from_slice(body).unwrap();
                let listed = world.listed.entry(name.to_owned()).or_default();
                for image in list {
                    let sum = image["checksum"].as_str().map(str::to_owned);
                    let known = listed.entry(image["id"].as_str().unwrap().to_owned()).or_default();
                    *known = sum.or(known.take());
                }
                let status = if what == "images" { 204 } else { 200 };
                self.token(
                    world,
                    name,
                    "write",
                    reply(status, if status == 204 { "" } else { "\"\"" }),
                )
            }
            ("DELETE", "images") => self.token(world, name, "delete", reply(204, "")),
            ("DELETE", "") => {
                if request.header("x-docker-endpoints").is_some() {
                    world.listed.remove(name);
                    return reply(200, "");
                }
                self.token(world, name, "delete", reply(202, ""))
            }
            _ => refused(404, "?"),
        }
    }
}

fn with_session(out: Reply, session: Option<String>) -> Reply {
    match session {
        Some(session) => out.with("Set-Cookie", format!("session={session}; HttpOnly; Path=/")),
        None => out,
    }
}

/// docker-registry's ranges: no unit, and an end that is one behind the last byte.
fn ranged(request: &Request, layer: Vec<u8>) -> Reply {
    let start = request
        .header("range")
        .and_then(|r| r.strip_prefix("bytes=")?.split('-').next()?.parse().ok());
    let Some(start) = start.filter(|start: &usize| *start > 0) else {
        return Reply {
            headers: vec![("Content-Type", "application/octet-stream".to_owned())],
            ..reply(200, layer)
        };
    };
    if start >= layer.len() {
        return reply(416, "");
    }
    let range = format!("{start}-{}/{}", layer.len(), layer.len());
    Reply {
        headers: vec![("Content-Type", "application/octet-stream".to_owned())],
        ..reply(206, &layer[start..])
    }
    .with("Content-Range", range)
}

fn put(world: &mut World, request: &Request, id: &str, what: &str, body: &[u8]) -> Reply {
    let known = world.images.get(id).cloned();
    match what {
        "json" => {
            let json: Value = serde_json::from_slice(body).unwrap();
            if json["id"] != id {
                return refused(400, "JSON data contains invalid id");
            }
            if let Some(parent) = json["parent"].as_str()
                && !world.images.contains_key(parent)
            {
                return refused(400, "Image depends on a non existing parent");
            }
            if known.is_some_and(|known| !known.marked) {
                return refused(409, "Image already exists");
            }
            let image = Image {
                json: body.to_vec(),
                marked: true,
                ..Image::default()
            };
            world.images.insert(id.to_owned(), image);
        }
        "layer" => match world.images.get_mut(id) {
            None => return refused(404, "Image not found"),
            Some(image) => image.layer = Some(body.to_vec()),
        },
        "checksum" => {
            let Some(image) = world.images.get_mut(id).filter(|image| image.marked) else {
                return refused(409, "Cannot set this image checksum");
            };
            let layer = image.layer.clone().unwrap_or_default();
            let given: BTreeSet<&str> = ["x-docker-checksum", "x-docker-checksum-payload"]
                .iter()
                .filter_map(|name| request.header(name))
                .collect();
            let (tar, payload) = (tarsum(&image.json, &layer), payload(&image.json, &layer));
            if given != BTreeSet::from([tar.as_str(), payload.as_str()]) {
                return refused(400, "Checksum mismatch");
            }
            image.checksum = Some(tar);
            image.marked = false;
        }
        _ => return refused(404, "?"),
    }
    reply(200, "true")
}

/// Says `what` to anybody, and what it was told.
pub fn listener(port: u16, status: u16, body: Vec<u8>) -> (Service, Arc<Mutex<Vec<String>>>) {
    super::registry::leave_the_machine();
    let told = Arc::<Mutex<Vec<String>>>::default();
    let log = told.clone();
    let service = Service::start(port, move |request, stream| {
        let headers: Vec<String> = request.headers.iter().map(|(n, v)| format!("{n}: {v}")).collect();
        log.lock()
            .unwrap()
            .push(format!("{} {}\n{}", request.method, request.path, headers.join("\n")));
        respond(stream, status, &[], &body);
    });
    (service, told)
}
