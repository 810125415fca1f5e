//! Image configurations (image-spec, config.md; docker's image JSON of 1.10 and later has the same shape). The bytes as
//! they came are the blob, and their digest is the image's id; what is parsed here is what the engine needs of them.

use crate::error::{Error, Result};
use crate::format::{MAX_LAYERS, parse_json, shown};
use crate::model::image::ImageConfig;

/// Reads the configuration of an image that can be unpacked.
pub(crate) fn parse(bytes: &[u8]) -> Result<ImageConfig> {
    let config: ImageConfig = parse_json(bytes, "image configuration")?;
    if config.rootfs.kind != "layers" {
        let kind = shown(&config.rootfs.kind);
        return Err(Error::other(format!(
            "image configuration: rootfs of type '{kind}', want layers"
        )));
    }
    let layers = config.rootfs.diff_ids.len();
    if layers > MAX_LAYERS {
        return Err(Error::other(format!(
            "image configuration: {layers} layers, at most {MAX_LAYERS}"
        )));
    }
    Ok(config)
}

/// Manifest and configuration have to speak of equally many layers.
pub(crate) fn check_against(config: &ImageConfig, layers: usize) -> Result<()> {
    let named = config.rootfs.diff_ids.len();
    match named == layers {
        true => Ok(()),
        false => Err(Error::other(format!(
            "the manifest has {layers} layers, the configuration {named}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::bytes::ByteString;

    #[test]
    fn what_docker_writes_is_kept() {
        let json = r#"{"architecture":"amd64","config":{"Hostname":"x","Env":null,"Cmd":["sh"],"Image":"sha256:1",
            "Volumes":null,"OnBuild":null,"Labels":{"a":"b"},"ArgsEscaped":true,"Shell":["/bin/bash","-c"],
            "Healthcheck":{"Test":["CMD-SHELL","true"],"Interval":1000000000,"Retries":3}},
            "container":"f00","container_config":{},"created":"2020-01-01T00:00:00.5Z","docker_version":"19.03",
            "history":[{"created":"0001-01-01T00:00:00Z","created_by":"x","empty_layer":true}],"os":"linux",
            "rootfs":{"type":"layers","diff_ids":null}}"#;
        let config = parse(json.as_bytes()).unwrap();
        let check = config.config.healthcheck.clone().unwrap();
        assert_eq!((check.test.len(), check.interval, check.retries), (2, 1_000_000_000, 3));
        assert_eq!(config.config.shell, ["/bin/bash", "-c"]);
        assert_eq!(config.config.cmd, [ByteString::from("sh")]);
        assert_eq!(config.history[0].created.unwrap().to_string(), "0001-01-01T00:00:00Z");
        let again: ImageConfig = serde_json::from_slice(&serde_json::to_vec(&config).unwrap()).unwrap();
        assert_eq!(again, config);
        check_against(&config, 0).unwrap();
        assert_eq!(
            check_against(&config, 2).unwrap_err().to_string(),
            "the manifest has 2 layers, the configuration 0"
        );
    }

    #[test]
    fn odd_and_hostile_ones() {
        for json in [
            r#"{"created":"yesterday","rootfs":{"type":"layers"}}"#,
            r#"{"created":null,"config":null,"history":null,"author":null}"#,
            "{}",
        ] {
            assert_eq!(parse(json.as_bytes()).unwrap().created, None, "{json}");
        }
        let many = format!(
            r#"{{"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
            vec![format!("\"sha256:{}\"", "0".repeat(64)); 1001].join(",")
        );
        let steps = format!(r#"{{"history":[{}]}}"#, vec!["{}"; 10_001].join(","));
        let deep = format!(
            r#"{{"config":{{"Env":{}{}}}}}"#,
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        for (json, why) in [
            ("", "is empty"),
            ("  <html>", "HTML"),
            ("[1]", "damaged"),
            (r#"{"rootfs":{"type":"x\u001b"}}"#, "rootfs of type 'x\\u{1b}'"),
            (
                r#"{"rootfs":{"type":"layers","diff_ids":["sha256:../../etc"]}}"#,
                "damaged: invalid digest",
            ),
            (&many, "1001 layers"),
            (&deep, "damaged"),
            (&steps, "history of more than 10000 steps"),
        ] {
            let e = parse(json.as_bytes()).unwrap_err().to_string();
            assert!(e.contains(why), "{e}");
        }
        let huge = vec![b' '; crate::format::MAX_BYTES + 1];
        assert!(parse(&huge).unwrap_err().to_string().contains("larger than 4 MiB"));
    }
}
