//! The registries and the index of 2013, against servers made after their documents: what is asked, with what, what is
//! kept, what goes back, and that the defects of that time are gone (requirements c.7).

use crate::support::content::digest;
use crate::support::http::ask;
use crate::support::old::{Fault, Old, Role, World, id, listener, payload, tarsum};
use crate::support::registry::{Registry, barge, home};
use crate::support::{Host, Tar, Terminal, tiny_tar, wait_until};
use base64::Engine as _;
use serde_json::Value;
use std::fs;
use std::sync::{Arc, Mutex};

const USER: &str = "shykes";
/// With what the files of that time could not hold.
const PASSWORD: &str = "pa:ss w%rd";

fn top() -> Vec<u8> {
    Tar::new().dir("srv", 0o755).file("srv/x", 0o640, b"top").bytes()
}

/// An index at 5100 with a registry at 5101, and an image of two layers there: `team/app:1`.
struct Hub {
    world: Arc<Mutex<World>>,
    index: Old,
    registry: Old,
}

fn hub(host: &Host) -> Hub {
    let _ = home(host);
    let world = World::new();
    let registry = Old::start(5101, Role::Registry, &world);
    let index = Old::start(5100, Role::Index(vec![registry.host.clone()]), &world);
    let mut w = world.lock().unwrap();
    w.add(&id('a'), None, &tiny_tar());
    w.add(&id('b'), Some(&id('a')), &top());
    w.tag("team/app", "1", &id('b'));
    drop(w);
    Hub { world, index, registry }
}

fn inspect(host: &Host, name: &str) -> Value {
    let text = host.text(["inspect", "--type", "image", name]);
    serde_json::from_str::<Value>(&text).unwrap()[0].clone()
}

fn nothing_is_here(host: &Host) {
    assert_eq!(host.text("images -aq"), "");
    assert_eq!(fs::read_dir(host.root.join("layers")).map_or(0, Iterator::count), 0);
    // An `rmi` before may still be deleting, behind the command.
    let staged = || fs::read_dir(host.root.join("staging")).map_or(0, Iterator::count);
    wait_until("an empty staging area", || staged() == 0);
}

#[test]
fn the_order_of_a_pull_and_who_is_told_what() {
    let host = Host::bare();
    let hub = hub(&host);
    hub.index.world().users.insert(USER.to_owned(), PASSWORD.to_owned());
    hub.index.world().private = true;
    let name = hub.index.name("team/app:1");
    // Whoever is not known is told so, in docker's words (c.7: 3, 6).
    barge(&host, ["pull", &name])
        .run()
        .fails(1)
        .says(&["pull access denied for", "barge login"]);
    login(&host, &hub.index.host, PASSWORD).ok();
    hub.world.lock().unwrap().seen();
    let out = barge(&host, ["pull", &name]).run().ok();
    assert!(
        out.text()
            .contains(&format!("Status: Downloaded newer image for {name}")),
        "{}",
        out.text()
    );
    let seen = hub.world.lock().unwrap().seen();
    let at = seen.iter().position(|l| l.contains("/_ping")).unwrap();
    let (a, b) = (id('a'), id('b'));
    let mut rest = seen[at + 1..].to_vec();
    // Both layers are fetched at once.
    rest[5..].sort();
    assert_eq!(
        rest,
        [
            "5100 GET /v1/repositories/team/app/images [Basic]".to_owned(),
            // The token once, then the cookie; the password never.
            "5101 GET /v1/repositories/team/app/tags [Token]".to_owned(),
            format!("5101 GET /v1/images/{b}/ancestry [cookie]"),
            format!("5101 GET /v1/images/{a}/json [cookie]"),
            format!("5101 GET /v1/images/{b}/json [cookie]"),
            format!("5101 GET /v1/images/{a}/layer [cookie]"),
            format!("5101 GET /v1/images/{b}/layer [cookie]"),
        ]
        .map(|l| l)
    );
    assert_eq!(host.text(["run", "--rm", &name]), "old");
    let shown = inspect(&host, &name);
    assert_eq!(shown["V1Ids"], serde_json::json!([a, b]));
    assert_eq!(
        (&shown["Os"], &shown["Architecture"]),
        (&"linux".into(), &"amd64".into())
    );
    // What a registry called it is another name for it.
    assert_eq!(inspect(&host, &b)["Id"], shown["Id"]);
    // What is here is not fetched again.
    let out = barge(&host, ["pull", &name]).run().ok();
    assert!(out.text().contains("Status: Image is up to date"), "{}", out.text());
    let seen = hub.world.lock().unwrap().seen();
    assert!(
        !seen.iter().any(|l| l.contains("/layer") || l.contains("/json")),
        "{seen:?}"
    );
    // Nor is what is shared with another image.
    {
        let mut w = hub.world.lock().unwrap();
        w.add(&id('c'), Some(&a), &Tar::new().file("c", 0o644, b"c").bytes());
        w.tag("team/app", "2", &id('c'));
        w.seen();
    }
    barge(&host, ["pull", "-a", &hub.index.name("team/app")]).run().ok();
    let layers: Vec<String> = hub.world.lock().unwrap().seen();
    let layers: Vec<&String> = layers.iter().filter(|l| l.contains("/layer")).collect();
    assert_eq!(layers.len(), 1, "{layers:?}");
    assert_eq!(host.text("images -q").lines().count(), 2);
    host.text("system check");
}

