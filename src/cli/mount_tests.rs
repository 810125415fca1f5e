//! Every form of `-v`, `--mount`, `--tmpfs` and `--volumes-from`, drawn as one line.

use super::*;

fn draw(mount: &Mount) -> String {
    let source = match &mount.source {
        Source::Bind {
            path,
            non_recursive,
            create,
        } => format!(
            "bind {}{}{}",
            path.display(),
            if *non_recursive { " nonrecursive" } else { "" },
            if *create { "" } else { " must-exist" }
        ),
        Source::Volume {
            name,
            anonymous,
            copy_up,
            subpath,
        } => format!(
            "volume {}{}{}",
            if *anonymous { "?" } else { name },
            if *copy_up { "" } else { " nocopy" },
            subpath
                .as_ref()
                .map(|p| format!(" /{}", p.display()))
                .unwrap_or_default()
        ),
        Source::Image { .. } => "image".to_owned(),
        Source::Tmpfs { size, mode, options } => format!(
            "tmpfs {}{}{}",
            size.map(|s| format!("{s} ")).unwrap_or_default(),
            mode.map(|m| format!("{m:o} ")).unwrap_or_default(),
            options.join(",")
        ),
    };
    let propagation = match mount.propagation {
        Propagation::Rprivate => "",
        other => other.as_str(),
    };
    let line = format!(
        "{} {source}{} {propagation}",
        mount.target.display(),
        if mount.read_only { " ro" } else { "" }
    );
    line.trim_end().to_owned()
}

#[test]
fn volumes_in_every_form() {
    let here = Path::new("/here");
    for (text, want) in [
        ("/x", "? /x"),
        ("/x/../y/", "? /y"),
        ("data:/x", "/x volume data"),
        ("data:/x:ro", "/x volume data ro"),
        ("data:/x:nocopy,ro", "/x volume data nocopy ro"),
        ("/host:/x", "/x bind /host"),
        ("/host/../b:/x:rw", "/x bind /host/../b"),
        ("/host/:/x:ro,z,rslave", "/x bind /host ro rslave"),
        ("./sub:/x", "/x bind /here/sub"),
        (".:/x:Z", "/x bind /here"),
        ("..:/x", "/x bind /here/.."),
    ] {
        let drawn = match volume(OsStr::new(text), here).unwrap() {
            Volume::Anonymous(target) => format!("? {}", target.display()),
            Volume::Mounted(mount) => draw(&mount),
        };
        assert_eq!(drawn, want, "{text}");
    }
}

#[test]
fn volumes_that_are_refused() {
    for (text, why) in [
        ("", "is not an absolute path"),
        ("x", "x is not an absolute path"),
        ("/", "Illegal bind destination: /"),
        ("/a:/", "Illegal bind destination: /"),
        ("/a:/.", "Illegal bind destination"),
        ("/a:b", "b is not an absolute path"),
        ("/a:/b:ro:x", "Invalid bind specification: /a:/b:ro:x"),
        ("/a:/b:purple", "invalid mode: purple"),
        (":/b", "Invalid bind specification"),
        ("/a:", "Invalid bind specification"),
        ("a/b:/c", "invalid characters for a local volume name"),
        ("-a:/c", "invalid characters"),
        ("/a:/b:nocopy", "nocopy is for volumes"),
    ] {
        let e = volume(OsStr::new(text), Path::new("/")).unwrap_err().to_string();
        assert!(e.contains(why), "{text}: {e}");
    }
}

#[test]
fn paths_of_any_bytes() {
    let Volume::Mounted(mount) = volume(OsStr::from_bytes(b"/\xff:/\xfe"), Path::new("/")).unwrap() else {
        panic!()
    };
    assert_eq!(mount.target.as_os_str().as_bytes(), b"/\xfe");
}

#[test]
fn mounts_in_every_form() {
    for (text, want) in [
        ("target=/x", "/x volume ?"),
        ("type=volume,source=data,target=/x", "/x volume data"),
        (
            "type=volume,src=data,dst=/x,ro,volume-nocopy",
            "/x volume data nocopy ro",
        ),
        ("type=volume,src=data,dst=/x,volume-subpath=a/b", "/x volume data /a/b"),
        ("type=bind,source=/host,destination=/x", "/x bind /host must-exist"),
        (
            "type=bind,src=/h,dst=/x,readonly=false,bind-propagation=rshared",
            "/x bind /h must-exist rshared",
        ),
        (
            "type=bind,src=./h,dst=/x,readonly=true,bind-nonrecursive",
            "/x bind /here/h nonrecursive must-exist ro",
        ),
        ("type=tmpfs,dst=/x", "/x tmpfs noexec,nosuid,nodev"),
        (
            "type=tmpfs,dst=/x,tmpfs-size=64m,tmpfs-mode=1770",
            "/x tmpfs 67108864 1770 noexec,nosuid,nodev",
        ),
        ("\"type=bind\",\"src=/a,b\",dst=/x", "/x bind /a,b must-exist"),
    ] {
        let Asked::Mount(mount) = mount(text, Path::new("/here")).unwrap() else {
            panic!("{text}")
        };
        assert_eq!(draw(&mount), want, "{text}");
    }
}

