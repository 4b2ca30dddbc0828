//! Registers that settle in every way there is, under schemas and policies that change meanwhile.

use std::sync::LazyLock;

use serde_json::{Value as Json, json};

use super::chance::Chance;
use crate::conflict::advisor::simulated::{self, BY_FIELD, CHANGES, Operator};
use crate::conflict::advisor::{Decision, Habits, Kind, Options, Standing, train};

pub const COLLECTION: &str = "disputes";

/// Fields by the resolver they begin with.
const FIELDS: [&str; 18] = [
    "last_writer",
    "first_writer",
    "keep_all",
    "max",
    "min",
    "union",
    "deep_merge",
    "priority",
    "prioritize",
    "discard",
    "three_way",
    "text",
    "rollback",
    "expr",
    "custom",
    "vote",
    "manual",
    "advisor",
];

/// What two operators would have taught the advisor about its field: to take the larger number, or, later, the smaller.
static MODELS: LazyLock<Vec<Json>> = LazyLock::new(|| [BY_FIELD, CHANGES].into_iter().filter_map(taught_by).collect());

fn taught_by(operator: Operator) -> Option<Json> {
    let about_ours = |mut decision: Decision| {
        if decision.case.kind == Kind::Number {
            (decision.case.collection, decision.case.field) = (COLLECTION.to_owned(), "advisor".to_owned());
        }
        decision
    };
    let decisions: Vec<Decision> = simulated::decisions(operator, 400, 0.0, 3).into_iter().map(about_ours).collect();
    let model = train(&decisions, 1, &Options::default()).ok()?;
    let standing = Standing::new(1, 0, operator.name, model, &Habits::default(), [(COLLECTION, "advisor")]);
    serde_json::to_value(standing).ok()
}

/// A field and a value for it.
pub fn write(chance: &mut Chance, n: i64) -> (String, Json) {
    let words = ["stopped", "paused", "running"];
    let field = chance.pick(&FIELDS).copied().unwrap_or("max");
    let word = words[n as usize % 3];
    let value = match (field, chance.below(8)) {
        ("text", _) => json!(format!("the {word} fox and the {} dog", words[chance.index(3)])),
        (_, 0) => Json::Null,
        ("union", _) => json!([n % 5, word]),
        ("deep_merge" | "three_way", _) => json!({"a": n % 3, "in": {word: n % 4}, "more": [n % 2]}),
        ("prioritize", _) => json!({"says": word, "confidence": (n % 4) as f64 / 4.0, "sources": [word]}),
        ("priority", _) => json!(word),
        (_, 1) => json!(word),
        _ => json!(n % 20),
    };
    (field.to_owned(), value)
}

/// A schema of these fields; now and then one says something else, and the rules come and go.
pub fn schema(chance: &mut Chance) -> Json {
    let mut fields = serde_json::Map::new();
    for field in FIELDS {
        let resolver = if chance.happens(0.1) { chance.pick(&FIELDS).copied().unwrap_or(field) } else { field };
        if chance.happens(0.1) {
            continue;
        }
        fields.insert(field.to_owned(), declared(chance, resolver));
    }
    let rules = [
        json!({"name": "small", "class": "invariant", "check": "!has(doc.rollback) || doc.rollback == null || doc.rollback < 15"}),
        json!({"name": "not both", "check": "!has(doc.priority) || !has(doc.manual) || doc.priority != 'running' || doc.manual != 3"}),
        json!({"name": "one each", "exclusive": "first_writer"}),
        json!({"name": "bounded", "check": "total < 60", "over": {"collection": COLLECTION, "where": "item.min == doc.min", "sum": "max"}}),
    ];
    let rules: Vec<&Json> = rules.iter().filter(|_| chance.happens(0.7)).collect();
    json!({"fields": fields, "rules": rules})
}

fn declared(chance: &mut Chance, resolver: &str) -> Json {
    // Under another type siblings are no conflict, and are one again when it goes.
    if chance.happens(0.1) {
        return json!({"type": chance.pick(&["lww", "fww", "max", "mv"])});
    }
    let mut field = json!({"type": "contested", "resolver": resolver});
    match resolver {
        "priority" => field["order"] = json!(["running", "paused", "stopped"]),
        "prioritize" => field["by"] = json!(["confidence", "sources", "recency"]),
        "expr" => field["expr"] = json!("siblings.map(s, s.value)"),
        "custom" => field["custom"] = json!("nobody registered this"),
        _ => {}
    }
    if chance.happens(0.3) {
        field["fallback"] = json!(["max"]);
    }
    field
}

/// A policy; `None` takes it away.
pub fn policy(chance: &mut Chance) -> Option<Json> {
    let rules = [
        json!({"name": "many", "when": "size(siblings) > 2", "resolver": "first_writer"}),
        json!({"name": "sum", "fields": ["m*"], "resolver": "expr", "expr": "size(siblings)"}),
        json!({"name": "wrong", "when": "doc.never.there == 1", "resolver": "min"}),
        json!({"name": "people", "fields": ["manual", "vote"], "when": "id != '1'", "resolver": "manual",
            "escalate": {"to": "freeze", "after_ms": 700}}),
    ];
    let rules: Vec<&Json> = rules.iter().filter(|_| chance.happens(0.5)).collect();
    (!rules.is_empty()).then(|| json!({"about": "drawn by chance", "rules": rules}))
}

/// A model for the advisor; `None` takes it away.
pub fn model(chance: &mut Chance) -> Option<Json> {
    if chance.happens(0.25) { None } else { chance.pick(&MODELS).cloned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conflict::advisor::Advice;
    use crate::conflict::advisor::simulated::case;
    use crate::conflict::{Judge, Policy};
    use crate::document::Schema;

    #[test]
    fn a_model_that_is_drawn_knows_its_field_and_is_sure() {
        assert_eq!(MODELS.len(), 2);
        for model in MODELS.iter() {
            let standing = Standing::parse(&model.to_string()).unwrap();
            let mut case = case();
            (case.collection, case.field) = (COLLECTION.to_owned(), "advisor".to_owned());
            assert!(standing.knows(&case));
            assert!(matches!(standing.model.advise(&case), Advice::Use { .. }), "{:?}", standing.model.advise(&case));
        }
    }

    #[test]
    fn whatever_is_drawn_is_a_schema_and_a_policy() {
        let mut chance = Chance::new(7);
        for _ in 0..200 {
            let schema = Schema::from_json(&schema(&mut chance).to_string()).unwrap();
            Judge::check(&schema).unwrap();
            if let Some(policy) = policy(&mut chance) {
                Policy::parse(&policy.to_string()).unwrap();
            }
        }
    }
}