fn login(host: &Host, server: &str, password: &str) -> crate::support::Output {
    barge(host, ["login", "-u", USER, "--password-stdin", server])
        .stdin(password.as_bytes())
        .run()
}

#[test]
fn other_shapes_of_registries() {
    let host = Host::bare();
    let hub = hub(&host);
    // One that only serves files.
    let files = Old::start(5102, Role::Files, &hub.world);
    barge(&host, ["pull", &files.name("team/app:1")]).run().ok();
    // Ancestry as lines; a registry without sessions, which has to see the token each time.
    {
        let mut w = hub.world.lock().unwrap();
        w.lines = true;
        w.no_cookies = true;
    }
    barge(&host, ["pull", &hub.index.name("team/app:1")]).run().ok();
    hub.world.lock().unwrap().no_cookies = false;
    // Endpoints in turn: nobody listens at the first.
    let several = Role::Index(vec!["127.0.0.1:5999".to_owned(), hub.registry.host.clone()]);
    let second = Old::start(5103, several, &hub.world);
    let out = barge(&host, ["pull", &second.name("team/app:1")]).run().ok();
    assert!(out.err().contains("trying the next endpoint"), "{}", out.err());
    // All of one content.
    assert_eq!(
        host.text("images -q --no-trunc")
            .lines()
            .collect::<std::collections::BTreeSet<_>>()
            .len(),
        1
    );
    // None that answers.
    let nobody = Old::start(
        5104,
        Role::Index(vec!["127.0.0.1:5999".to_owned(), "127.0.0.1:5998".to_owned()]),
        &hub.world,
    );
    let out = barge(&host, ["pull", &nobody.name("team/app:1")]).run().fails(1);
    assert!(
        out.err().contains("Could not reach any registry endpoint"),
        "{}",
        out.err()
    );
    // A name of one part is in the registry's library, and an id will do for a name.
    hub.world.lock().unwrap().tag("single", "latest", &id('b'));
    barge(&host, ["pull", &hub.index.name("single")]).run().ok();
    barge(&host, ["pull", &files.name(&id('a'))]).run().ok();
    for (name, why) in [
        ("team/app:nine", "Tag nine not found in repository"),
        ("team/none", "Repository not found"),
        (
            "team/app@sha256:0000000000000000000000000000000000000000000000000000000000000000",
            "knows no digests",
        ),
    ] {
        barge(&host, ["pull", &hub.index.name(name)])
            .run()
            .fails(1)
            .says(&[why]);
    }
    let e = barge(&host, ["pull", "http://127.0.0.1:5100/v1/repositories/team/app/tags/1"])
        .run()
        .fails(1);
    assert!(
        e.err().contains("write it like 127.0.0.1:5100/team/app:1"),
        "{}",
        e.err()
    );
    let out = barge(&host, ["search", "127.0.0.1:5100/app"]).run().ok();
    assert!(out.text().contains("team/app"), "{}", out.text());
}

