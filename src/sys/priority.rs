//! How much of the processors a thread is to have, where others want them too.

use std::io;

use super::error::{Result, SysError};

/// What background work has: a tenth of what other threads have, and all that they leave (sched(7): a step is about 1.25).
const BACKGROUND: libc::c_int = 10;

/// Has the calling thread, and those that it starts from now on, give way to others. There is no way back without a
/// capability (`CAP_SYS_NICE`), so a thread that has other work to do afterwards is not one to call this.
///
/// # Errors
/// Where the kernel refuses, which it does to nobody who asks for less (setpriority(2)).
pub fn give_way() -> Result<()> {
    // SAFETY: setpriority takes three numbers; with PRIO_PROCESS, 0 is the calling thread on Linux.
    match unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, BACKGROUND) } {
        0 => Ok(()),
        _ => Err(SysError::io(
            "lower the priority of",
            "/proc/thread-self",
            io::Error::last_os_error(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The niceness of the calling thread: field 19 of its stat, the 17th after the name's parenthesis (proc_pid_stat(5)).
    fn niceness() -> i32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("it is there");
        let (_, fields) = stat.rsplit_once(") ").expect("a name");
        fields
            .split(' ')
            .nth(16)
            .and_then(|field| field.parse().ok())
            .expect("a number")
    }

    #[test]
    fn a_thread_gives_way_with_those_that_it_starts_and_with_no_others() {
        let before = niceness();
        let (own, child) = std::thread::spawn(|| {
            give_way().expect("nobody is refused less");
            let child = std::thread::spawn(niceness).join().expect("no panic");
            (niceness(), child)
        })
        .join()
        .expect("no panic");
        assert_eq!((own, child), (BACKGROUND, BACKGROUND));
        assert_eq!(niceness(), before);
    }
}
