//! A container's environment, from the engine, its image and its user (pure).

use crate::container::config::RunArgs;
use crate::model::bytes::ByteString;
use crate::model::container::DEFAULT_PATH;

/// The engine's own, then the image's, then the user's; the last one of a name wins, in the place of the first.
pub(super) fn environment(args: &RunArgs, hostname: &str, image: &[ByteString]) -> Vec<ByteString> {
    let mut env: Vec<ByteString> = vec![
        DEFAULT_PATH.into(),
        format!("HOSTNAME={hostname}").into(),
        "container=barge".into(),
    ];
    if args.tty {
        env.push("TERM=xterm".into());
    }
    let known: Vec<_> = env.iter().chain(image).cloned().collect();
    let merged: Vec<_> = args.env_merge.iter().map(|pair| merge(pair, &known)).collect();
    for new in image.iter().chain(&merged).chain(&args.env) {
        let (name, value) = new.split_env();
        let old = env.iter().position(|e| e.split_env().0 == name);
        match (old, value) {
            (Some(at), Some(_)) => env[at] = new.clone(),
            (None, Some(_)) => env.push(new.clone()),
            (Some(at), None) => {
                env.remove(at);
            }
            (None, None) => {}
        }
    }
    env
}

/// `NAME=value` with `$OTHER` and `${OTHER}` as they are known, the last one of a name; nothing for what is not.
fn merge(pair: &ByteString, known: &[ByteString]) -> ByteString {
    let (name, value) = pair.split_env();
    let value_of = |wanted: &[u8]| known.iter().rev().find(|e| e.split_env().0 == wanted);
    let mut made = [name, b"="].concat();
    let mut rest = value.unwrap_or_default();
    while let Some(at) = rest.iter().position(|b| *b == b'$') {
        made.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        let word = |bytes: &[u8]| {
            bytes
                .iter()
                .take_while(|b| b.is_ascii_alphanumeric() || **b == b'_')
                .count()
        };
        let (other, after) = match rest.strip_prefix(b"{") {
            Some(inner) if inner.get(word(inner)) == Some(&b'}') => inner.split_at(word(inner)),
            _ => rest.split_at(word(rest)),
        };
        if other.is_empty() {
            made.push(b'$');
        } else if let Some((_, Some(found))) = value_of(other).map(ByteString::split_env) {
            made.extend_from_slice(found);
        }
        rest = match rest.starts_with(b"{") && !other.is_empty() {
            true => &after[1..],
            false => after,
        };
    }
    made.extend_from_slice(rest);
    made.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_images_values_in_others() {
        let image = ["PATH=/bin", "EMPTY=", "A=1"].map(ByteString::from);
        for (pair, want) in [
            ("PATH=/x:$PATH", "PATH=/x:/bin"),
            ("PATH=${PATH}:${A}b", "PATH=/bin:1b"),
            ("B=$none$A-", "B=1-"),
            ("B=${A", "B=${A"),
            ("B=$", "B=$"),
            ("B=a$ b$$", "B=a$ b$$"),
            ("B=${EMPTY}x", "B=x"),
            ("B=", "B="),
        ] {
            assert_eq!(merge(&pair.into(), &image), ByteString::from(want), "{pair}");
        }
        let of_none = environment(
            &RunArgs {
                env_merge: vec!["PATH=$PATH:/x".into()],
                ..RunArgs::default()
            },
            "h",
            &[],
        );
        assert_eq!(of_none[0], ByteString::from([DEFAULT_PATH, ":/x"].concat().as_str()));
        let args = RunArgs {
            env_merge: vec!["A=${A}2".into()],
            env: vec!["B=3".into()],
            ..RunArgs::default()
        };
        let env = environment(&args, "h", &image);
        assert!(env.contains(&"A=12".into()) && env.contains(&"B=3".into()), "{env:?}");
    }
}
