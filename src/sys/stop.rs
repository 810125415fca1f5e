//! Named places where a test build can be killed, as by `kill -9` at that very instruction: `BARGE_STOP_AT=<name>`
//! (feature `stop-points`; tests/it/crash.rs finds the names in the source). Other builds have nothing here.

/// Whether a test wants this machine to be one that lacks something: `BARGE_REFUSE=<name>`.
#[cfg(feature = "stop-points")]
pub(crate) fn is_refused(name: &str) -> bool {
    std::env::var_os("BARGE_REFUSE").is_some_and(|refused| refused == name)
}

#[cfg(not(feature = "stop-points"))]
#[inline]
pub(crate) fn is_refused(_name: &str) -> bool {
    false
}

/// Kills this process if it is the place that was asked for.
#[cfg(feature = "stop-points")]
pub(crate) fn stop_point(name: &str) {
    if std::env::var_os(VARIABLE).is_some_and(|wanted| wanted == name) {
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
    }
}

#[cfg(not(feature = "stop-points"))]
#[inline]
pub(crate) fn stop_point(_name: &str) {}

#[cfg(feature = "stop-points")]
const VARIABLE: &str = "BARGE_STOP_AT";

/// The environment of a detached process: nothing of the caller's, but in a test build the place to stop at.
pub(super) fn environment() -> Vec<std::ffi::CString> {
    #[cfg(feature = "stop-points")]
    if let Some(wanted) = std::env::var_os(VARIABLE) {
        let entry = format!("{VARIABLE}={}", wanted.to_string_lossy());
        return std::ffi::CString::new(entry).into_iter().collect();
    }
    Vec::new()
}
