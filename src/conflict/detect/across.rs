//! Conflicts over many documents: bounds over a collection, and values that are exclusive.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::{Class, Conflict, conflict_id, of_rule};
use crate::conflict::judge::{Judge, Ready, id_of, of_document};
use crate::conflict::variables::{STEPS_MAX, Spent};
use crate::document::rule::{Over, Rule};

/// A collection as it reads: documents by name, `collection/id`.
pub type Collection = BTreeMap<String, Map<String, Json>>;

/// Pairs of documents that one rule may be asked about. A rule whose `where` compares a field of `item` with `id` or with
/// a field of `doc` is joined by that value and needs none.
pub const PAIRS_MAX: usize = 1 << 18;

/// Steps that all its pairs may take: each may compare two fields. Half a second.
const PAIRS_STEPS_MAX: u64 = 8 * STEPS_MAX;

/// Documents that rules over many look at. At some 5 µs each: two thirds of a second, in which nothing else is done.
pub const DOCUMENTS_MAX: usize = 1 << 17;

/// Conflicts of a collection's rules over many documents that are listed. Rules that so many documents break are wrong
/// more often than not, and one more conflict says how many there are.
pub const LISTED_MAX: usize = 4_096;

/// Whether any rule of the collection looks beyond one document.
pub fn has_rules(judge: &Judge) -> bool {
    judge.rules().iter().any(|ready| ready.rule.over.is_some() || ready.rule.exclusive.is_some())
}

/// The collections that the rules of a collection sum over.
pub fn looks_at(judge: &Judge) -> impl Iterator<Item = &str> {
    judge.rules().iter().filter_map(|ready| ready.rule.over.as_ref()).map(|over| over.collection.as_str())
}

/// Judges a collection by its rules over many documents. `other` gives another collection by its name.
pub fn across<'a>(
    judge: &Judge,
    collection: &'a Collection,
    other: impl Fn(&str) -> Option<&'a Collection>,
) -> Vec<Conflict> {
    let mut found = Vec::new();
    for ready in judge.rules() {
        if let Some(cause) = too_many(ready, collection, &other) {
            let first = collection.keys().next().map_or("", String::as_str);
            found.push(of_rule(&ready.rule, first, cause));
            continue;
        }
        let of_rule = match (&ready.rule.exclusive, &ready.rule.over) {
            (Some(field), _) => contentions(&ready.rule, field, collection),
            (None, Some(over)) => {
                let empty = Collection::new();
                bounds(ready, over, collection, other(&over.collection).unwrap_or(&empty))
            }
            (None, None) => Vec::new(),
        };
        let room = LISTED_MAX.saturating_sub(found.len());
        found.extend(listed(&ready.rule, of_rule, collection, room));
    }
    found
}

fn listed(rule: &Rule, mut found: Vec<Conflict>, collection: &Collection, room: usize) -> Vec<Conflict> {
    let further = found.len().saturating_sub(room);
    if further > 0 {
        found.truncate(room);
        let first = collection.keys().next().map_or("", String::as_str);
        let cause = format!("{further} more like it: the rules of a collection list {LISTED_MAX} conflicts");
        found.push(Conflict {
            id: conflict_id(&[first, "rule", &rule.name, "more"], &[]),
            ..of_rule(rule, first, cause)
        });
    }
    found
}

fn contentions(rule: &Rule, field: &str, collection: &Collection) -> Vec<Conflict> {
    let mut claims: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, fields) in collection {
        if let Some(value) = key(fields.get(field)) {
            claims.entry(value).or_default().push(name);
        }
    }
    let contended = claims.into_iter().filter(|(_, claimants)| claimants.len() > 1);
    contended
        .map(|(value, claimants)| {
            let cause = format!("{} documents have `{field}` {value}", claimants.len());
            Conflict {
                id: conflict_id(&[claimants[0], "rule", &rule.name, &value], &[]),
                others: claimants[1..].iter().map(|name| (*name).to_owned()).collect(),
                field: Some(field.to_owned()),
                class: Class::Contention,
                score: 4 + claimants.len() as u32,
                ..of_rule(rule, claimants[0], cause)
            }
        })
        .collect()
}

