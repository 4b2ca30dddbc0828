//! `conflicts`: what does not go together, and settling it.

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::cli::address::query;
use crate::cli::client::{ApiArg, Client};
use crate::cli::exit::Error;
use crate::cli::input;
use crate::cli::output::Output;
use crate::conflict::Status;
use crate::crdt::Resolver;
use crate::document::rule::Severity;

/// List, settle and undo conflicts.
///
/// A conflict is values that were written concurrently, or a rule of a schema that does not hold. Those that a resolver
/// settles are listed too: their losers can be brought back.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  folkmoot conflicts ls --status open
  folkmoot conflicts show ID
  folkmoot conflicts resolve ID --choose REPLICA:SEQ           one of the siblings
  folkmoot conflicts resolve ID --value '\"h2\"'               another value
  folkmoot conflicts resolve ID --resolver max --preview       what a resolver would make of it
  folkmoot conflicts reopen ID                                 take the decision back
  folkmoot conflicts undo ID                                   bring the overruled value back
  folkmoot conflicts ledger vms/vm-1                           what was overruled there, as this node saw it
  folkmoot conflicts undo REPLICA:SEQ                          bring one of those back

Exit code 5: conflicts wait to be settled (ls --check).")]
pub struct ConflictsArgs {
    #[command(subcommand)]
    command: ConflictsCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum ConflictsCommand {
    /// List conflicts
    Ls {
        /// Only those that stand so
        #[arg(long, value_parser = Status::ALL.map(Status::name))]
        status: Option<String>,
        /// Only those so severe
        #[arg(long, value_parser = Severity::ALL.map(Severity::name))]
        severity: Option<String>,
        /// Only those of this collection
        #[arg(long)]
        collection: Option<String>,
        /// Only those whose newest value is at least so old
        #[arg(long, value_name = "MS")]
        older_than_ms: Option<u64>,
        /// End with exit code 5 if any of them waits for somebody
        #[arg(long)]
        check: bool,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Show one conflict whole
    Show {
        id: String,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Settle a conflict
    Resolve {
        id: String,
        /// With the sibling that has this dot
        #[arg(long, value_name = "DOT", conflicts_with_all = ["value", "resolver"])]
        choose: Option<String>,
        /// With this value; JSON where it is valid JSON, else text
        #[arg(long, conflicts_with = "resolver")]
        value: Option<String>,
        /// With what this resolver makes of the siblings
        #[arg(long, value_name = "NAME", value_parser = Resolver::ALL.map(Resolver::name))]
        resolver: Option<String>,
        /// Say what would be written, and write nothing
        #[arg(long)]
        preview: bool,
        /// Who settles it, for the record [default: $USER]
        #[arg(long)]
        by: Option<String>,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Take a decision back: the values stand side by side again
    Reopen {
        id: String,
        /// Who does it, for the record [default: $USER]
        #[arg(long)]
        by: Option<String>,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Bring an overruled value back, as a new write
    Undo {
        /// The conflict, or the dot of the value
        #[arg(value_name = "ID|DOT")]
        id: String,
        /// The value, where several were overruled
        #[arg(long, value_name = "DOT")]
        dot: Option<String>,
        /// Who does it, for the record [default: $USER]
        #[arg(long)]
        by: Option<String>,
        #[command(flatten)]
        api: ApiArg,
    },
    /// List values that stood beside others, as this node saw it
    Ledger {
        /// Only those of this document
        #[arg(value_name = "DOCUMENT")]
        document: Option<String>,
        /// So many at most
        #[arg(long, default_value_t = 100)]
        limit: u64,
        #[command(flatten)]
        api: ApiArg,
    },
}

pub async fn conflicts(args: ConflictsArgs, output: Output) -> Result<(), Error> {
    match args.command {
        ConflictsCommand::Ls { status, severity, collection, older_than_ms, check, api } => {
            let older = older_than_ms.map(|ms| ms.to_string());
            let asked =
                [("status", status), ("severity", severity), ("collection", collection), ("older_than_ms", older)];
            list(&api.client()?, &asked, check, output).await
        }
        ConflictsCommand::Show { id, api } => {
            let conflict: Value = api.client()?.read(&format!("/v1/conflicts/{}", escaped(&id))).await?;
            output.pretty(&conflict)
        }
        ConflictsCommand::Resolve { id, choose, value, resolver, preview, by, api } => {
            let mut body = json!({ "by": whoever(by) });
            match (choose, value, resolver) {
                (Some(dot), ..) => body["choose"] = dot.into(),
                (_, Some(value), _) => body["value"] = input::value(&value),
                (.., Some(name)) => body["resolver"] = name.into(),
                _ => {
                    let says = "say how: --choose DOT, --value VALUE or --resolver NAME";
                    return Err(Error::Usage(says.to_owned()));
                }
            }
            let path = format!("/v1/conflicts/{}/resolve?preview={preview}", escaped(&id));
            told(&api.client()?, &path, body, output).await
        }
        ConflictsCommand::Reopen { id, by, api } => {
            let client = api.client()?;
            let path = format!("/v1/conflicts/{}/reopen", escaped(&id));
            let receipt: Value = client.parse(&client.post(&path, json!({ "by": whoever(by) })).await?)?;
            output.either(&receipt, || "opened again, as a new conflict: `folkmoot conflicts ls` names it".to_owned())
        }
        ConflictsCommand::Undo { id, dot, by, api } => {
            let path = format!("/v1/conflicts/{}/undo", escaped(&id));
            told(&api.client()?, &path, json!({ "dot": dot, "by": whoever(by) }), output).await
        }
        ConflictsCommand::Ledger { document, limit, api } => {
            let asked = query(&[("document", document), ("limit", Some(limit.to_string()))]);
            let page: Value = api.client()?.read(&format!("/v1/ledger{asked}")).await?;
            let mut table = table(["overruled", "document", "field", "value", "dot", "rule"]);
            for item in items(&page) {
                if output.json {
                    output.compact(item)?;
                }
                let mark = if item["overruled"] == true { "yes" } else { "" };
                let field = |name: &str| text(&item[name]);
                table.add_row([
                    mark.into(),
                    field("document"),
                    field("field"),
                    item["value"].to_string(),
                    field("dot"),
                    field("rule"),
                ]);
            }
            if output.json { Ok(()) } else { output.line(table.to_string()) }
        }
    }
}

async fn list(client: &Client, asked: &[(&str, Option<String>); 4], check: bool, output: Output) -> Result<(), Error> {
    let (mut after, mut waiting, mut count) = (None, 0, 0);
    let mut table = table(["id", "status", "severity", "class", "document", "field or rule", "value", "by"]);
    loop {
        let mut parts = asked.to_vec();
        parts.push(("after", after));
        parts.push(("limit", Some("1000".to_owned())));
        let page: Value = client.read(&format!("/v1/conflicts{}", query(&parts))).await?;
        for item in items(&page) {
            count += 1;
            waiting += u32::from(item["status"] != "settled");
            if output.json {
                output.compact(item)?;
                continue;
            }
            let field = |name: &str| text(&item[name]);
            let place = if item["field"].is_null() { field("rule") } else { field("field") };
            let by = if item["policy"].is_null() {
                field("resolver")
            } else {
                format!("{} ({})", field("resolver"), field("policy"))
            };
            let value = if item["value"].is_null() { field("cause") } else { item["value"].to_string() };
            table.add_row([
                field("id"),
                field("status"),
                field("severity"),
                field("class"),
                field("document"),
                place,
                value,
                by,
            ]);
        }
        after = page["next"].as_str().map(str::to_owned);
        if after.is_none() {
            break;
        }
    }
    if !output.json {
        output.line(if count == 0 { "no conflicts".to_owned() } else { table.to_string() })?;
    }
    match check && waiting > 0 {
        true => Err(Error::Waiting(waiting)),
        false => Ok(()),
    }
}

/// Posts, and says what was, or would be, written.
async fn told(client: &Client, path: &str, body: Value, output: Output) -> Result<(), Error> {
    let done: Value = client.parse(&client.post(path, body).await?)?;
    output.either(&done, || {
        let verb = if done["written"] == true { "wrote" } else { "would write" };
        let conflict = &done["conflict"];
        format!("{verb} {} to {} of {}", done["value"], text(&conflict["field"]), text(&conflict["document"]))
    })
}

fn items(page: &Value) -> impl Iterator<Item = &Value> {
    page["items"].as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| if value.is_null() { String::new() } else { value.to_string() }, str::to_owned)
}

fn table<const N: usize>(head: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(head);
    table
}

/// A conflict's id is hexadecimal, but a dot holds a colon, and anything may be typed.
fn escaped(id: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:~".contains(&b);
    id.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

pub(super) fn whoever(by: Option<String>) -> String {
    by.or_else(|| std::env::var("USER").ok()).filter(|by| !by.is_empty()).unwrap_or_else(|| "cli".to_owned())
}
