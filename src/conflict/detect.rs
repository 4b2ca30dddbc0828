//! Conflicts, found: what a document's siblings and its schema's rules come to.
//!
//! | class | found where |
//! |---|---|
//! | concurrent update | a contested register has siblings |
//! | semantic, invariant | a rule of the schema does not hold |
//! | contention | documents share a value that is exclusive |
//!
//! The list follows from replicated state alone, so nodes with equal clocks list the same conflicts under the same ids.
//! What only one node saw (a fork, a rollback, a clock that lies) is an alarm of that node, not listed here.

use serde::Serialize;
use serde_json::Value as Json;

use super::advice::Advised;
use super::case::{Case, For, Lost, Verdict};
use super::judge::{Judge, Settlement, of_document};
use super::policy::{Escalate, To};
use super::variables::Spent;
use crate::document::rule::{self, Severity};
use crate::document::{DocumentView, Sibling};

/// A conflict with a higher score is a person's to look at, also where a resolver settles it.
pub const AUTOMATIC_SCORE_MAX: u32 = 24;

/// Why two values, or a value and a rule, do not go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    ConcurrentUpdate,
    Semantic,
    Invariant,
    Contention,
}

impl Class {
    pub const ALL: [Class; 4] = [Class::ConcurrentUpdate, Class::Semantic, Class::Invariant, Class::Contention];

    pub fn name(self) -> &'static str {
        match self {
            Class::ConcurrentUpdate => "concurrent_update",
            Class::Semantic => "semantic",
            Class::Invariant => "invariant",
            Class::Contention => "contention",
        }
    }
}

/// Where a conflict stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// A resolver gives its value, alike on every node. The next write ends it.
    Settled,
    /// It waits for a person.
    Open,
    /// It waits for voters, and there is no quorum that decides.
    NoQuorum,
    /// Its resolver cannot settle it; `cause` says why. It waits for a person.
    Unresolved,
}

impl Status {
    pub const ALL: [Status; 4] = [Status::Settled, Status::Open, Status::NoQuorum, Status::Unresolved];

