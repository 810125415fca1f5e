//! Tables of `build`'s values.

use super::*;

fn name(text: &str) -> Reference {
    Reference::parse(text).unwrap().or_latest()
}

#[test]
fn contexts() {
    for (text, want) in [
        (".", ContextPlace::Directory(".".into())),
        ("-", ContextPlace::Stdin),
        ("dir/x", ContextPlace::Directory("dir/x".into())),
        ("https://x/y.tgz", ContextPlace::Remote("https://x/y.tgz".into())),
        (
            "github.com/u/r#v1:sub",
            ContextPlace::Remote("github.com/u/r#v1:sub".into()),
        ),
        (
            "git@github.com:u/r.git",
            ContextPlace::Remote("git@github.com:u/r.git".into()),
        ),
    ] {
        assert_eq!(context(OsStr::new(text)).unwrap(), want);
    }
    assert!(context(OsStr::new("")).is_err());
    let file = |f: Option<&str>, c| dockerfile(f.map(OsStr::new), &c);
    let here = || ContextPlace::Directory(".".into());
    assert_eq!(file(None, here()).unwrap(), DockerfilePlace::Usual);
    assert_eq!(file(Some("-"), here()).unwrap(), DockerfilePlace::Stdin);
    assert_eq!(file(Some("a/b"), here()).unwrap(), DockerfilePlace::File("a/b".into()));
    let e = file(Some("-"), ContextPlace::Stdin).unwrap_err().to_string();
    assert_eq!(
        e,
        "invalid argument: can't use stdin for both build context and dockerfile"
    );
}

#[test]
fn named_contexts() {
    for (text, want) in [
        ("a=dir", NamedPlace::Directory("dir".into())),
        ("a=docker-image://alpine:3", NamedPlace::Image("alpine:3".into())),
        (
            "a=oci-layout:///x/y:tag",
            NamedPlace::OciLayout {
                dir: "/x/y".into(),
                select: Some(":tag".into()),
            },
        ),
        (
            "a=oci-layout://x@sha256:0",
            NamedPlace::OciLayout {
                dir: "x".into(),
                select: Some("@sha256:0".into()),
            },
        ),
        ("a=https://x/y.git", NamedPlace::Remote("https://x/y.git".into())),
    ] {
        assert_eq!(
            named_context(text).unwrap(),
            NamedContext {
                name: "a".into(),
                place: want
            }
        );
    }
    for bad in ["a", "=b", "a=", "a=docker-image://A B"] {
        assert!(named_context(bad).is_err(), "{bad}");
    }
}

#[test]
fn secrets_and_agents() {
    for (text, from) in [
        ("id=a,src=/f", SecretFrom::File("/f".into())),
        ("id=a,source=f", SecretFrom::File("f".into())),
        ("id=a,env=E", SecretFrom::Env("E".into())),
        ("type=env,id=a", SecretFrom::Env("a".into())),
        ("id=a", SecretFrom::Any("a".into())),
        ("id=a,type=secret", SecretFrom::Stored("a".into())),
    ] {
        assert_eq!(secret(text).unwrap(), SecretSource { id: "a".into(), from }, "{text}");
    }
    for bad in [
        "",
        "src=/f",
        "id=",
        "id=a,src=b,env=c",
        "id=a,scr=b",
        "id=a,type=x",
        "id",
    ] {
        assert!(secret(bad).is_err(), "{bad}");
    }
    assert_eq!(secret("id=a,scr=b").unwrap_err().hint(), Some("did you mean src?"));
    assert_eq!(
        ssh("default").unwrap(),
        SshSource {
            id: "default".into(),
            paths: vec![]
        }
    );
    assert_eq!(
        ssh("k=/a,/b").unwrap().paths,
        [PathBuf::from("/a"), PathBuf::from("/b")]
    );
    assert!(ssh("=/a").is_err());
}

#[test]
fn outputs() {
    let file = |f: &str| Destination::File(f.into());
    for (text, want) in [
        ("out", Output::Local { dest: "out".into() }),
        (
            "-",
            Output::Tar {
                dest: Destination::Stdout,
            },
        ),
        ("type=local,dest=d", Output::Local { dest: "d".into() }),
        ("type=tar,dest=x.tar", Output::Tar { dest: file("x.tar") }),
        (
            "type=tar",
            Output::Tar {
                dest: Destination::Stdout,
            },
        ),
        (
            "type=oci,dest=o",
            Output::Oci {
                dest: file("o"),
                names: vec![name("n")],
                directory: false,
            },
        ),
        (
            "type=oci,dest=o,tar=false",
            Output::Oci {
                dest: file("o"),
                names: vec![name("n")],
                directory: true,
            },
        ),
        (
            "type=docker",
            Output::Docker {
                dest: None,
                names: vec![name("n")],
            },
        ),
        (
            "type=docker,dest=-",
            Output::Docker {
                dest: Some(Destination::Stdout),
                names: vec![name("n")],
            },
        ),
        (
            "type=image,push=true",
            Output::Image {
                names: vec![name("n")],
                push: true,
            },
        ),
        (
            "type=registry,\"name=a/b:1,c\"",
            Output::Image {
                names: vec![name("n"), name("a/b:1"), name("c")],
                push: true,
            },
        ),
        ("type=cacheonly", Output::Nothing),
    ] {
        assert_eq!(output(text, &[name("n")]).unwrap(), want, "{text}");
    }
    for bad in [
        "",
        "type=zip",
        "type=local",
        "type=oci,tar=false",
        "type=tar,dset=x",
        "type=image,push=maybe",
    ] {
        assert!(output(bad, &[]).is_err(), "{bad}");
    }
    assert!(
        output("type=registry", &[])
            .unwrap_err()
            .to_string()
            .contains("needs a name")
    );
}

#[test]
fn caches() {
    assert_eq!(
        cache_from("u/app:cache").unwrap(),
        CachePlace::Registry(name("u/app:cache"))
    );
    assert_eq!(
        cache_from("type=registry,ref=u/app").unwrap(),
        CachePlace::Registry(name("u/app"))
    );
    assert_eq!(
        cache_from("type=local,src=d,digest=sha256:1").unwrap(),
        CachePlace::Local {
            dir: "d".into(),
            select: Some("@sha256:1".into())
        }
    );
    let to = cache_to("type=local,dest=d,mode=max,ignore-error=true").unwrap();
    assert!(to.all_stages && to.ignore_error && !to.inline);
    assert!(cache_to("type=inline").unwrap().inline);
    for bad in [
        "",
        "type=gha",
        "type=local",
        "type=registry",
        "type=registry,ref=A B",
        "type=local,dest=d,mode=x",
    ] {
        assert!(cache_to(bad).is_err(), "{bad}");
    }
}

#[test]
fn arguments_and_platforms() {
    let caller = |n: &str| (n == "SET").then(|| "mine".to_owned());
    let one = |t| argument(t, caller).unwrap();
    assert_eq!(one("A=b=c"), Some(("A".into(), "b=c".into())));
    assert_eq!(one("A="), Some(("A".into(), String::new())));
    assert_eq!(one("SET"), Some(("SET".into(), "mine".into())));
    assert_eq!(one("UNSET"), None);
    assert!(argument("=x", caller).is_err());
    assert_eq!(argument_file("# c\n\nA=1\nSET\nNO\n", caller).unwrap().len(), 2);
    let list = platforms(["linux/amd64,linux/arm64", "linux/amd64"].into_iter()).unwrap();
    assert_eq!(list.len(), 2);
    assert!(platforms(["nonsense"].into_iter()).is_err());
    assert!(pair("label", "a").is_err() && pair("label", "=a").is_err());
}
