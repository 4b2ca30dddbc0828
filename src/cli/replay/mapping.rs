//! Which column of a trace means what.

use std::path::Path;

use serde::Deserialize;

use crate::cli::exit::Error;

/// Column names of the two files. The optional ones read as zero or nothing where they are left out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    pub workers: WorkerColumns,
    pub tasks: TaskColumns,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerColumns {
    pub id: String,
    pub cpu_milli: String,
    pub memory_mib: String,
    /// How many GPUs the worker has.
    pub gpus: Option<String>,
    pub gpu_model: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskColumns {
    pub id: String,
    pub cpu_milli: String,
    pub memory_mib: String,
    /// How many GPUs the task takes.
    pub gpus: Option<String>,
    /// How much it takes of each, in thousandths.
    pub gpu_milli: Option<String>,
    pub created: String,
    /// Empty in a row: never scheduled.
    pub scheduled: String,
    /// Empty in a row: never deleted.
    pub deleted: String,
    pub qos: Option<String>,
    /// How the task ended.
    pub phase: Option<String>,
}

impl Mapping {
    /// The columns of the openb traces.
    pub fn openb() -> Self {
        let text = |name: &str| name.to_owned();
        Self {
            workers: WorkerColumns {
                id: text("sn"),
                cpu_milli: text("cpu_milli"),
                memory_mib: text("memory_mib"),
                gpus: Some(text("gpu")),
                gpu_model: Some(text("model")),
            },
            tasks: TaskColumns {
                id: text("name"),
                cpu_milli: text("cpu_milli"),
                memory_mib: text("memory_mib"),
                gpus: Some(text("num_gpu")),
                gpu_milli: Some(text("gpu_milli")),
                created: text("creation_time"),
                scheduled: text("scheduled_time"),
                deleted: text("deletion_time"),
                qos: Some(text("qos")),
                phase: Some(text("pod_phase")),
            },
        }
    }

    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::Usage(format!("cannot read {}: {error}", path.display())))?;
        Self::parse(&text).map_err(|cause| Error::Usage(format!("{}: {cause}", path.display())))
    }

    fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_names_other_columns_and_may_leave_some_out() {
        let text = "
            [workers]
            id = 'machine'
            cpu_milli = 'cores'
            memory_mib = 'mem'
            [tasks]
            id = 'job'
            cpu_milli = 'cores'
            memory_mib = 'mem'
            created = 'submit'
            scheduled = 'start'
            deleted = 'end'
        ";
        let mapping = Mapping::parse(text).unwrap();
        assert_eq!(mapping.workers.id, "machine");
        assert_eq!(mapping.tasks.gpus, None);
    }

    #[test]
    fn a_misspelt_column_is_told_with_its_line() {
        let error = Mapping::parse("[workers]\nid = 'a'\ncpus = 'b'\n").unwrap_err();
        assert!(error.contains("line 3") && error.contains("cpus"), "{error}");
        assert!(Mapping::parse("[workers]\nid = 'a'\n").is_err());
    }
}
