//! `--gpus` and `--device vendor/class=name`: text → devices by name.

use crate::container::config::{Count, GpuRequest};
use crate::error::{Error, Result};

/// Whether a `--device` names one as the Container Device Interface does, `vendor.com/class=name`, rather than a path.
pub(crate) fn is_name(text: &str) -> bool {
    let good = |part: &str, more: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    text.split_once('=').is_some_and(|(kind, name)| {
        good(name, "_-.:")
            && kind
                .split_once('/')
                .is_some_and(|(vendor, class)| good(vendor, "_-.") && good(class, "_-"))
    })
}

/// Docker's CSV: `all`, a number, or `count=…`, `device=…`, `driver=…`, `capabilities=…`, each of which may be quoted
/// to hold commas.
pub(crate) fn gpus(text: &str) -> Result<GpuRequest> {
    let bad = |why: &str| Error::usage(format!("invalid value '{text}' for '--gpus': {why}"));
    let mut request = GpuRequest::default();
    let mut counted = false;
    for (n, field) in fields(text).ok_or_else(|| bad("a quote is open"))?.iter().enumerate() {
        match field.split_once('=') {
            None if n == 0 && !field.is_empty() => {
                request.count = count(field).ok_or_else(|| bad("want all, a number, or device=…"))?;
                counted = true;
            }
            Some(("count", value)) => {
                request.count = count(value).ok_or_else(|| bad("count is all or a number"))?;
                counted = true;
            }
            Some(("device", value)) => {
                request.devices = value.split(',').map(str::to_owned).collect();
                if request.devices.iter().any(String::is_empty) {
                    return Err(bad("a device has no name"));
                }
            }
            Some(("driver", "")) => {}
            Some(("driver", value)) => request.vendor = Some(value.to_owned()),
            Some(("capabilities", value)) => {
                const KNOWN: [&str; 10] = [
                    "gpu", "nvidia", "amd", "compute", "utility", "graphics", "video", "display", "compat32", "ngx",
                ];
                if let Some(unknown) = value.split(',').find(|c| !KNOWN.contains(c)) {
                    return Err(bad(&format!("unknown capability '{unknown}'")));
                }
            }
            Some(("options", _)) => return Err(bad("options are not supported")),
            _ => return Err(bad(&format!("unknown field '{field}'"))),
        }
    }
    if counted && !request.devices.is_empty() {
        return Err(bad("cannot set both count and device"));
    }
    Ok(request)
}

fn count(text: &str) -> Option<Count> {
    match text {
        "all" | "-1" => Some(Count::All),
        text => text.parse().ok().filter(|n| *n > 0).map(Count::Number),
    }
}

/// The fields of a CSV line; `None` if a quote is not closed.
fn fields(text: &str) -> Option<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => fields.last_mut()?.push(c),
        }
    }
    (!quoted).then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths() {
        for name in ["nvidia.com/gpu=0", "vendor.com/net-if=a:b", "v/c=all"] {
            assert!(is_name(name), "{name}");
        }
        for path in ["/dev/null", "/dev/a=b", "nvidia.com/gpu", "a=b", "/c=x", "v/=x", "v/c="] {
            assert!(!is_name(path), "{path}");
        }
    }

    #[test]
    fn docker_csv() {
        assert_eq!(gpus("all").unwrap().count, Count::All);
        assert_eq!(gpus("2").unwrap().count, Count::Number(2));
        assert_eq!(gpus("device=0").unwrap().devices, ["0"]);
        let request = gpus("\"device=0,GPU-3a\",capabilities=utility,driver=nvidia").unwrap();
        assert_eq!(request.devices, ["0", "GPU-3a"]);
        assert_eq!(request.vendor.as_deref(), Some("nvidia"));
        for bad in [
            "",
            "0",
            "x",
            "count=0",
            "2,device=1",
            "\"device=0",
            "capabilities=fly",
            "options=a",
            "all,what=1",
        ] {
            assert!(gpus(bad).is_err(), "{bad}");
        }
    }
}
