//! The `folkmoot` command.

use std::process::ExitCode;

use clap::Parser;
use folkmoot::cli::{Cli, run};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if error.code() != 0 {
                eprintln!("folkmoot: {error}");
            }
            ExitCode::from(error.code())
        }
    }
}
