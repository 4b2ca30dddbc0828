//! A trace as what the simulator's clients do, one step for each event.

use crate::api::edits_of;
use crate::cli::exit::Error;
use crate::cli::replay::plan::Plan;
use crate::cli::replay::write::{Body, Write, name};
use crate::document::{Address, plan::Write as Planned};
use crate::sim::workload::Recording;

/// Every worker, then every event in time order. A step is one transaction: a task's change and its worker's.
pub fn recording(plan: &Plan) -> Result<Recording, Error> {
    let workers = plan.workers.iter().enumerate().map(|(index, worker)| vec![Write::worker(index, worker)]);
    let events = plan.events.iter().map(|event| Write::of(event, plan));
    let step = |writes: Vec<Write>| writes.into_iter().map(|write| planned(write, plan)).collect();
    let steps = workers.chain(events).map(step).collect::<Result<Vec<_>, Error>>()?;
    Ok(Recording(steps.into()))
}

/// A step may be the first that a run sees of its document, since a run begins anywhere: patches create.
fn planned(write: Write, plan: &Plan) -> Result<(Address, Planned), Error> {
    let (collection, id) = name(write.target, plan);
    let wrong = |cause: String| Error::Failed(format!("{collection}/{id}: {cause}"));
    let address = Address::new(collection, id).map_err(|error| wrong(error.to_string()))?;
    let planned = match write.body {
        Body::Put(fields) => Planned::Put(fields),
        Body::Patch(operations) => Planned::Upsert(edits_of(operations).map_err(|error| wrong(error.to_string()))?),
    };
    Ok((address, planned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::replay::trace::{Task, Worker};

    #[test]
    fn each_event_is_one_transaction_over_the_task_and_its_worker() {
        let worker = Worker { id: "w1".into(), cpu_milli: 1_000, memory_mib: 1_000, gpus: 0, gpu_model: None };
        let task = Task {
            id: "t1".into(),
            cpu_milli: 100,
            memory_mib: 10,
            gpus: 0,
            gpu_milli: 0,
            created: 1,
            scheduled: Some(2),
            deleted: Some(3),
            qos: None,
            phase: None,
        };
        let Recording(steps) = recording(&Plan::new(vec![worker], vec![task])).unwrap();
        let documents: Vec<Vec<&str>> =
            steps.iter().map(|step| step.iter().map(|(address, _)| address.as_str()).collect()).collect();
        assert_eq!(
            documents,
            [vec!["workers/w1"], vec!["pods/t1"], vec!["pods/t1", "workers/w1"], vec!["pods/t1", "workers/w1"]]
        );
        assert!(matches!(&steps[2][1].1, Planned::Upsert(edits) if edits.len() == 2));
    }
}
