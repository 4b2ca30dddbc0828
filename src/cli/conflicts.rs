//! `conflicts`: what does not go together, and settling it.

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::cli::address::{Address, check_collection, encode, query};
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

An ID may be cut short to its first digits, four at least, where they name one conflict.
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
        #[arg(long, value_parser = collection)]
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
    /// Show one conflict whole, or say what became of it
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
        document: Option<Address>,
        /// So many at most
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000))]
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
            let client = api.client()?;
            let id = whole(&client, &id, &[Among::Listed, Among::Decided]).await?;
            let conflict: Value = client.read(&format!("/v1/conflicts/{}", escaped(&id))).await?;
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
            let client = api.client()?;
            let id = whole(&client, &id, &[Among::Listed, Among::Decided]).await?;
            let path = format!("/v1/conflicts/{}/resolve?preview={preview}", escaped(&id));
            told(&client, &path, body, output).await
        }
        ConflictsCommand::Reopen { id, by, api } => {
            let client = api.client()?;
            let id = whole(&client, &id, &[Among::Decided, Among::Listed]).await?;
            let path = format!("/v1/conflicts/{}/reopen", escaped(&id));
            let receipt: Value = client.parse(&client.post(&path, json!({ "by": whoever(by) })).await?)?;
            output.either(&receipt, || match receipt["conflict"].as_str() {
                Some(id) => format!("opened again, as the new conflict {id}"),
                None => "opened again, as a new conflict: `folkmoot conflicts ls` names it".to_owned(),
            })
        }
        ConflictsCommand::Undo { id, dot, by, api } => {
            let client = api.client()?;
            let id = whole(&client, &id, &[Among::Listed, Among::Decided]).await?;
            let path = format!("/v1/conflicts/{}/undo", escaped(&id));
            told(&client, &path, json!({ "dot": dot, "by": whoever(by) }), output).await
        }
        ConflictsCommand::Ledger { document, limit, api } => {
            let document = document.map(|document| document.to_string());
            let asked = query(&[("document", document), ("limit", Some(limit.to_string()))]);
            let page: Value = api.client()?.read(&format!("/v1/ledger{asked}")).await?;
            let mut table = table(["document", "field", "value", "dot", "rule", "what became of it", "reads now"]);
            for item in items(&page) {
                if output.json {
                    output.compact(item)?;
                }
                let field = |name: &str| text(&item[name]);
                table.add_row([
                    field("document"),
                    field("field"),
                    item["value"].to_string(),
                    field("dot"),
                    field("rule"),
                    field("says"),
                    item["now"].to_string(),
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

/// Hexadecimal digits of a whole id.
const ID_LEN: usize = 32;
/// Fewer digits name too many conflicts to be meant.
const PREFIX_LEN_MIN: usize = 4;
/// Ids that are asked for, and named where a prefix names several.
const CANDIDATES_MAX: usize = 8;

/// Where a conflict is looked for by the beginning of its id.
#[derive(Debug, Clone, Copy)]
pub(super) enum Among {
    /// Those that are.
    Listed,
    /// Those with a note: what somebody did about them.
    Decided,
}

/// The id that its first digits name. The first place that knows any decides; what none knows is left as it is, for the
/// node to say so. What is no beginning of an id, as a dot, is not looked for.
pub(super) async fn whole(client: &Client, typed: &str, places: &[Among]) -> Result<String, Error> {
    let is_hex = !typed.is_empty() && typed.bytes().all(|b| b.is_ascii_hexdigit());
    if typed.is_empty() {
        return Err(Error::Usage("the id is empty: `folkmoot conflicts ls` lists them".to_owned()));
    }
    if !is_hex || typed.len() >= ID_LEN {
        return Ok(typed.to_owned());
    }
    if typed.len() < PREFIX_LEN_MIN {
        let says = format!("`{typed}` is too short for an id: give at least {PREFIX_LEN_MIN} of its digits");
        return Err(Error::Usage(says));
    }
    let prefix = typed.to_ascii_lowercase();
    for place in places {
        let found = candidates(client, &prefix, *place).await?;
        match &found[..] {
            [] => {}
            [(id, _)] => return Ok(id.clone()),
            several => return Err(Error::Usage(ambiguous(&prefix, several))),
        }
    }
    Ok(prefix)
}

/// Ids that begin so, and what they are about; one more than are named.
async fn candidates(client: &Client, prefix: &str, place: Among) -> Result<Vec<(String, String)>, Error> {
    let limit = (CANDIDATES_MAX + 1).to_string();
    let prefixed = |name: &'static str| [(name, Some(prefix.to_owned())), ("limit", Some(limit.clone()))];
    let page: Value = match place {
        // An id sorts right after its own beginning.
        Among::Listed => client.read(&format!("/v1/conflicts{}", query(&prefixed("after")))).await?,
        Among::Decided => client.read(&format!("/v1/docs/conflicts{}", query(&prefixed("prefix")))).await?,
    };
    let candidate = |item: &Value| {
        let about = if matches!(place, Among::Listed) { item } else { &item["fields"] };
        let field = if about["field"].is_null() { &about["rule"] } else { &about["field"] };
        let id = item["id"].as_str().filter(|id| id.starts_with(prefix))?;
        Some((id.to_owned(), format!("{} {}", text(&about["document"]), text(field))))
    };
    Ok(items(&page).filter_map(candidate).collect())
}

fn ambiguous(prefix: &str, several: &[(String, String)]) -> String {
    let named = several.iter().take(CANDIDATES_MAX).map(|(id, about)| format!("\n  {id}  {about}"));
    let more = if several.len() > CANDIDATES_MAX { "\n  and more" } else { "" };
    format!("`{prefix}` begins several ids, give more digits:{}{more}", named.collect::<String>())
}

fn collection(name: &str) -> Result<String, String> {
    check_collection(name).map(|()| name.to_owned())
}

/// A conflict's id is hexadecimal, but a dot holds slashes and a colon, and anything may be typed.
fn escaped(id: &str) -> String {
    encode(id, false)
}

pub(super) fn whoever(by: Option<String>) -> String {
    by.or_else(|| std::env::var("USER").ok()).filter(|by| !by.is_empty()).unwrap_or_else(|| "cli".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_of_several_ids_names_them_and_not_too_many() {
        let several: Vec<_> = (0..9).map(|n| (format!("4f2c{n}"), format!("vms/{n} host"))).collect();
        let two = ambiguous("4f2c", &several[..2]);
        assert_eq!(two, "`4f2c` begins several ids, give more digits:\n  4f2c0  vms/0 host\n  4f2c1  vms/1 host");
        let many = ambiguous("4f2c", &several);
        assert!(many.ends_with("vms/7 host\n  and more"), "{many}");
    }
}
