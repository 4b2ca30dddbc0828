//! SIMULATED decisions, for tests and figures only: operators with stated habits, who err now and then. No person made
//! any of them. Whatever figure comes from here is a figure of simulated decisions, and says so.

use super::case::{Case, Decision, Kind, Severity};
use super::draw::Draw;
use super::habit::Habits;
use super::strategy::Strategy::{self, *};

/// An operator who decides by a rule, stated in its name.
#[derive(Clone, Copy, Debug)]
pub struct Operator {
    pub name: &'static str,
    /// Told the case, and how far the story is: 0 at its begin, 1 at its end.
    choose: fn(&Case, f64) -> Strategy,
}

pub const BY_FIELD: Operator = Operator {
    name: "newest for states, larger for numbers, merges objects, leaves owners to a person",
    choose: |case, _| by_field(case),
};

pub const NAMED_SOURCE: Operator = Operator {
    name: "prefers what gateway-1 says, else the newest; merges objects",
    choose: |case, _| match case.kind {
        _ if case.sources.iter().any(|source| source == "gateway-1") => Priority,
        Kind::Object => DeepMerge,
        Kind::Array => Union,
        _ => LastWriter,
    },
};

pub const CAUTIOUS: Operator = Operator {
    name: "cautious: manual when critical, or high and far apart; else by similarity",
    choose: |case, _| match case.severity {
        Severity::Critical => Manual,
        Severity::High if case.apart_ms >= 3_600_000 => Manual,
        _ if case.similarity >= 0.9 => LastWriter,
        _ if case.kind == Kind::Object => ThreeWay,
        _ => KeepAll,
    },
};

pub const CHANGES: Operator = Operator {
    name: "changes habits half-way: then the first for states, the smaller for numbers, three-way",
    choose: |case, told| match by_field(case) {
        choice if told < 0.5 => choice,
        LastWriter => FirstWriter,
        Max => Min,
        DeepMerge => ThreeWay,
        choice => choice,
    },
};

pub const BY_CONFIDENCE: Operator = Operator {
    name: "by confidence: the surest if it leads clearly, discards near doubles, the fuller else",
    choose: |case, _| {
        let gap = |of: &[f64]| of.first().zip(of.get(1)).map_or(0.0, |(a, b)| a - b);
        match () {
            () if gap(&case.confidence).abs() >= 0.3 => Prioritize,
            () if case.similarity >= 0.9 => Discard,
            () if gap(&case.completeness) < -0.2 => FirstWriter,
            () => LastWriter,
        }
    },
};

pub const OPERATORS: [Operator; 5] = [BY_FIELD, NAMED_SOURCE, CAUTIOUS, CHANGES, BY_CONFIDENCE];

fn by_field(case: &Case) -> Strategy {
    match (case.field.as_str(), case.kind) {
        ("owner" | "assigned_to", _) => Manual,
        ("status" | "power_state", _) => LastWriter,
        (_, Kind::Number) => Max,
        (_, Kind::Object) => DeepMerge,
        (_, Kind::Array) => Union,
        _ => KeepAll,
    }
}

/// Fields of a fleet.
const FIELDS: [(&str, &str, Kind); 16] = [
    ("vms", "status", Kind::String),
    ("vms", "power_state", Kind::String),
    ("vms", "owner", Kind::String),
    ("vms", "memory_mb", Kind::Number),
    ("vms", "restarts", Kind::Number),
    ("vms", "network", Kind::Object),
    ("vms", "disks", Kind::Array),
    ("tasks", "status", Kind::String),
    ("tasks", "progress", Kind::Number),
    ("tasks", "assigned_to", Kind::String),
    ("tasks", "result", Kind::Object),
    ("tasks", "notes", Kind::String),
    ("workers", "labels", Kind::Object),
    ("workers", "capacity", Kind::Number),
    ("knowledge", "content", Kind::String),
    ("knowledge", "tags", Kind::Array),
];

