//! What deciders chose before, field by field.

use std::collections::BTreeMap;

use super::strategy::Strategy;

/// Latest choices that make a decider's habit at one field: a change of mind shows after half as many.
pub const CHOICES_MAX: usize = 20;
/// Fields whose habits are kept. A few hundred bytes each; a new field beyond it has no habit.
pub const PLACES_MAX: usize = 4096;
/// Deciders kept of one field. The one who was silent longest makes room.
pub const DECIDERS_MAX: usize = 8;

/// Fed with decisions in the order of their time; asked for [`Case::habit`](super::Case::habit) *before* the decision
/// on that case is fed, or a model learns from the answer.
#[derive(Clone, Debug, Default)]
pub struct Habits {
    places: BTreeMap<(String, String), Vec<Decider>>,
}

#[derive(Clone, Debug)]
struct Decider {
    name: String,
    /// The oldest first.
    choices: Vec<Strategy>,
}

impl Habits {
    pub fn record(&mut self, collection: &str, field: &str, decider: &str, strategy: Strategy) {
        let place = (collection.to_owned(), field.to_owned());
        if self.places.len() >= PLACES_MAX && !self.places.contains_key(&place) {
            return;
        }
        let deciders = self.places.entry(place).or_default();
        let known = deciders.iter().position(|known| known.name == decider).map(|at| deciders.remove(at));
        let mut last = known.unwrap_or_else(|| Decider { name: decider.to_owned(), choices: Vec::new() });
        if last.choices.len() >= CHOICES_MAX {
            last.choices.remove(0);
        }
        last.choices.push(strategy);
        if deciders.len() >= DECIDERS_MAX {
            deciders.remove(0);
        }
        deciders.push(last);
    }

    /// The shares of what the last decider of this field chose there lately. Empty when no one did.
    pub fn before(&self, collection: &str, field: &str) -> BTreeMap<Strategy, f64> {
        let place = (collection.to_owned(), field.to_owned());
        let Some(last) = self.places.get(&place).and_then(|deciders| deciders.last()) else { return BTreeMap::new() };
        let mut counts = BTreeMap::<_, u32>::new();
        for choice in &last.choices {
            *counts.entry(*choice).or_default() += 1;
        }
        let all = last.choices.len() as f64;
        counts.into_iter().map(|(strategy, count)| (strategy, f64::from(count) / all)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_deciders_latest_choices_are_the_habit() {
        let mut habits = Habits::default();
        assert!(habits.before("vms", "status").is_empty());
        habits.record("vms", "status", "ann", Strategy::Max);
        habits.record("vms", "status", "ben", Strategy::Manual);
        assert_eq!(habits.before("vms", "status"), BTreeMap::from([(Strategy::Manual, 1.0)]));
        habits.record("vms", "status", "ann", Strategy::Min);
        let anns = BTreeMap::from([(Strategy::Max, 0.5), (Strategy::Min, 0.5)]);
        assert_eq!(habits.before("vms", "status"), anns);
        for _ in 0..CHOICES_MAX {
            habits.record("vms", "status", "ann", Strategy::Union);
        }
        assert_eq!(habits.before("vms", "status"), BTreeMap::from([(Strategy::Union, 1.0)]));
        assert!(habits.before("vms", "owner").is_empty());
    }

    #[test]
    fn deciders_and_fields_are_bounded() {
        let mut habits = Habits::default();
        for n in 0..PLACES_MAX + 10 {
            habits.record("c", &n.to_string(), "ann", Strategy::Max);
            habits.record("c", "0", &n.to_string(), Strategy::Max);
        }
        assert_eq!(habits.places.len(), PLACES_MAX);
        assert!(habits.places.values().all(|deciders| deciders.len() <= DECIDERS_MAX));
    }
}
