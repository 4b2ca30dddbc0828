//! How much of each resource.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{AMOUNT_MAX, CapacityError, RESOURCES_MAX, check_name};

/// By the resource's name. What is not named is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Amounts(BTreeMap<String, u64>);

impl Amounts {
    /// What somebody asks for: named well, and not too large.
    pub fn check(&self) -> Result<(), CapacityError> {
        if self.0.is_empty() || self.0.len() > RESOURCES_MAX {
            return Err(CapacityError::Resources);
        }
        for (resource, amount) in &self.0 {
            check_name("a resource", resource)?;
            if *amount > AMOUNT_MAX {
                return Err(CapacityError::TooMuch(resource.clone()));
            }
        }
        Ok(())
    }

    pub fn get(&self, resource: &str) -> u64 {
        self.0.get(resource).copied().unwrap_or(0)
    }

    pub fn has(&self, resource: &str) -> bool {
        self.0.contains_key(resource)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(resource, amount)| (resource.as_str(), *amount))
    }

    pub fn is_nothing(&self) -> bool {
        self.0.values().all(|amount| *amount == 0)
    }

    pub fn plus(&self, other: &Self) -> Self {
        let mut sum = self.clone();
        for (resource, amount) in other.iter() {
            let into = sum.0.entry(resource.to_owned()).or_default();
            *into = into.saturating_add(amount);
        }
        sum.without_zeros()
    }

    /// What is left; none where `other` has more.
    pub fn minus(&self, other: &Self) -> Self {
        let left = self.iter().map(|(resource, amount)| (resource, amount.saturating_sub(other.get(resource))));
        left.collect::<Self>().without_zeros()
    }

    /// The first resource of which this is more than `most`.
    pub fn beyond(&self, most: &Self) -> Option<&str> {
        self.iter().find(|(resource, amount)| *amount > most.get(resource)).map(|(resource, _)| resource)
    }

    pub fn fits(&self, most: &Self) -> bool {
        self.beyond(most).is_none()
    }

    fn without_zeros(mut self) -> Self {
        self.0.retain(|_, amount| *amount > 0);
        self
    }
}

impl<R: Into<String>> FromIterator<(R, u64)> for Amounts {
    fn from_iter<I: IntoIterator<Item = (R, u64)>>(amounts: I) -> Self {
        Self(amounts.into_iter().map(|(resource, amount)| (resource.into(), amount)).collect())
    }
}

impl<'a> std::iter::Sum<&'a Self> for Amounts {
    fn sum<I: Iterator<Item = &'a Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, amounts| sum.plus(amounts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<const N: usize>(amounts: [(&str, u64); N]) -> Amounts {
        amounts.into_iter().collect()
    }

    #[test]
    fn what_is_not_named_is_none_and_nothing_is_below_none() {
        let (a, b) = (of([("cpus", 2), ("memory_mb", 10)]), of([("memory_mb", 4), ("gpus", 1)]));
        assert_eq!(a.plus(&b), of([("cpus", 2), ("gpus", 1), ("memory_mb", 14)]));
        assert_eq!(a.minus(&b), of([("cpus", 2), ("memory_mb", 6)]));
        assert_eq!(a.minus(&a), Amounts::default());
        assert_eq!((b.beyond(&a), a.beyond(&a)), (Some("gpus"), None));
        assert_eq!([&a, &b].into_iter().sum::<Amounts>(), a.plus(&b));
    }

    #[test]
    fn what_nobody_can_count_is_refused() {
        assert_eq!(of([]).check(), Err(CapacityError::Resources));
        assert_eq!(of([("memory_mb", AMOUNT_MAX + 1)]).check(), Err(CapacityError::TooMuch("memory_mb".into())));
        assert!(of([("", 1)]).check().is_err() && of([("cpus", 0)]).check().is_ok());
        assert!((0..9).map(|n| (n.to_string(), 1)).collect::<Amounts>().check().is_err());
    }
}