fn bounds(ready: &Ready, over: &Over, collection: &Collection, items: &Collection) -> Vec<Conflict> {
    let summed = |item: &Map<String, Json>| match &over.sum {
        Some(field) => item.get(field).and_then(Json::as_f64).unwrap_or(0.0),
        None => 0.0,
    };
    let fail = |cause: String| {
        let first = collection.keys().next().map_or("", String::as_str);
        vec![of_rule(&ready.rule, first, cause)]
    };
    let mut found = Vec::new();
    let spent = Spent::of(PAIRS_STEPS_MAX);
    let joined = Join::of(&over.condition);
    let mut by_value: BTreeMap<String, (f64, u64)> = BTreeMap::new();
    if let Some(join) = &joined {
        for item in items.values() {
            let Some(key) = join.of_item(item) else { continue };
            let sums = by_value.entry(key).or_default();
            *sums = (sums.0 + summed(item), sums.1 + 1);
        }
    } else if collection.len().saturating_mul(items.len()) > PAIRS_MAX {
        let pairs = collection.len().saturating_mul(items.len());
        return fail(format!(
            "{pairs} pairs of documents are more than {PAIRS_MAX}: compare a field of `item` with `id` or with a field of `doc` alone"
        ));
    }
    for (name, fields) in collection {
        let sums = match (&joined, &ready.condition) {
            (Some(join), _) => {
                let key = join.of_document(name, fields);
                Ok(key.and_then(|key| by_value.get(&key)).copied().unwrap_or_default())
            }
            (None, Some(Ok(condition))) => items.iter().try_fold((0.0, 0), |sums, (item_name, item)| {
                let variables = of_document(name, fields, &spent).with("item", item).with("item_id", id_of(item_name));
                Ok(if condition.holds(&variables)? { (sums.0 + summed(item), sums.1 + 1) } else { sums })
            }),
            (None, Some(Err(cause))) => Err(cause.clone()),
            (None, None) => Ok((0.0, 0)),
        };
        match sums {
            Ok(sums) => {
                let total = number(sums.0);
                let variables = of_document(name, fields, &spent).with("total", &total).with("count", sums.1);
                let broken = ready.broken(&variables);
                let told = |cause: String| format!("{cause}: {} {} come to {}", sums.1, over.collection, sums.0);
                found.extend(broken.map(|cause| of_rule(&ready.rule, name, told(cause))));
            }
            Err(cause) => return fail(cause),
        }
    }
    found
}

/// A whole sum is a whole number, so that it compares with those of documents.
fn number(sum: f64) -> Json {
    let whole = sum.fract() == 0.0 && sum.abs() < 9e15;
    if whole { Json::from(sum as i64) } else { Json::from(sum) }
}

fn too_many<'a>(
    ready: &Ready,
    collection: &'a Collection,
    other: impl Fn(&str) -> Option<&'a Collection>,
) -> Option<String> {
    let over = ready.rule.over.as_ref();
    if over.is_none() && ready.rule.exclusive.is_none() {
        return None;
    }
    let items = over.and_then(|over| other(&over.collection)).map_or(0, Collection::len);
    let documents = collection.len().max(items);
    (documents > DOCUMENTS_MAX)
        .then(|| format!("its documents are more than {DOCUMENTS_MAX}, as many as a rule over a collection looks at"))
}

/// `item.field == id`, or `item.field == doc.field`.
struct Join {
    item: String,
    /// `None`: the document's id.
    doc: Option<String>,
}

impl Join {
    fn of(condition: &str) -> Option<Self> {
        let (left, right) = condition.split_once("==")?;
        let plain = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let item = left.trim().strip_prefix("item.").filter(|name| plain(name))?;
        let doc = match right.trim() {
            "id" => None,
            other => Some(other.strip_prefix("doc.").filter(|name| plain(name))?.to_owned()),
        };
        Some(Self { item: item.to_owned(), doc })
    }

    fn of_item(&self, item: &Map<String, Json>) -> Option<String> {
        key(item.get(&self.item))
    }

    fn of_document(&self, name: &str, fields: &Map<String, Json>) -> Option<String> {
        match &self.doc {
            None => key(Some(&Json::from(id_of(name)))),
            Some(field) => key(fields.get(field)),
        }
    }
}

/// Equal for equal values. What is missing or null says nothing, and equals nothing.
fn key(value: Option<&Json>) -> Option<String> {
    value.filter(|value| !value.is_null()).map(|value| leveled(value).to_string())
}

/// A value in which 1.0 is written as 1: both are one number, and whole numbers are compared exactly.
fn leveled(value: &Json) -> Json {
    match value {
        Json::Number(number) if number.is_f64() => number.as_f64().and_then(whole).unwrap_or_else(|| value.clone()),
        Json::Array(values) => values.iter().map(leveled).collect(),
        Json::Object(members) => {
            Json::Object(members.iter().map(|(name, value)| (name.clone(), leveled(value))).collect())
        }
        other => other.clone(),
    }
}

