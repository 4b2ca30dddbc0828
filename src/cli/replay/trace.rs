//! Reads the two files of a trace. What is wrong is told with its file, line and column.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

use csv::{Reader, ReaderBuilder, StringRecord};

use crate::cli::address::Address;
use crate::cli::replay::mapping::{TaskColumns, WorkerColumns};

/// A machine of the trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    pub id: String,
    pub cpu_milli: u64,
    pub memory_mib: u64,
    pub gpus: u64,
    pub gpu_model: Option<String>,
}

/// A task of the trace. Times are in the trace's own unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    pub id: String,
    pub cpu_milli: u64,
    pub memory_mib: u64,
    pub gpus: u64,
    pub gpu_milli: u64,
    pub created: u64,
    pub scheduled: Option<u64>,
    pub deleted: Option<u64>,
    pub qos: Option<String>,
    pub phase: Option<String>,
}

/// A row that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct BadTrace {
    pub file: String,
    pub line: u64,
    /// Empty when the whole line is meant.
    pub column: String,
    pub cause: String,
}

impl fmt::Display for BadTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file, self.line)?;
        match self.column.is_empty() {
            true => f.write_str(&self.cause),
            false => write!(f, "column `{}`: {}", self.column, self.cause),
        }
    }
}

/// A worker's GPUs are kept one by one while planning; more than this is a typing error.
const GPUS_MAX: u64 = 1_024;

pub fn workers(file: &str, input: impl Read, columns: &WorkerColumns) -> Result<Vec<Worker>, BadTrace> {
    let mut rows = Rows::open(file, input)?;
    let id = rows.column(&columns.id)?;
    let (cpu_milli, memory_mib) = (rows.column(&columns.cpu_milli)?, rows.column(&columns.memory_mib)?);
    let (gpus, model) = (rows.optional(&columns.gpus)?, rows.optional(&columns.gpu_model)?);
    let mut workers = Vec::new();
    while let Some(row) = rows.next()? {
        workers.push(Worker {
            id: rows.id(&row, id, "workers")?,
            cpu_milli: rows.number(&row, cpu_milli)?,
            memory_mib: rows.number(&row, memory_mib)?,
            gpus: rows.gpus(&row, gpus)?,
            gpu_model: rows.text(&row, model),
        });
    }
    Ok(workers)
}

pub fn tasks(file: &str, input: impl Read, columns: &TaskColumns) -> Result<Vec<Task>, BadTrace> {
    let mut rows = Rows::open(file, input)?;
    let id = rows.column(&columns.id)?;
    let (cpu_milli, memory_mib) = (rows.column(&columns.cpu_milli)?, rows.column(&columns.memory_mib)?);
    let (gpus, gpu_milli) = (rows.optional(&columns.gpus)?, rows.optional(&columns.gpu_milli)?);
    let (created, scheduled) = (rows.column(&columns.created)?, rows.column(&columns.scheduled)?);
    let deleted = rows.column(&columns.deleted)?;
    let (qos, phase) = (rows.optional(&columns.qos)?, rows.optional(&columns.phase)?);
    let mut tasks = Vec::new();
    while let Some(row) = rows.next()? {
        let task = Task {
            id: rows.id(&row, id, "tasks")?,
            cpu_milli: rows.number(&row, cpu_milli)?,
            memory_mib: rows.number(&row, memory_mib)?,
            gpus: rows.gpus(&row, gpus)?,
            gpu_milli: gpu_milli.map_or(Ok(1_000), |column| rows.number(&row, column))?,
            created: rows.number(&row, created)?,
            scheduled: rows.time(&row, scheduled)?,
            deleted: rows.time(&row, deleted)?,
            qos: rows.text(&row, qos),
            phase: rows.text(&row, phase),
        };
        if task.scheduled.is_some_and(|at| at < task.created) {
            return Err(rows.bad(&row, scheduled, String::from("is before the task was created")));
        }
        if task.deleted.is_some_and(|at| at < task.scheduled.unwrap_or(task.created)) {
            return Err(rows.bad(&row, deleted, String::from("is before the task was created or scheduled")));
        }
        tasks.push(task);
    }
    Ok(tasks)
}

/// The rows of one file, and the lines of the ids seen.
struct Rows<'a, R> {
    file: &'a str,
    reader: Reader<R>,
    header: StringRecord,
    seen: BTreeMap<String, u64>,
}

impl<'a, R: Read> Rows<'a, R> {
    fn open(file: &'a str, input: R) -> Result<Self, BadTrace> {
        let mut reader = ReaderBuilder::new().trim(csv::Trim::All).from_reader(input);
        let header = reader.headers().cloned().map_err(|error| unreadable(file, &error))?;
        Ok(Self { file, reader, header, seen: BTreeMap::new() })
    }

    fn next(&mut self) -> Result<Option<StringRecord>, BadTrace> {
        let mut row = StringRecord::new();
        match self.reader.read_record(&mut row) {
            Ok(more) => Ok(more.then_some(row)),
            Err(error) => Err(unreadable(self.file, &error)),
        }
    }

