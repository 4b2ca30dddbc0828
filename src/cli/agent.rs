//! `agent`: those that work on one task, and what they tell each other.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::address::{encode, query};
use crate::cli::client::{ApiArg, Body, Client, Terms};
use crate::cli::exit::Error;
use crate::cli::input;
use crate::cli::output::Output;

/// Agents of a task: what each is at, and what they tell each other.
///
/// Whatever an agent writes says that it is there; after 15 s of silence it counts as gone. Messages come in one order on
/// every node. The last 256 of each agent are kept.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  folkmoot agent join build-7 ada --role lead
  folkmoot agent set build-7 ada --state testing --data '{\"shard\":3}'
  folkmoot agent send build-7 ada 'shard 3 is red' --to bob
  folkmoot agent inbox build-7 bob                     prints where to go on; --since takes it
  folkmoot agent ls build-7
  folkmoot agent heartbeat build-7 ada
  folkmoot agent leave build-7 ada")]
pub struct AgentArgs {
    #[command(subcommand)]
    command: AgentCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum AgentCommand {
    /// Join a task, or come back to it
    Join {
        task: String,
        agent: String,
        #[arg(long)]
        role: Option<String>,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Say what the agent is at
    Set {
        task: String,
        agent: String,
        #[arg(long)]
        state: Option<String>,
        #[arg(long)]
        role: Option<String>,
        /// What is to change, by key; null takes a key away
        #[arg(long, value_name = "JSON", default_value = "{}")]
        data: String,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Say only that it is there
    Heartbeat {
        task: String,
        agent: String,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Tell another agent, or all of the task, something
    Send {
        task: String,
        from: String,
        /// JSON where it is valid JSON, else text
        body: String,
        /// Without it: all of them
        #[arg(long, value_name = "AGENT")]
        to: Option<String>,
        /// A name of your own, to send it again when no answer came
        #[arg(long)]
        id: Option<String>,
        #[command(flatten)]
        api: ApiArg,
    },
    /// What was sent to an agent, or by others to all
    Inbox {
        task: String,
        agent: String,
        #[command(flatten)]
        page: PageArgs,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Every message of a task
    Messages {
        task: String,
        #[command(flatten)]
        page: PageArgs,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Show one
    Show {
        task: String,
        agent: String,
        #[command(flatten)]
        api: ApiArg,
    },
    /// List the agents of a task
    Ls {
        task: String,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Leave a task
    Leave {
        task: String,
        agent: String,
        /// Take it away altogether, with what it said
        #[arg(long)]
        forget: bool,
        #[command(flatten)]
        api: ApiArg,
    },
}

#[derive(Debug, Clone, Args)]
struct PageArgs {
    /// Go on after what was read: what the command before said
    #[arg(long, value_name = "PLACE")]
    since: Option<String>,
    #[arg(long, default_value_t = 100)]
    limit: u64,
}

pub async fn agent(args: AgentArgs, output: Output) -> Result<(), Error> {
    match args.command {
        AgentCommand::Join { task, agent, role, api } => {
            let path = path(&task, &agent);
            let receipt = ask(&api.client()?, Method::PUT, &path, Some(json!({ "role": role }))).await?;
            output.either(&receipt, || format!("{agent} works on {task}"))
        }
        AgentCommand::Set { task, agent, state, role, data, api } => {
            let body = json!({ "state": state, "role": role, "data": input::fields(&data)? });
            let receipt = ask(&api.client()?, Method::PATCH, &path(&task, &agent), Some(body)).await?;
            output.either(&receipt, || format!("{agent} has said so"))
        }
        AgentCommand::Heartbeat { task, agent, api } => {
            let receipt = ask(&api.client()?, Method::PATCH, &path(&task, &agent), Some(json!({}))).await?;
            output.either(&receipt, || format!("{agent} is there"))
        }
        AgentCommand::Send { task, from, body, to, id, api } => {
            let body = json!({ "to": to, "body": input::value(&body), "id": id });
            let path = format!("{}/messages", path(&task, &from));
            let sent = ask(&api.client()?, Method::POST, &path, Some(body)).await?;
            output.either(&sent, || sent["id"].as_str().unwrap_or_default().to_owned())
        }
        AgentCommand::Inbox { task, agent, page, api } => {
            messages(&api.client()?, &format!("{}/messages", path(&task, &agent)), page, output).await
        }
        AgentCommand::Messages { task, page, api } => {
            messages(&api.client()?, &format!("/v1/tasks/{}/messages", encode(&task, false)), page, output).await
        }
        AgentCommand::Show { task, agent, api } => {
            let agent: Value = api.client()?.read(&path(&task, &agent)).await?;
            output.pretty(&agent)
        }
        AgentCommand::Ls { task, api } => {
            let listed: Value = api.client()?.read(&format!("/v1/tasks/{}/agents", encode(&task, false))).await?;
            for agent in listed["items"].as_array().into_iter().flatten() {
                let text = |key: &str| agent[key].as_str().unwrap_or("-");
                let there = if agent["alive"] == true { "there" } else { "not there" };
                match output.json {
                    true => output.compact(agent)?,
                    false => output.line(format!("{}\t{there}\t{}\t{}", text("agent"), text("role"), text("state")))?,
                }
            }
            Ok(())
        }
        AgentCommand::Leave { task, agent, forget, api } => {
            let forgets = query(&[("forget", forget.then(|| "true".to_owned()))]);
            let path = format!("{}{forgets}", path(&task, &agent));
            let receipt = ask(&api.client()?, Method::DELETE, &path, None).await?;
            output
                .either(&receipt, || format!("{agent} {} {task}", if forget { "is forgotten by" } else { "has left" }))
        }
    }
}

/// One page, as it was asked for: whoever reads on says where.
async fn messages(client: &Client, path: &str, page: PageArgs, output: Output) -> Result<(), Error> {
    let asked = query(&[("since", page.since), ("limit", Some(page.limit.to_string()))]);
    let read: Value = client.read(&format!("{path}{asked}")).await?;
    if output.json {
        return output.compact(&read);
    }
    for message in read["items"].as_array().into_iter().flatten() {
        let (from, to) = (message["from"].as_str().unwrap_or("-"), message["to"].as_str().unwrap_or("all"));
        let body = message["body"].as_str().map_or_else(|| message["body"].to_string(), str::to_owned);
        output.line(format!("{from}\t{to}\t{body}"))?;
    }
    let more = if read["more"] == true { "there is more; " } else { "" };
    output.say(format!("{more}go on with --since {}", read["next"].as_str().unwrap_or_default()));
    Ok(())
}

fn path(task: &str, agent: &str) -> String {
    format!("/v1/tasks/{}/agents/{}", encode(task, false), encode(agent, false))
}

async fn ask(client: &Client, method: Method, path: &str, body: Option<Value>) -> Result<Value, Error> {
    let answer = client.send(method, path, body.map(Body::json), &Terms::default()).await?;
    client.parse(&answer)
}