/// A float without a fraction, as the integer it is; `None` beyond what integers hold.
fn whole(float: f64) -> Option<Json> {
    const I64_END: f64 = 9_223_372_036_854_775_808.0;
    let fits = float.fract() == 0.0 && (-I64_END..2.0 * I64_END).contains(&float);
    fits.then(|| if float < I64_END { Json::from(float as i64) } else { Json::from(float as u64) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Schema;
    use serde_json::json;
    use std::sync::Arc;

    fn collection(name: &str, documents: Json) -> Collection {
        let Json::Object(documents) = documents else { return Collection::new() };
        let fields = |value: Json| value.as_object().cloned().unwrap_or_default();
        documents.into_iter().map(|(id, value)| (format!("{name}/{id}"), fields(value))).collect()
    }

    fn judged(schema: &str, own: &Collection, items: &Collection) -> Vec<Conflict> {
        let judge = Judge::of(&Arc::new(Schema::parse(schema).unwrap()));
        across(&judge, own, |name| (name == "vms").then_some(items))
    }

    const MEMORY: &str = "[[rules]]\nname = \"memory\"\nseverity = \"critical\"\ncheck = \"total <= doc.memory_mb\"\n\
                          over = { collection = \"vms\", where = \"WHERE\", sum = \"memory_mb\" }";

    #[test]
    fn a_host_that_holds_more_than_it_has_is_found_by_join_and_by_pairs_alike() {
        let hosts =
            collection("workers", json!({"h1": {"memory_mb": 100}, "h2": {"memory_mb": 100}, "h3": {"memory_mb": 5}}));
        let vms = collection(
            "vms",
            json!({"a": {"host": "h1", "memory_mb": 60}, "b": {"host": "h1", "memory_mb": 60},
            "c": {"host": "h2", "memory_mb": 100}}),
        );
        let found = |condition: &str| judged(&MEMORY.replace("WHERE", condition), &hosts, &vms);
        let joined = found("item.host == id");
        assert_eq!(joined.iter().map(|c| c.document.as_str()).collect::<Vec<_>>(), ["workers/h1"]);
        assert!(joined[0].cause.as_ref().unwrap().contains("2 vms come to 120"), "{joined:?}");
        assert_eq!(joined, found("item.host == id && true"));
        assert!(found("item.nothing.deeper == id")[0].cause.as_ref().unwrap().contains("deeper"));
    }

    #[test]
    fn a_rule_that_everything_breaks_lists_a_bounded_number_and_says_how_many_more() {
        let vm = |n: usize| (format!("vms/{n}"), Map::from_iter([("ip".to_owned(), json!(n / 2))]));
        let vms: Collection = (0..2 * (LISTED_MAX + 7)).map(vm).collect();
        let found = judged("[[rules]]\nname = \"address\"\nexclusive = \"ip\"", &vms, &vms);
        assert_eq!(found.len(), LISTED_MAX + 1);
        assert!(found[LISTED_MAX].cause.as_ref().unwrap().starts_with("7 more"), "{:?}", found[LISTED_MAX]);
    }

    #[test]
    fn what_is_missing_or_null_joins_nothing() {
        let text = MEMORY.replace("WHERE", "item.host == doc.rack").replace("total <= doc.memory_mb", "count == 0");
        let hosts = collection("workers", json!({"none": {}, "null": {"rack": null}, "r1": {"rack": "r1"}}));
        let vms = collection("vms", json!({"a": {}, "b": {"host": null}, "c": {"host": "r1"}}));
        let found = judged(&text, &hosts, &vms);
        assert_eq!(found.iter().map(|c| c.document.as_str()).collect::<Vec<_>>(), ["workers/r1"]);
    }

    #[test]
    fn numbers_join_by_their_value_and_texts_do_not_join_numbers() {
        let found = |rack: Json, host: Json| {
            let text = MEMORY.replace("WHERE", "item.host == doc.rack").replace("total <= doc.memory_mb", "count == 0");
            let hosts = collection("workers", json!({"h": {"rack": rack}}));
            judged(&text, &hosts, &collection("vms", json!({"a": {"host": host}}))).len()
        };
        assert_eq!(found(json!(1), json!(1.0)), 1);
        assert_eq!(found(json!(-0.0), json!(0)), 1);
        assert_eq!(found(json!([1.0, {"a": 2}]), json!([1, {"a": 2.0}])), 1);
        assert_eq!(found(json!(1.5), json!(1.5)), 1);
        assert_eq!(found(json!(u64::MAX), json!(u64::MAX)), 1);
        assert_eq!(found(json!(1), json!("1")), 0);
        assert_eq!(found(json!(9_007_199_254_740_993_u64), json!(9_007_199_254_740_992.0)), 0, "exactly");
        let vms = collection("vms", json!({"a": {"slot": 1}, "b": {"slot": 1.0}, "c": {"slot": 2}}));
        assert_eq!(judged("[[rules]]\nname = \"slot\"\nexclusive = \"slot\"", &vms, &vms)[0].others, ["vms/b"]);
    }

    #[test]
    fn an_address_that_two_have_is_one_conflict_of_both() {
        let vms = collection(
            "vms",
            json!({"a": {"ip": "10.0.0.1"}, "b": {"ip": "10.0.0.1"}, "c": {"ip": "10.0.0.2"}, "d": {}, "e": {"ip": null}}),
        );
        let found = judged("[[rules]]\nname = \"address\"\nexclusive = \"ip\"", &vms, &vms);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].class, found[0].document.as_str()), (Class::Contention, "vms/a"));
        assert_eq!(found[0].others, ["vms/b"]);
    }
}