    fn column(&self, name: &str) -> Result<usize, BadTrace> {
        self.header.iter().position(|column| column == name).ok_or_else(|| BadTrace {
            file: self.file.to_owned(),
            line: 1,
            column: name.to_owned(),
            cause: format!("is missing; the file has {}", self.header.iter().collect::<Vec<_>>().join(", ")),
        })
    }

    fn optional(&self, name: &Option<String>) -> Result<Option<usize>, BadTrace> {
        name.as_ref().map(|name| self.column(name)).transpose()
    }

    /// An id that is new in this file and may name a document.
    fn id(&mut self, row: &StringRecord, column: usize, collection: &str) -> Result<String, BadTrace> {
        let id = &row[column];
        Address::new(collection, id).map_err(|cause| self.bad(row, column, cause))?;
        match self.seen.insert(id.to_owned(), line(row)) {
            None => Ok(id.to_owned()),
            Some(first) => Err(self.bad(row, column, format!("`{id}` was already used in line {first}"))),
        }
    }

    fn number(&self, row: &StringRecord, column: usize) -> Result<u64, BadTrace> {
        let text = &row[column];
        text.parse().map_err(|_| self.bad(row, column, format!("`{text}` is no whole number")))
    }

    fn time(&self, row: &StringRecord, column: usize) -> Result<Option<u64>, BadTrace> {
        match row[column].is_empty() {
            true => Ok(None),
            false => self.number(row, column).map(Some),
        }
    }

    fn gpus(&self, row: &StringRecord, column: Option<usize>) -> Result<u64, BadTrace> {
        let Some(column) = column else { return Ok(0) };
        match self.number(row, column)? {
            gpus if gpus <= GPUS_MAX => Ok(gpus),
            gpus => Err(self.bad(row, column, format!("{gpus} is more than {GPUS_MAX}"))),
        }
    }

    fn text(&self, row: &StringRecord, column: Option<usize>) -> Option<String> {
        column.map(|column| &row[column]).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    fn bad(&self, row: &StringRecord, column: usize, cause: String) -> BadTrace {
        let column = self.header.get(column).unwrap_or_default().to_owned();
        BadTrace { file: self.file.to_owned(), line: line(row), column, cause }
    }
}

fn line(row: &StringRecord) -> u64 {
    row.position().map_or(0, csv::Position::line)
}

fn unreadable(file: &str, error: &csv::Error) -> BadTrace {
    let line = error.position().map_or(0, csv::Position::line);
    BadTrace { file: file.to_owned(), line, column: String::new(), cause: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::replay::mapping::Mapping;

    const WORKERS: &str = "sn,cpu_milli,memory_mib,gpu,model\nw1,32000,1024,2,G2\nw2,16000,512,0,\n";
    const TASK_HEADER: &str = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,\
                               deletion_time,scheduled_time\n";

    fn tasks_of(rows: &str) -> Result<Vec<Task>, BadTrace> {
        tasks("t.csv", format!("{TASK_HEADER}{rows}").as_bytes(), &Mapping::openb().tasks)
    }

    #[test]
    fn the_built_in_columns_are_those_of_openb() {
        let workers = workers("w.csv", WORKERS.as_bytes(), &Mapping::openb().workers).unwrap();
        assert_eq!((workers[0].gpus, workers[0].gpu_model.as_deref()), (2, Some("G2")));
        assert_eq!((workers[1].cpu_milli, workers[1].gpu_model.as_deref()), (16_000, None));
        let tasks = tasks_of("a,1,2,1,460,,LS,Running,5,9,6\nb,1,2,0,0,,BE,Pending,5,,\n").unwrap();
        assert_eq!((tasks[0].gpu_milli, tasks[0].scheduled, tasks[0].deleted), (460, Some(6), Some(9)));
        assert_eq!((tasks[1].scheduled, tasks[1].deleted), (None, None));
    }

    #[test]
    fn a_bad_row_is_told_with_file_line_and_column() {
        let words = |rows: &str| tasks_of(rows).unwrap_err().to_string();
        let good = "a,1,2,1,460,,LS,Running,5,9,6\n";
        assert_eq!(words(&format!("{good}b,x,2,0,0,,,,5,,\n")), "t.csv:3: column `cpu_milli`: `x` is no whole number");
        assert!(words(&format!("{good}{good}")).starts_with("t.csv:3: column `name`: `a` was already used in line 2"));
        assert!(words("a,1\n").starts_with("t.csv:2: "));
        assert!(words("a,1,2,1,460,,LS,Running,5,9,4\n").contains("column `scheduled_time`: is before"));
        assert!(words("a,1,2,1,460,,LS,Running,5,5,6\n").contains("column `deletion_time`: is before"));
        assert!(words("../a,1,2,1,460,,LS,Running,5,9,6\n").contains("column `name`"));
    }

    #[test]
    fn a_missing_column_is_told_with_those_that_are_there() {
        let error = workers("w.csv", "sn,cpu_milli\n".as_bytes(), &Mapping::openb().workers).unwrap_err();
        assert_eq!(error.to_string(), "w.csv:1: column `memory_mib`: is missing; the file has sn, cpu_milli");
    }
}