const SEVERITIES: [Severity; 8] = [
    Severity::Low,
    Severity::Low,
    Severity::Low,
    Severity::Medium,
    Severity::Medium,
    Severity::High,
    Severity::High,
    Severity::Critical,
];

/// One plain case: two nodes wrote `vms.memory_mb`.
pub fn case() -> Case {
    Case {
        collection: "vms".into(),
        field: "memory_mb".into(),
        kind: Kind::Number,
        siblings: 2,
        conflicting_fields: 1,
        similarity: 0.5,
        apart_ms: 30_000,
        completeness: vec![1.0, 1.0],
        sources: vec!["worker-1".into(), "worker-2".into()],
        confidence: Vec::new(),
        severity: Severity::Medium,
        habit: Default::default(),
    }
}

/// `count` simulated decisions of one operator. `noise` is the share in which it chose anything at all instead.
pub fn decisions(operator: Operator, count: usize, noise: f64, seed: u64) -> Vec<Decision> {
    story(|_, _| operator, count, noise, seed)
}

/// Of several operators. `each_its_own`: one of four for each collection; else whoever of all five is on duty.
pub fn mixed(each_its_own: bool, count: usize, noise: f64, seed: u64) -> Vec<Decision> {
    let on_duty = |case: &Case, draw: &mut Draw| match (each_its_own, case.collection.as_str()) {
        (false, _) => OPERATORS[draw.index(OPERATORS.len())],
        (true, "vms") => BY_FIELD,
        (true, "tasks") => CAUTIOUS,
        (true, "workers") => NAMED_SOURCE,
        (true, _) => BY_CONFIDENCE,
    };
    story(on_duty, count, noise, seed)
}

fn story(on_duty: impl Fn(&Case, &mut Draw) -> Operator, count: usize, noise: f64, seed: u64) -> Vec<Decision> {
    let mut draw = Draw::new(seed);
    let mut habits = Habits::default();
    let mut at_ms = 1_700_000_000_000;
    let mut decisions = Vec::new();
    for n in 0..count {
        let mut case = drawn(&mut draw);
        case.habit = habits.before(&case.collection, &case.field);
        let operator = on_duty(&case, &mut draw);
        let errs = unit(&mut draw) < noise;
        let any = Strategy::ALL[draw.index(Strategy::ALL.len())];
        let strategy = if errs { any } else { (operator.choose)(&case, n as f64 / count as f64) };
        habits.record(&case.collection, &case.field, operator.name, strategy);
        at_ms += 1 + draw.bits() % 3_600_000;
        decisions.push(Decision { case, strategy, decider: operator.name.into(), at_ms });
    }
    decisions
}

fn drawn(draw: &mut Draw) -> Case {
    let (collection, field, kind) = FIELDS[draw.index(FIELDS.len())];
    let siblings = 2 + [0, 0, 0, 1, 2][draw.index(5)];
    // A third of the values nearly equal, the others anything.
    let similarity = if draw.index(3) == 0 { 0.9 + unit(draw) / 10.0 } else { unit(draw) * 0.9 };
    let sources = (0..siblings).map(|_| match draw.index(5) {
        0 => "gateway-1".to_owned(),
        _ => format!("worker-{}", draw.index(8)),
    });
    let sources = sources.collect();
    let sure = collection == "knowledge" || draw.index(3) == 0;
    Case {
        collection: collection.into(),
        field: field.into(),
        kind,
        siblings,
        conflicting_fields: 1 + [0, 0, 0, 1, 3][draw.index(5)],
        similarity,
        apart_ms: [500, 20_000, 1_200_000, 9_000_000][draw.index(4)] + draw.bits() % 400,
        completeness: (0..siblings).map(|_| 1.0 - unit(draw) / 2.0).collect(),
        sources,
        confidence: if sure { (0..siblings).map(|_| unit(draw)).collect() } else { Vec::new() },
        severity: SEVERITIES[draw.index(SEVERITIES.len())],
        habit: Default::default(),
    }
}

fn unit(draw: &mut Draw) -> f64 {
    (draw.bits() >> 11) as f64 / (1u64 << 53) as f64
}