#[test]
fn what_breaks_goes_on_and_what_is_wrong_is_refused() {
    let host = Host::bare();
    let hub = hub(&host);
    let name = hub.index.name("team/app:1");
    let world = || hub.world.lock().unwrap();
    {
        let mut w = world();
        w.sum(&id('a'));
        w.sum(&id('b'));
        // Cut, then ranges whose lengths are not what they say; a length that is too long, and one too short.
        w.fault(&format!("{}/layer", id('a')), Fault::Cut(100_000));
        w.fault(&format!("{}/layer", id('a')), Fault::Cut(50_000));
        w.fault(&format!("{}/layer", id('b')), Fault::Length(1));
    }
    barge(&host, ["pull", &name]).run().ok();
    let ranges = world().seen().iter().filter(|l| l.contains("/layer")).count();
    assert!(ranges >= 4, "{ranges}");
    host.text(["rmi", &name]);
    world().fault(&format!("{}/layer", id('b')), Fault::Length(-1));
    barge(&host, ["pull", &name]).run().ok();
    host.text(["rmi", &name]);
    // Somebody else's server, as S3 was: it gets neither token nor cookie.
    let layer = world().images[&id('b')].layer.clone().unwrap();
    let (_service, told) = listener(5105, 200, layer);
    world().fault(
        &format!("{}/layer", id('b')),
        Fault::Redirect("http://127.0.0.1:5105/s3?sign=x".to_owned()),
    );
    barge(&host, ["pull", &name]).run().ok();
    let told = told.lock().unwrap().join("\n").to_lowercase();
    assert!(
        told.contains("/s3?sign=x") && !told.contains("cookie") && !told.contains("authorization"),
        "{told}"
    );
    host.text(["rmi", &name]);
    let good_a = world().images[&id('a')].clone();
    let good_b = world().images[&id('b')].clone();
    let json = |text: &str| Fault::Body(text.as_bytes().to_vec());
    let wrong = payload(b"", b"");
    let (ancestry, b_json) = (format!("{}/ancestry", id('b')), format!("{}/json", id('b')));
    let (a, b) = (id('a'), id('b'));
    for (path, fault, why) in [
        (&ancestry, json(&format!("[\"{b}\",\"{a}\",\"{b}\"]")), "circle"),
        (&ancestry, json(&format!("[\"{b}\"]")), "its parent is aaaaaaaaaaaa"),
        (&ancestry, json(&format!("[\"{a}\"]")), "begins with another image"),
        (
            &ancestry,
            json(&format!("[\"{b}\",\"../../etc\"]")),
            "invalid image id '../../etc'",
        ),
        (&ancestry, json("<html>"), "invalid image id"),
        (&"/tags".to_owned(), json("[1]"), "no list of tags"),
        (
            &"/tags".to_owned(),
            json(r#"{"1": "b:b/../x"}"#),
            "invalid image id 'b:b/../x'",
        ),
        (&"/tags".to_owned(), json("{\"\\u001b[31m\": \"x\"}"), "impossible tag"),
        (&"app/images".to_owned(), json("{"), "no list of images"),
        (&b_json, json("[]"), "image json is damaged"),
        (&b_json, json("\"x\""), "image json is damaged"),
        (&b_json, json(&format!("{{\"id\":\"{a}\"}}")), "of another image"),
        (&b_json, json(&format!("{{\"id\":\"{b}\"}}")), "its parent is nobody"),
        (&format!("{b}/layer"), Fault::Status(404), "fault"),
        (&format!("{b}/layer"), json("no tar at all"), "layer bbbbbbbbbbbb"),
        (&ancestry, Fault::Status(403), "fault"),
        (
            &b_json,
            Fault::Redirect(format!("/v1/images/{b}/json")),
            "redirects in a circle",
        ),
    ] {
        world().faults.clear();
        world().fault(path, fault);
        let out = barge(&host, ["pull", &name]).run().fails(1);
        assert!(out.err().contains(why), "{path}: {why}: {}", out.err());
        assert_eq!(
            out.err()
                .trim_end()
                .lines()
                .filter(|l| !l.trim_start().starts_with("hint"))
                .count(),
            1,
            "{}",
            out.err()
        );
        assert!(!out.err().contains('\u{1b}'));
        nothing_is_here(&host);
    }
    // Checksums of either kind, the registry's and the index's.
    for sum in [wrong.clone(), format!("tarsum+{wrong}")] {
        world().images.get_mut(&b).unwrap().checksum = Some(sum.clone());
        barge(&host, ["pull", &name])
            .run()
            .fails(1)
            .says(&["checksum mismatch"]);
        nothing_is_here(&host);
        let mut w = world();
        w.images.insert(b.clone(), good_b.clone());
        w.listed.get_mut("team/app").unwrap().insert(b.clone(), Some(sum));
        drop(w);
        barge(&host, ["pull", &name])
            .run()
            .fails(1)
            .says(&["checksum mismatch"]);
        world().listed.get_mut("team/app").unwrap().insert(b.clone(), None);
    }
    world()
        .listed
        .get_mut("team/app")
        .unwrap()
        .insert(a.clone(), Some(tarsum(&good_a.json, good_a.layer.as_ref().unwrap())));
    barge(&host, ["pull", &name]).run().ok();
    host.text(["rmi", &name]);
    // A token that is not taken, whatever is done.
    for _ in 0..9 {
        world().fault("/tags", Fault::Status(401));
    }
    barge(&host, ["pull", &name])
        .run()
        .fails(1)
        .says(&["pull access denied"]);
    world().faults.clear();
    // What speaks neither dialect.
    let (_service, _) = listener(5106, 404, b"{}".to_vec());
    for line in ["pull 127.0.0.1:5106/a", "login -u x -p y 127.0.0.1:5106"] {
        let out = barge(&host, line).run().fails(1);
        assert!(out.err().contains("does not look like a registry"), "{}", out.err());
    }
    nothing_is_here(&host);
}

#[test]
fn a_push_and_what_goes_back_as_it_came() {
    let host = Host::new();
    let hub = hub(&host);
    hub.index.world().users.insert(USER.to_owned(), PASSWORD.to_owned());
    let own = hub.index.name("shykes/own:1");
    host.text(["tag", "tiny", &own]);
    barge(&host, ["push", &own])
        .run()
        .fails(1)
        .says(&["push access denied for"]);
    login(&host, &hub.index.host, PASSWORD).ok();
    let world = || hub.world.lock().unwrap();
    // Killed when a layer was sent, and then once more.
    let killed = barge(&host, ["push", &own])
        .env("BARGE_STOP_AT", crate::crash::OLD_PUSH_POINTS[0])
        .run();
    assert_ne!(killed.code, 0);
    barge(&host, ["push", &own]).run().ok();
    // Half of it is there from an earlier attempt.
    let pushed = world().tags["shykes/own"]["1"].clone();
    world().images.get_mut(&pushed).unwrap().marked = true;
    world().images.get_mut(&pushed).unwrap().layer = None;
    world().seen();
    barge(&host, ["push", "-q", &own]).run().ok();
    assert!(!world().images[&pushed].marked);
    let seen = world().seen();
    let order: Vec<&str> = seen
        .iter()
        .filter(|l| l.contains(" PUT "))
        .map(|l| l.as_str())
        .collect();
    let image = |rest: &str| format!("5101 PUT /v1/images/{pushed}/{rest} [cookie]");
    assert_eq!(
        order,
        [
            "5100 PUT /v1/repositories/shykes/own/ [Basic]".to_owned(),
            image("json"),
            image("layer"),
            image("checksum"),
            "5101 PUT /v1/repositories/shykes/own/tags/1 [cookie]".to_owned(),
            "5100 PUT /v1/repositories/shykes/own/images [Basic]".to_owned(),
        ]
    );
    // The index has the checksum of what it lists.
    let sum = world().images[&pushed].checksum.clone();
    assert!(sum.is_some());
    assert_eq!(world().listed["shykes/own"][&pushed], sum);
    // Again: everything is there.
    barge(&host, ["push", &own]).run().ok();
    assert!(!world().seen().iter().any(|l| l.contains("PUT /v1/images")));
    // Elsewhere the same files come out of it; the ids are the same from there.
    let other = Host::bare();
    barge(&other, ["pull", &own]).run().ok();
    let (here, there) = (inspect(&host, "tiny"), inspect(&other, &own));
    assert_eq!(here["RootFS"]["Layers"], there["RootFS"]["Layers"]);
    assert_eq!(there["Config"]["Cmd"], here["Config"]["Cmd"]);
    let again = hub.index.name("shykes/again");
    other.text(["tag", &own, &again]);
    fs::create_dir_all(home(&other).join(".docker")).unwrap();
    fs::copy(
        home(&host).join(".docker/config.json"),
        home(&other).join(".docker/config.json"),
    )
    .unwrap();
    barge(&other, ["push", &again]).run().ok();
    assert_eq!(world().tags["shykes/again"]["latest"], pushed);
    drop(other);

    // What was pulled goes to another registry of that kind byte for byte, with two tags.
    let name = hub.index.name("team/app:1");
    barge(&host, ["pull", &name]).run().ok();
    let second = World::new();
    let standalone = Old::start(5107, Role::Standalone, &second);
    for tag in ["1", "latest"] {
        host.text(["tag", &name, &standalone.name(&format!("team/app:{tag}"))]);
    }
    barge(&host, ["push", "-a", &standalone.name("team/app")]).run().ok();
    let (one, two) = (world(), second.lock().unwrap());
    for id in [id('a'), id('b')] {
        assert_eq!(one.images[&id].json, two.images[&id].json);
        assert_eq!(one.images[&id].layer, two.images[&id].layer);
    }
    assert_eq!(two.tags["team/app"].len(), 2);
    assert_eq!(two.tags["team/app"]["latest"], id('b'));
    drop((one, two));
    // A commit on top of it stands on the same ids.
    barge(&host, ["run", "--name", "c", &name, "/tiny", "write", "/new", "x"]).run();
    host.text(["commit", "c", &standalone.name("team/app:next")]);
    second.lock().unwrap().seen();
    barge(&host, ["push", &standalone.name("team/app:next")]).run().ok();
    let two = second.lock().unwrap();
    let next = &two.images[&two.tags["team/app"]["next"]];
    let json: Value = serde_json::from_slice(&next.json).unwrap();
    assert_eq!(json["parent"], id('b'));
    drop(two);
    let layers = second
        .lock()
        .unwrap()
        .seen()
        .iter()
        .filter(|l| l.contains("/layer"))
        .count();
    assert_eq!(layers, 1);

    // To a registry of today, with the very layers; and into an archive of today.
    let today = Registry::new(&host);
    let there = today.name("team/app:1");
    barge(&host, ["push", &name, &there]).run().ok();
    for id in [id('a'), id('b')] {
        let layer = world().images[&id].layer.clone().unwrap();
        assert!(today.blobs().iter().any(|(d, _)| *d == digest(&layer)), "{id}");
    }
    let archive = host.scratch().join("oci.tar");
    host.text([
        "save",
        "--format",
        "oci-archive",
        "-o",
        archive.to_str().unwrap(),
        &name,
    ]);
    host.text(["load", "-i", archive.to_str().unwrap()]);
    host.text("rm c");
    // A layer that is here from a registry of today is no other one.
    let before = fs::read_dir(host.root.join("layers")).unwrap().count();
    barge(&host, ["pull", &there]).run().ok();
    assert_eq!(fs::read_dir(host.root.join("layers")).unwrap().count(), before);
}

#[test]
fn deleting_at_a_registry_of_2013() {
    let host = Host::bare();
    let hub = hub(&host);
    hub.world.lock().unwrap().tag("team/app", "2", &id('a'));
    let name = hub.index.name("team/app");
    barge(&host, ["rmi", "--remote", "-f", &format!("{name}:9")])
        .run()
        .fails(1)
        .says(&["No such image at its registry"]);
    let out = barge(&host, ["rmi", "--remote", "-f", &format!("{name}:2")]).run().ok();
    assert!(out.text().contains("Deleted: "), "{}", out.text());
    assert_eq!(hub.world.lock().unwrap().tags["team/app"].len(), 1);
    hub.world.lock().unwrap().seen();
    barge(&host, ["rmi", "--remote", "-f", "-a", &name]).run().ok();
    let seen = hub.world.lock().unwrap().seen();
    let deletes: Vec<&str> = seen
        .iter()
        .filter(|l| l.contains("DELETE"))
        .map(String::as_str)
        .collect();
    assert_eq!(
        deletes,
        [
            "5100 DELETE /v1/repositories/team/app/ [-]",
            "5101 DELETE /v1/repositories/team/app/ [Token cookie]",
            "5100 DELETE /v1/repositories/team/app/ [-]",
        ]
    );
    let w = hub.world.lock().unwrap();
    assert!(!w.tags.contains_key("team/app") && !w.listed.contains_key("team/app"));
    drop(w);
    // Asked first, as everywhere.
    let standalone = Old::start(5108, Role::Standalone, &hub.world);
    hub.world.lock().unwrap().tag("x", "latest", &id('a'));
    barge(&host, ["rmi", "--remote", &standalone.name("x")])
        .stdin(b"n\n")
        .run();
    assert!(hub.world.lock().unwrap().tags["x"].contains_key("latest"));
    barge(&host, ["rmi", "--remote", &standalone.name("x")])
        .stdin(b"y\n")
        .run()
        .ok();
    assert!(!hub.world.lock().unwrap().tags["x"].contains_key("latest"));
}

fn auths(host: &Host) -> Value {
    let text = fs::read(home(host).join(".docker/config.json")).unwrap_or(b"{}".to_vec());
    serde_json::from_slice::<Value>(&text).unwrap()["auths"].clone()
}

/// c.7: 1, 2, 4, 7, 8, 9, 10, 12, 13.
#[test]
fn logins_of_2013() {
    let host = Host::bare();
    let hub = hub(&host);
    let server = hub.index.host.clone();
    let user = |name: &str| hub.world.lock().unwrap().users.contains_key(name);
    let line = |args: &[&str]| {
        let all: Vec<&str> = ["login"].iter().chain(args).copied().collect();
        barge(&host, all).run()
    };
    // Beside the warning of a password on a command line.
    let refused = |args: &[&str], why: &str| {
        let out = line(args).fails(1);
        assert!(
            out.err().contains(why) && !out.err().contains(PASSWORD),
            "{}",
            out.err()
        );
    };
    // An address makes an account; without one nobody is registered by a slip of the fingers.
    refused(
        &["-u", USER, "-p", PASSWORD, &server],
        "Wrong login/password, please try again",
    );
    assert!(!user(USER));
    refused(&["-u", USER, "-p", "1234", "-e", "a@b", &server], "5 characters");
    refused(
        &["-u", USER, "-p", PASSWORD, "-e", "nowhere", &server],
        "Registration: ",
    );
    let made = line(&["-u", USER, "-p", PASSWORD, "-e", "a@b", &server]).ok();
    assert!(
        made.err().contains("Account created") && !made.err().contains(PASSWORD),
        "{}",
        made.err()
    );
    assert!(user(USER));
    let auth = base64::prelude::BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}"));
    assert_eq!(auths(&host)[&server]["auth"], auth);
    // It is there: its password counts, and a flag wins over what is stored.
    line(&["-u", USER, "-p", PASSWORD, "-e", "a@b", &server]).ok();
    refused(
        &["-u", USER, "-p", "wrong-one", "-e", "a@b", &server],
        "Wrong login/password",
    );
    // However the server is written, and however the entry is.
    hub.world.lock().unwrap().private = true;
    let name = hub.index.name("team/app:1");
    for key in [
        server.clone(),
        format!("http://{server}/v1/"),
        format!("https://{server}/v1/"),
        format!("https://{server}"),
        format!("{server}/v1/"),
    ] {
        let file = home(&host).join(".docker/config.json");
        fs::write(
            &file,
            serde_json::json!({"auths": {&key: {"auth": auth, "email": "a@b"}}}).to_string(),
        )
        .unwrap();
        barge(&host, ["pull", &name]).run().ok();
        host.text(["rmi", &name]);
        for typed in [format!("http://{server}/v1/"), format!("{server}/team/app")] {
            assert_eq!(line(&["--get-login", &typed]).ok().text(), USER, "{key}");
        }
    }
    fs::remove_file(home(&host).join(".docker/config.json")).unwrap();
    fs::write(
        home(&host).join(".dockercfg"),
        serde_json::json!({format!("https://{server}/v1/"): {"auth": auth, "email": "a@b"}}).to_string(),
    )
    .unwrap();
    barge(&host, ["pull", &name]).run().ok();
    // Whose password was changed is told, and what is stored is dropped.
    hub.world
        .lock()
        .unwrap()
        .users
        .insert(USER.to_owned(), "another".to_owned());
    let mut terminal = barge(&host, ["login", &server]).terminal(100, 24);
    terminal.wait_for(&format!("Username ({USER}): "));
    terminal.send(b"\n");
    terminal.wait_for("Wrong login/password, please try again");
    assert_eq!(terminal.wait().0, 1);
    refused(&["--get-login", &server], "not logged into");
    // A standalone registry makes no accounts.
    let world = World::new();
    let standalone = Old::start(5109, Role::Standalone, &world);
    world.lock().unwrap().private = true;
    world.lock().unwrap().users.insert(USER.to_owned(), PASSWORD.to_owned());
    let wrong = line(&["-u", "nobody", "-p", PASSWORD, "-e", "a@b", &standalone.host]).fails(1);
    assert!(wrong.err().contains("Wrong login/password"), "{}", wrong.err());
    line(&["-u", USER, "-p", PASSWORD, &standalone.host]).ok();
    world.lock().unwrap().add(&id('a'), None, &tiny_tar());
    world.lock().unwrap().tag("x", "1", &id('a'));
    world.lock().unwrap().seen();
    barge(&host, ["pull", &standalone.name("x:1")]).run().ok();
    let seen = world.lock().unwrap().seen();
    let asked: Vec<&String> = seen
        .iter()
        .filter(|l| l.contains("/v1/images") || l.contains("/tags"))
        .collect();
    assert!(
        asked.len() == 4 && asked.iter().all(|l| l.ends_with("[Basic]")),
        "{seen:?}"
    );
}

