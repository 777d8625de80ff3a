//! Ctrl-C, and questions on the terminal, which it must not leave without an echo.
//!
//! SIGINT, SIGTERM and SIGHUP are blocked in every thread and awaited by one. While work is under way that holds a lock, the
//! first of them cancels it, and it ends in its own way; the second ends the process at once. Without such work, already the
//! first one does.

use std::io::{self, IsTerminal, Write};
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

use super::{Error, password};
use crate::engine::{EngineError, Password, Progress};

/// See the module. There is one in a process.
pub(super) struct Interrupt(Arc<Mutex<State>>);

/// Held for a look or an assignment.
#[derive(Default)]
struct State {
    /// What the first signal cancels.
    work: Option<Arc<Progress>>,
    /// How the terminal was, while it is otherwise.
    terminal: Option<Termios>,
}

impl Interrupt {
    /// Begins to watch. To be called before other threads are started, which inherit what is blocked.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn watch() -> Result<Self, Error> {
        let state = Arc::new(Mutex::new(State::default()));
        let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
            .into_iter()
            .collect();
        signals
            .thread_block()
            .map_err(|errno| Error::Runtime { source: errno.into() })?;
        let watched = Arc::clone(&state);
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                while let Ok(signal) = signals.wait() {
                    taken(&watched, signal);
                }
            })
            .map_err(|source| Error::Runtime { source })?;
        Ok(Self(state))
    }

    /// Does work that the first signal cancels instead of ending the process.
    ///
    /// # Errors
    /// The work's own; [`Error::Interrupted`] when it was cancelled.
    pub fn during<T, E>(&self, work: impl FnOnce(&Arc<Progress>) -> Result<T, E>) -> Result<T, Error>
    where
        Error: From<E>,
    {
        let progress = Arc::new(Progress::default());
        lock(&self.0).work = Some(Arc::clone(&progress));
        let done = work(&progress);
        lock(&self.0).work = None;
        Ok(done?)
    }

    /// Asks for a password on the terminal, without an echo.
    ///
    /// # Errors
    /// Where there is no terminal to ask on, or nothing was typed.
    pub fn ask(&self, question: &str) -> Result<Password, Error> {
        let (input, mut output) = (io::stdin(), io::stderr());
        if !input.is_terminal() || !output.is_terminal() {
            return Err(password::nowhere());
        }
        let failed = |why: String| EngineError::Password(format!("cannot ask for the password: {why}"));
        let before = tcgetattr(&input).map_err(|errno| failed(errno.desc().to_owned()))?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        silent.local_flags.insert(LocalFlags::ECHONL);
        let silence = Silence(&self.0);
        lock(silence.0).terminal = Some(before);
        tcsetattr(&input, SetArg::TCSAFLUSH, &silent).map_err(|errno| failed(errno.desc().to_owned()))?;
        let asked = write!(output, "{question}").and_then(|()| output.flush());
        asked.map_err(|error| failed(error.to_string()))?;
        let mut line = String::new();
        input
            .read_line(&mut line)
            .map_err(|error| failed(error.to_string()))?;
        drop(silence);
        Ok(Password::new(line.trim_end_matches(['\n', '\r']).to_owned())?)
    }
}

/// A terminal without an echo, until this is dropped.
struct Silence<'a>(&'a Mutex<State>);

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        restore(&mut lock(self.0));
    }
}

fn taken(state: &Mutex<State>, signal: Signal) {
    let mut state = lock(state);
    match &state.work {
        Some(work) if !work.is_cancelled() => work.cancel(),
        _ => {
            if restore(&mut state) {
                let _ = writeln!(io::stderr());
            }
            // What shells expect of one that a signal has ended.
            process::exit(128 + signal as i32);
        }
    }
}

/// Gives the terminal its echo back; says whether it was without.
fn restore(state: &mut State) -> bool {
    let before = state.terminal.take();
    if let Some(before) = &before {
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, before);
    }
    before.is_some()
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
