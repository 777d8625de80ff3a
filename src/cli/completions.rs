//! `windlass completions`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Error, Screen};

/// Print a shell's completion script
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  windlass completions bash > /etc/bash_completion.d/windlass
  windlass completions zsh > ~/.zfunc/_windlass
  windlass completions fish > ~/.config/fish/completions/windlass.fish")]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self, screen: &mut Screen) -> Result<(), Error> {
        // Into memory first: the generator panics where it cannot write.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "windlass", &mut script);
        screen.text(&String::from_utf8_lossy(&script))
    }
}
