//! `config show`, `completions`, `version`: what this program is and what it would do.

use std::io;

use clap::{Args, CommandFactory, Subcommand};
use clap_complete::Shell;
use comfy_table::{Table, presets};
use serde_json::{Map, Value, json};

use crate::cli::args::Cli;
use crate::cli::exit::Error;
use crate::cli::output::Output;
use crate::cli::run::SettingArgs;
use crate::cli::settings::KEYS;

/// The settings that `run` would use.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    Show(Box<ShowArgs>),
}

/// Print each setting as `run` would see it with the same flags.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  folkmoot config show --origin
  FOLKMOOT_STORE=redb folkmoot config show --origin --name w7 --json")]
struct ShowArgs {
    /// Also print where each value was said: a flag, a variable, a file and its line, or the default
    #[arg(long)]
    origin: bool,
    #[command(flatten)]
    settings: SettingArgs,
}

pub fn config(args: ConfigArgs, output: Output) -> Result<(), Error> {
    let ConfigCommand::Show(args) = args.command;
    let config = args.settings.load()?;
    let values = serde_json::to_value(&config.settings).map_err(|error| Error::Failed(error.to_string()))?;
    let origin = |key: &str| config.said.get(key).map(|said| said.origin.to_string()).unwrap_or_default();
    if output.json {
        let one = |key: &'static str| match args.origin {
            true => (key.to_owned(), json!({ "value": values[key], "origin": origin(key) })),
            false => (key.to_owned(), values[key].clone()),
        };
        return output.compact(&KEYS.into_iter().map(one).collect::<Map<_, _>>());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for key in KEYS {
        let mut row = vec![key.to_owned(), plain(key, &values[key])];
        if args.origin {
            row.push(origin(key));
        }
        table.add_row(row);
    }
    output.line(table.trim_fmt())
}

fn plain(key: &str, value: &Value) -> String {
    match value {
        Value::Null if key == "mdns" => String::from("auto"),
        Value::Null => String::from("none"),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => String::from("none"),
        Value::Array(items) => items.iter().map(|item| plain(key, item)).collect::<Vec<_>>().join(" "),
        Value::Bool(flag) => String::from(if *flag { "on" } else { "off" }),
        other => other.to_string(),
    }
}

/// Print a completion script for a shell.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  folkmoot completions bash > /etc/bash_completion.d/folkmoot
  folkmoot completions zsh > ~/.zfunc/_folkmoot")]
pub struct CompletionsArgs {
    shell: Shell,
}

pub fn completions(args: &CompletionsArgs) -> Result<(), Error> {
    // Into memory first: the generator panics when its writer fails, and stdout may be a closed pipe.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "folkmoot", &mut script);
    Ok(io::Write::write_all(&mut io::stdout().lock(), &script)?)
}

pub fn version(output: Output) -> Result<(), Error> {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let version = json!({
        "name": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
        "profile": profile,
        "quic": cfg!(feature = "quic"),
    });
    output.either(&version, || format!("folkmoot {} ({profile})", env!("CARGO_PKG_VERSION")))
}
