//! The commands, and which file runs each.

use clap::{Parser, Subcommand};

use crate::cli::exit::Error;
use crate::cli::output::Output;
use crate::cli::{
    about, advisor, agent, audit, bench, capacity, chaos, cluster, conflicts, demo, knowledge, lock, partition, policy,
    queue, read, replay, replica, run as node, sim, status, task, transfer, vm, watch, worker, write,
};

const AFTER: &str = "\
Documents are named collection/id, as in vms/vm-1; an id may hold slashes. Values on the command
line are JSON where they are valid JSON, else text. Data goes to stdout, words to stderr.

Exit codes:
  0 ok                4 not found             7 no quorum
  1 failure           5 conflict pending      8 integrity
  2 usage             6 denied                9 oracle violated
  3 unreachable

Start here:
  folkmoot demo                                       three nodes, a split, a healing, in a minute
  folkmoot run                                        a node on this host
  folkmoot put vms/vm-1 '{\"power_state\":\"running\"}'
  folkmoot incr workers/w1 restarts
  folkmoot watch";

/// A replicated state store for fleets.
///
/// A node runs on every worker host, keeps the fleet's documents there, answers reads and takes writes without asking
/// anyone, and gossips what changed until every node holds the same state.
#[derive(Debug, Parser)]
#[command(name = "folkmoot", version, after_long_help = AFTER, max_term_width = 110, arg_required_else_help = true)]
pub struct Cli {
    /// Print data as JSON
    #[arg(long, global = true, help_heading = "Global")]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<node::RunArgs>),
    Demo(demo::DemoArgs),
    Cluster(cluster::ClusterArgs),
    Replay(replay::ReplayArgs),
    Status(status::StatusArgs),
    Get(read::GetArgs),
    Ls(read::LsArgs),
    Put(write::PutArgs),
    Patch(write::PatchArgs),
    Del(write::DelArgs),
    Incr(write::IncrArgs),
    Add(write::AddArgs),
    Rm(write::RmArgs),
    Watch(watch::WatchArgs),
    Conflicts(conflicts::ConflictsArgs),
    Policy(policy::PolicyArgs),
    Audit(audit::AuditArgs),
    Advisor(advisor::AdvisorArgs),
    Knowledge(knowledge::KnowledgeArgs),
    Lock(lock::LockArgs),
    Voters(lock::VotersArgs),
    Vm(vm::VmArgs),
    Task(task::TaskArgs),
    Queue(queue::QueueArgs),
    Worker(worker::WorkerArgs),
    Agent(agent::AgentArgs),
    Partition(partition::PartitionArgs),
    Capacity(capacity::CapacityArgs),
    Peers(status::PeersArgs),
    Replica(replica::ReplicaArgs),
    Leave(status::LeaveArgs),
    Export(transfer::ExportArgs),
    Import(transfer::ImportArgs),
    Sim(sim::SimArgs),
    Chaos(chaos::ChaosArgs),
    #[command(hide = true)]
    ChaosWorker(chaos::WorkerArgs),
    Bench(bench::BenchArgs),
    Config(Box<about::ConfigArgs>),
    Completions(about::CompletionsArgs),
    /// Print the version
    Version,
}

/// Runs one command to its end.
pub fn run(cli: Cli) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::Failed(format!("cannot start the runtime: {error}")))?;
    runtime.block_on(dispatch(cli.command, Output { json: cli.json }))
}

async fn dispatch(command: Command, output: Output) -> Result<(), Error> {
    match command {
        Command::Run(args) => node::run(*args, output).await,
        Command::Cluster(args) => cluster::cluster(args, output).await,
        Command::Replay(args) => replay::replay(args, output).await,
        Command::Demo(args) => demo::demo(args, output).await,
        Command::Status(args) => status::status(args, output).await,
        Command::Get(args) => read::get(args, output).await,
        Command::Ls(args) => read::ls(args, output).await,
        Command::Put(args) => write::put(args, output).await,
        Command::Patch(args) => write::patch(args, output).await,
        Command::Del(args) => write::del(args, output).await,
        Command::Incr(args) => write::incr(args, output).await,
        Command::Add(args) => write::add(args, output).await,
        Command::Rm(args) => write::rm(args, output).await,
        Command::Watch(args) => watch::watch(args, output).await,
        Command::Conflicts(args) => conflicts::conflicts(args, output).await,
        Command::Policy(args) => policy::policy(args, output).await,
        Command::Audit(args) => audit::audit(args, output).await,
        Command::Advisor(args) => advisor::advisor(args, output).await,
        Command::Knowledge(args) => knowledge::knowledge(args, output).await,
        Command::Lock(args) => lock::lock(args, output).await,
        Command::Voters(args) => lock::voters(args, output).await,
        Command::Vm(args) => vm::vm(args, output).await,
        Command::Task(args) => task::task(args, output).await,
        Command::Queue(args) => queue::queue(args, output).await,
        Command::Worker(args) => worker::worker(args, output).await,
        Command::Agent(args) => agent::agent(args, output).await,
        Command::Partition(args) => partition::partition(args, output).await,
        Command::Capacity(args) => capacity::capacity(args, output).await,
        Command::Replica(args) => replica::replica(args, output).await,
        Command::Peers(args) => status::peers(args, output).await,
        Command::Leave(args) => status::leave(args, output).await,
        Command::Export(args) => transfer::export(args, output).await,
        Command::Import(args) => transfer::import(args, output).await,
        Command::Chaos(args) => chaos::chaos(args, output).await,
        Command::ChaosWorker(args) => chaos::worker(args).await,
        Command::Sim(args) => sim::sim(args, output).await,
        Command::Bench(args) => bench::bench(args, output).await,
        Command::Config(args) => about::config(*args, output),
        Command::Completions(args) => about::completions(&args),
        Command::Version => about::version(output),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_commands_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn json_may_stand_before_and_after_the_command() {
        for line in [["folkmoot", "--json", "version"], ["folkmoot", "version", "--json"]] {
            assert!(Cli::try_parse_from(line).unwrap().json);
        }
    }

    #[test]
    fn a_bad_address_is_a_usage_error() {
        let error = Cli::try_parse_from(["folkmoot", "get", "Vms/x"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(Cli::try_parse_from(["folkmoot", "incr", "workers/w", "n", "-4"]).is_ok());
    }
}
