//! A trace replayed as work: its tasks wait in a queue, are claimed by workers of hosts that have hardly enough memory for
//! them, and end as the trace ends them, while the nodes are cut in two and healed.
//!
//! `crew` chooses the hosts, `verbs` calls a node, `shift` is a `worker`'s time with a task, `step` a
//! few events, `rounds` the order of it all.
//! `truth` keeps what was acknowledged and finds what contradicts it, `holding` compares the nodes with that, `report` tells.

mod crew;
mod holding;
mod report;
mod rounds;
mod shift;
mod step;
mod truth;
mod verbs;
mod worker;

use std::time::Instant;

use parking_lot::Mutex;

use crate::cli::chaos::wait_for_voters;
use crate::cli::client::Client;
use crate::cli::exit::Error;
use crate::cli::output::Output;
use crate::cli::replay::drive::wait_equal;
use crate::cli::replay::plan::Plan;
use crate::cli::view::read_all;
use crew::Crew;
use rounds::Rounds;
use shift::Stage;
use truth::Truth;

/// How tight, and how often cut.
#[derive(Debug, Clone, Copy)]
pub struct Tight {
    /// The memory of all hosts, in percent of the most that the trace's tasks held at once.
    pub percent: u64,
    pub hosts: usize,
    /// Events between a cut and a healing.
    pub every: usize,
}

pub async fn replay_tight(plan: &Plan, clients: &[Client], tight: Tight, output: Output) -> Result<(), Error> {
    if clients.len() < 3 {
        return Err(Error::Usage(
            "--tight needs three nodes or more, since it cuts some off: name each with --api".to_owned(),
        ));
    }
    let Some(crew) = Crew::new(plan, tight.percent, tight.hosts) else {
        return Err(Error::Usage("the trace has no host, or no task of it ever ran".to_owned()));
    };
    wait_for_voters(&clients.iter().collect::<Vec<_>>(), clients.len()).await?;
    let begin = Instant::now();
    let ids: Vec<String> = read_all(clients).await?.into_iter().map(|view| view.node).collect();
    let stage = Stage {
        plan,
        crew: &crew,
        clients,
        tasks: plan.tasks.iter().enumerate().map(|(index, task)| (task.id.as_str(), index)).collect(),
        cut_off: Mutex::default(),
        truth: Mutex::new(Truth::new(plan.tasks.iter().map(|task| task.id.clone()), &crew, begin)),
        counts: Mutex::default(),
    };
    for host in &crew.hosts {
        if let Err(no) = stage.verbs(0).set_limit(&host.id, host.limit_mib).await? {
            return Err(Error::Failed(format!("host {} was not given its memory: {no:?}", host.id)));
        }
    }
    wait_equal(clients).await?;
    let mut rounds = Rounds::new(stage, ids);
    for (round, events) in plan.events.chunks(tight.every.max(1)).enumerate() {
        match round % 2 {
            0 => rounds.connected(events).await?,
            _ => rounds.cut(events, round / 2).await?,
        }
    }
    rounds.drain().await?;
    let stage = rounds.stage;
    holding::check_rooms(&stage, true).await?;
    holding::check_tasks(&stage).await?;
    wait_equal(clients).await?;
    let took = begin.elapsed();
    output.either(&report::summary(&stage, took), || report::words(&stage, took))?;
    let told = report::verdict(&stage.truth.lock(), &stage.counts.lock());
    told.map_err(Error::Failed)
}
