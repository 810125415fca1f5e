//! The tiny pid 1 of `--init`: starts the program as its child, reaps whatever is left to it, passes signals on, and
//! ends as the program ends. It is this engine's own process, from its write-protected program (sys/exe.rs).

use crate::error::{Context as _, Result};
use crate::runtime::capability::Capabilities;
use crate::sys;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Returns only in the child, which goes on to the program.
pub(crate) fn stay(own: Capabilities) -> Result<()> {
    // Blocked before the fork, so that none is lost in between.
    let all = SigSet::all();
    all.thread_block()?;
    match sys::clone::fork().context("fork the program")? {
        None => {
            // A group of its own in the foreground, so that the terminal's keys reach it and not pid 1.
            let _ = rustix::process::setpgid(None, None);
            let _ = rustix::termios::tcsetpgrp(std::io::stdin(), rustix::process::getpid());
            SigSet::empty().thread_set_mask()?;
            Ok(())
        }
        Some(pid) => {
            if own.assume().is_err() {
                sys::process::exit_now(125);
            }
            let _ = nix::sys::prctl::set_name(c"init");
            // The end of the error pipe among them: it must close when the child executes.
            let _ = sys::process::close_all();
            sys::process::exit_now(reap_until(Pid::from_raw(pid), all));
        }
    }
}

fn reap_until(program: Pid, signals: SigSet) -> i32 {
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => {
                while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                    match status {
                        WaitStatus::Exited(pid, code) if pid == program => return code,
                        WaitStatus::Signaled(pid, signal, _) if pid == program => return 128 + signal as i32,
                        WaitStatus::StillAlive => break,
                        _ => {}
                    }
                }
            }
            Ok(signal) => {
                let _ = nix::sys::signal::kill(program, signal);
            }
            Err(_) => {}
        }
    }
}
