//! The model in force: what the document `advisor/model` holds, the same on every node.
//!
//! A case asks for the habit of the field's last decider. That comes from here and not from what one node happens to
//! remember, so nodes with equal clocks are advised alike.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::case::{Case, FIELD_BYTES_MAX};
use super::evaluation::Evaluation;
use super::features::field_feature;
use super::habit::Habits;
use super::model::{FEATURES_MAX, MODEL_BYTES_MAX, Model, Unreadable};
use super::strategy::Strategy;

/// Bytes of the text: a model, a habit of up to 13 shares (with its field's name 800 bytes) for each of its at most 512
/// fields, and some kilobytes of evaluation. It fits into one register, which takes 1 MiB.
pub const STANDING_BYTES_MAX: usize = 3 * MODEL_BYTES_MAX;

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Standing {
    /// Counts up with every training.
    pub version: u64,
    pub trained_ms: u64,
    pub by: String,
    pub model: Model,
    /// By `collection.field`, of the fields that the model knows: [`Habits::before`] the next decision.
    #[serde(default)]
    pub habits: BTreeMap<String, BTreeMap<Strategy, f64>>,
    /// Of a model trained on the earlier decisions, asked about the later ones.
    #[serde(default)]
    pub evaluation: Option<Evaluation>,
}

impl Standing {
    /// Keeps the habits of the fields that `model` knows; it abstains on all others anyway. `places` are the fields'
    /// collections and names.
    pub fn new<'a>(
        version: u64,
        trained_ms: u64,
        by: &str,
        model: Model,
        habits: &Habits,
        places: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let known = |(collection, field): &(&str, &str)| model.weighs(&format!("field={collection}.{field}"));
        let habit =
            |(collection, field): (&str, &str)| (format!("{collection}.{field}"), habits.before(collection, field));
        let habits = places.into_iter().filter(known).map(habit).collect();
        Self { version, trained_ms, by: by.to_owned(), model, habits, evaluation: None }
    }

    /// As the document's field holds it. Whoever holds a `Standing` from here holds a sound one.
    pub fn parse(text: &str) -> Result<Self, Unreadable> {
        if text.len() > STANDING_BYTES_MAX {
            return Err(Unreadable::Long(text.len()));
        }
        let standing: Self = serde_json::from_str(text).map_err(|error| Unreadable::Shape(error.to_string()))?;
        let shares = standing.habits.values().flat_map(BTreeMap::values).all(|share| (0.0..=1.0).contains(share));
        standing.model.check().map_err(|what| Unreadable::Shape(what.to_owned()))?;
        match (shares, standing.habits.len() <= FEATURES_MAX, standing.by.len() <= FIELD_BYTES_MAX) {
            (true, true, true) => Ok(standing),
            (false, ..) => Err(Unreadable::Shape("a habit is no share of one".to_owned())),
            (_, false, _) => Err(Unreadable::Shape("it tells of too many habits".to_owned())),
            (.., false) => Err(Unreadable::Shape("the name of who trained it is too long".to_owned())),
        }
    }

    pub fn habit(&self, case: &Case) -> BTreeMap<Strategy, f64> {
        self.habits.get(&case.place()).cloned().unwrap_or_default()
    }

    /// Whether enough decisions on the case's field were learned from.
    pub fn knows(&self, case: &Case) -> bool {
        self.model.weighs(&field_feature(case))
    }
}

#[cfg(test)]
mod tests {
    use super::super::simulated::{self, BY_FIELD};
    use super::super::{Options, train};
    use super::*;

    fn standing() -> Standing {
        let decisions = simulated::decisions(BY_FIELD, 200, 0.0, 1);
        let model = train(&decisions, 1, &Options::default()).unwrap();
        let mut habits = Habits::default();
        habits.record("vms", "memory_mb", "ann", Strategy::Max);
        habits.record("nobody", "asked", "ann", Strategy::Max);
        Standing::new(3, 5, "ann", model, &habits, [("vms", "memory_mb"), ("nobody", "asked")])
    }

    #[test]
    fn it_is_read_back_from_its_text_with_the_habits_of_known_fields_only() {
        let standing = standing();
        let text = serde_json::to_string(&standing).unwrap();
        assert_eq!(Standing::parse(&text), Ok(standing.clone()));
        assert_eq!(standing.habits.keys().collect::<Vec<_>>(), ["vms.memory_mb"]);
        assert_eq!(standing.habit(&simulated::case()), BTreeMap::from([(Strategy::Max, 1.0)]));
    }

    #[test]
    fn an_unsound_text_is_refused() {
        let says = |spoil: fn(&mut serde_json::Value)| {
            let mut json = serde_json::to_value(standing()).unwrap();
            spoil(&mut json);
            Standing::parse(&json.to_string()).unwrap_err().to_string()
        };
        assert!(says(|json| json["model"]["weights"] = serde_json::json!([])).contains("weights"));
        assert!(says(|json| json["habits"]["vms.memory_mb"]["max"] = 7.into()).contains("no share of one"));
        assert!(says(|json| json["by"] = "x".repeat(500).into()).contains("too long"));
        assert!(matches!(Standing::parse(&" ".repeat(STANDING_BYTES_MAX + 1)), Err(Unreadable::Long(_))));
    }
}