#[test]
fn images_as_mounts() {
    for (text, want) in [
        ("type=image,source=alpine:3,target=/x", ("alpine:3", None, false)),
        ("type=image,src=a,dst=/x,rw", ("a", None, true)),
        (
            "type=image,src=a,dst=/x,rw=true,image-subpath=b/c",
            ("a", Some("b/c"), true),
        ),
        (
            "type=IMAGE,src=a,dst=/x,readwrite=false,subpath=/b",
            ("a", Some("/b"), false),
        ),
        ("type=image,src=a,dst=/x,readonly", ("a", None, false)),
    ] {
        let Asked::Image(made) = mount(text, Path::new("/here")).unwrap() else {
            panic!("{text}")
        };
        let subpath = made.subpath.as_deref().and_then(Path::to_str);
        assert_eq!((made.reference.as_str(), subpath, made.writable), want, "{text}");
        assert_eq!(made.target, Path::new("/x"));
    }
}

#[test]
fn mounts_that_are_refused() {
    for (text, why) in [
        ("", "unexpected key ''"),
        ("type=volume,src=data", "target is required"),
        ("type=bind,dst=/x", "requires a source"),
        ("type=bind,src=rel,dst=/x", "must be absolute"),
        ("type=bind,src=/h,dst=x", "x is not an absolute path"),
        ("type=bind,src=/h,dst=/x,colour=red", "unexpected key 'colour'"),
        (
            "type=bind,src=/h,dst=/x,volume-nocopy",
            "cannot mix 'volume-nocopy' with mount type 'bind'",
        ),
        (
            "type=bind,src=/h,dst=/x,bind-propagation=odd",
            "invalid value for bind-propagation",
        ),
        ("type=tmpfs,src=/h,dst=/x", "takes no source"),
        ("type=tmpfs,dst=/x,tmpfs-mode=999", "invalid value for tmpfs-mode"),
        ("type=squash,src=a,dst=/x", "mount type 'squash' is unknown"),
        ("type=image,dst=/x", "requires a source"),
        (
            "type=bind,src=/a,dst=/x,subpath=b",
            "cannot mix 'subpath' with mount type 'bind'",
        ),
        ("type=image,src=a", "target is required"),
        ("type=image,src=a,dst=/x,U", "not for type=image"),
        (
            "type=image,src=a,dst=/x,tmpfs-mode=700",
            "cannot mix 'tmpfs-mode' with mount type 'image'",
        ),
        ("type=bind,src=/h,dst=/x,ro=maybe", "invalid value for ro"),
        ("type=bind,src=/h,dst=/", "Illegal bind destination"),
        ("\"type=bind", "a quote does not end"),
    ] {
        let e = mount(text, Path::new("/")).unwrap_err().to_string();
        assert!(e.contains(why), "{text}: {e}");
    }
}

#[test]
fn tmpfs_options() {
    for (text, want) in [
        ("/x", "/x tmpfs noexec,nosuid,nodev"),
        ("/x:", "/x tmpfs noexec,nosuid,nodev"),
        ("/x:size=64m,mode=1777,exec", "/x tmpfs 67108864 1777 nosuid,nodev"),
        (
            "/x:ro,uid=5,noatime,noexec",
            "/x tmpfs noexec,nosuid,nodev,uid=5,noatime ro",
        ),
    ] {
        assert_eq!(draw(&tmpfs(OsStr::new(text)).unwrap()), want, "{text}");
    }
    for bad in [
        "x",
        "/",
        "/x:colour=red",
        "/x:size=much",
        "/x:mode=9",
        "/x:uid=root",
        "/x:bind",
    ] {
        assert!(tmpfs(OsStr::new(bad)).is_err(), "{bad}");
    }
}

#[test]
fn other_containers_volumes() {
    let from = |text| volumes_from(text).map(|v| (v.container, v.read_only));
    assert_eq!(from("db").unwrap(), ("db".into(), None));
    assert_eq!(from("db:ro").unwrap(), ("db".into(), Some(true)));
    assert_eq!(from("db:rw").unwrap(), ("db".into(), Some(false)));
    assert!(from("db:wo").is_err() && from("").is_err() && from(":ro").is_err());
}