    pub fn name(self) -> &'static str {
        match self {
            Status::Settled => "settled",
            Status::Open => "open",
            Status::NoQuorum => "no_quorum",
            Status::Unresolved => "unresolved",
        }
    }

    /// Whether somebody has to do something.
    pub fn waits(self) -> bool {
        self != Status::Settled
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Conflict {
    /// 32 hexadecimal digits, the same on every node.
    pub id: String,
    /// `collection/id`; of a contention the first that has a part in it.
    pub document: String,
    /// The other documents that have a part in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<String>,
    /// The field, or `field.key` of a map.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The rule that does not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    pub class: Class,
    pub severity: Severity,
    pub status: Status,
    /// How much there is to it: siblings, fields, kinds of values, invariants.
    pub score: u32,
    /// What settles it, or whom it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolver: Option<&'static str>,
    /// `policy@version/rule`, where a policy chose the resolver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// What its policy does if it waits for too long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub escalate: Option<Escalate>,
    /// What was done because it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub escalated: Option<To>,
    /// What readers see.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Json>,
    /// The newest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub siblings: Vec<Sibling>,
    /// Changes within the siblings that a merge of them left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overruled: Vec<Lost>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What the advisor says, where it waits for somebody or the advisor settled it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<Advised>,
}

impl Conflict {
    /// It waited for too long, and this was done about it.
    pub fn escalate(&mut self, to: To) {
        self.escalated = Some(to);
        self.status = match to {
            To::Notify => self.status,
            To::Vote => Status::NoQuorum,
            To::Manual | To::Freeze => Status::Open,
        };
    }

    /// Whether the same conflict waits now, or was settled to another value or by something else.
    pub fn stands_otherwise(&self, now: &Self) -> bool {
        (self.status, &self.value, self.resolver, &self.policy) != (now.status, &now.value, now.resolver, &now.policy)
    }

    /// Whether nobody but who settles it may write its field.
    pub fn is_frozen(&self) -> bool {
        self.escalated == Some(To::Freeze)
    }

    /// One that is over, as far as it is known.
    pub fn past(id: &str, document: &str, field: &str) -> Self {
        Self {
            id: id.to_owned(),
            document: document.to_owned(),
            others: Vec::new(),
            field: Some(field.to_owned()),
            rule: None,
            class: Class::ConcurrentUpdate,
            severity: Severity::Info,
            status: Status::Settled,
            score: 0,
            resolver: None,
            policy: None,
            escalate: None,
            escalated: None,
            value: None,
            siblings: Vec::new(),
            overruled: Vec::new(),
            cause: None,
            advice: None,
        }
    }
}

/// One point each for a sibling, three for each further contested field, two for each further kind of value, and four
/// where an invariant may be at stake.
pub fn score(case: &Case<'_>, contested: usize, invariants: bool) -> u32 {
    let mut kinds: Vec<u8> = case.values().map(kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let further = |n: usize, points: usize| n.saturating_sub(1) * points;
    let points = case.siblings.len() + further(contested, 3) + further(kinds.len(), 2) + if invariants { 4 } else { 0 };
    u32::try_from(points).unwrap_or(u32::MAX)
}

fn kind(value: &Json) -> u8 {
    match value {
        Json::Null => 0,
        Json::Bool(_) => 1,
        Json::Number(_) => 2,
        Json::String(_) => 3,
        Json::Array(_) => 4,
        Json::Object(_) => 5,
    }
}

/// The conflicts within one document, as it reads once settled.
pub fn within(
    document: &str,
    view: &DocumentView,
    settlements: &[Settlement],
    judge: &Judge,
    spent: &Spent,
) -> Vec<Conflict> {
    let mut found = Vec::new();
    for settlement in settlements {
        // Writers that say the same do not disagree.
        if let Some(siblings) = view.siblings.get(&settlement.field)
            && siblings.iter().any(|sibling| sibling.value != siblings[0].value)
        {
            found.push(of_register(document, view, settlement, siblings));
        }
    }
    let variables = of_document(document, &view.fields, spent);
    for ready in judge.rules().iter().filter(|ready| ready.rule.over.is_none() && ready.rule.check.is_some()) {
        if let Some(cause) = ready.broken(&variables) {
            found.push(of_rule(&ready.rule, document, cause));
        }
    }
    found
}

fn of_register(document: &str, view: &DocumentView, settlement: &Settlement, siblings: &[Sibling]) -> Conflict {
    let status = match &settlement.verdict {
        Verdict::Settled(_) | Verdict::Merged(..) if settlement.score > AUTOMATIC_SCORE_MAX => Status::Open,
        Verdict::Settled(_) | Verdict::Merged(..) => Status::Settled,
        Verdict::Waits(For::Person) => Status::Open,
        Verdict::Waits(For::Voters) => Status::NoQuorum,
        Verdict::Unable(_) => Status::Unresolved,
    };
    let cause = match &settlement.verdict {
        Verdict::Unable(cause) => Some(cause.clone()),
        _ => settlement.failed.first().cloned(),
    };
    let value = read(view, &settlement.field);
    Conflict {
        id: conflict_id(&[document, &settlement.field], siblings),
        document: document.to_owned(),
        others: Vec::new(),
        field: Some(settlement.field.clone()),
        rule: None,
        class: Class::ConcurrentUpdate,
        severity: if status.waits() { Severity::Warning } else { Severity::Info },
        status,
        score: settlement.score,
        resolver: Some(settlement.resolver.name()),
        policy: settlement.policy.clone(),
        escalate: settlement.escalate.filter(|_| status.waits()),
        escalated: None,
        value,
        siblings: siblings.to_vec(),
        overruled: if let Verdict::Merged(_, lost) = &settlement.verdict { lost.clone() } else { Vec::new() },
        cause,
        advice: None,
    }
}

/// The value of a field, or of one key of a map.
fn read(view: &DocumentView, register: &str) -> Option<Json> {
    let of_key =
        || register.match_indices('.').find_map(|(at, _)| view.fields.get(&register[..at])?.get(&register[at + 1..]));
    view.fields.get(register).or_else(of_key).cloned()
}

fn of_rule(rule: &rule::Rule, document: &str, cause: String) -> Conflict {
    Conflict {
        id: conflict_id(&[document, "rule", &rule.name], &[]),
        document: document.to_owned(),
        others: Vec::new(),
        field: None,
        rule: Some(rule.name.clone()),
        class: match rule.class() {
            rule::Class::Semantic => Class::Semantic,
            rule::Class::Invariant => Class::Invariant,
            rule::Class::Contention => Class::Contention,
        },
        severity: rule.severity.unwrap_or_default(),
        status: Status::Open,
        score: 4,
        resolver: None,
        policy: None,
        escalate: None,
        escalated: None,
        value: None,
        siblings: Vec::new(),
        overruled: Vec::new(),
        cause: Some(cause),
        advice: None,
    }
}

/// What all nodes call it: the place, and the dots of the siblings in their own order.
fn conflict_id(place: &[&str], siblings: &[Sibling]) -> String {
    let mut dots: Vec<&str> = siblings.iter().map(|sibling| sibling.dot.as_str()).collect();
    dots.sort_unstable();
    let mut hasher = blake3::Hasher::new();
    for part in place.iter().chain(&dots) {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex()[..32].to_owned()
}

pub mod across;