fn answer(terminal: &mut Terminal, prompt: &str, text: &str) {
    terminal.wait_for(prompt);
    terminal.send(format!("{text}\n").as_bytes());
}

/// c.7: 5, 6, 7, 11.
#[test]
fn somebody_registers_and_is_asked_in_the_middle_of_a_push() {
    let host = Host::new();
    let hub = hub(&host);
    let mut terminal = barge(&host, ["login", &hub.index.host]).terminal(100, 24);
    terminal.wait_for(&format!("Login against server at {}", hub.index.host));
    answer(&mut terminal, "Username: ", USER);
    answer(&mut terminal, "Password: ", PASSWORD);
    answer(&mut terminal, "Email", "a@b");
    terminal.wait_for("Login Succeeded");
    assert!(!terminal.output.text().contains(PASSWORD));
    assert_eq!(terminal.wait().0, 0);
    assert_eq!(hub.world.lock().unwrap().users[USER], PASSWORD);
    barge(&host, ["logout", &hub.index.host]).run().ok();
    let name = hub.index.name("shykes/own:1");
    host.text(["tag", "tiny", &name]);
    let mut terminal = barge(&host, ["push", &name]).terminal(120, 24);
    terminal.wait_for("push access denied for");
    // At the registry that was asked, not at Docker Hub.
    terminal.wait_for(&format!("Login against server at {}", hub.index.host));
    answer(&mut terminal, "Username: ", USER);
    answer(&mut terminal, "Password: ", PASSWORD);
    terminal.wait_for("Login Succeeded");
    assert_eq!(terminal.wait().0, 0);
    wait_until("the tag to be there", || {
        hub.world.lock().unwrap().tags.contains_key("shykes/own")
    });
}

/// The index of one's own in the place of docker's (F242), by registries.conf; and the first question of all.
#[test]
fn an_index_of_ones_own() {
    let host = Host::bare();
    let hub = hub(&host);
    let conf = format!(
        "[[registry]]\nprefix = \"docker.io\"\nlocation = \"{}\"\n",
        hub.index.host
    );
    fs::write(home(&host).join("registries.conf"), conf).unwrap();
    barge(&host, "pull team/app:1").run().ok();
    assert_eq!(host.text("images --format {{.Repository}}:{{.Tag}}"), "team/app:1");
    let first = hub.world.lock().unwrap().seen()[0].clone();
    assert!(first.contains("/v2/"), "{first}");
    assert_eq!(ask(&hub.index.host, "GET", "/v1/_ping", &[], b"").status, 200);
}
