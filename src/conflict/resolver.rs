//! Resolvers by name: what each makes of a [`Case`].
//!
//! A deterministic resolver is a function of the case alone, applied at every read and never written back by itself: two
//! nodes that wrote their answers back would make new siblings of them. A coordinated one waits for a decision.

use std::cmp::Ordering;

use serde_json::Value as Json;

use super::advice::advise;
use super::advisor::{Advice, Strategy};
use super::case::{Case, For, Verdict};
use super::expression::Expression;
use super::merge::Rules;
use super::variables::{Spent, Variables};
use super::{choosing, merging};
use crate::crdt::Resolver;
use crate::document::settings::Settings;

/// What an `expr` sees.
pub const VALUE_SEES: &[&str] = &["siblings", "base", "doc", "id", "field"];

/// What a field's resolver was told, ready for use.
#[derive(Debug, Default)]
pub struct Prepared {
    pub settings: Settings,
    /// `None` where `expr` does not parse in this version.
    pub expression: Option<Expression>,
    /// Of merges; the defaults where they do not parse in this version.
    pub merge: Rules,
}

impl Prepared {
    pub fn of(settings: &Settings) -> Self {
        let expression = settings.expr.as_deref().and_then(|text| Expression::parse(text).ok());
        let merge = settings.merge.as_ref().and_then(|json| Rules::parse(&json.to_string()).ok());
        Self { settings: settings.clone(), expression, merge: merge.unwrap_or_default() }
    }
}

/// What a resolver and its fallbacks come to.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The first that settles, or that waits for someone; where none does, the one asked first.
    pub resolver: Resolver,
    pub verdict: Verdict,
    /// What those before it lacked, as `resolver: cause`.
    pub unable: Vec<String>,
}

/// Tries a resolver, then its fallbacks in turn.
pub fn resolve(case: &Case<'_>, resolver: Resolver, prepared: &Prepared) -> Resolved {
    let mut first = None;
    let mut unable = Vec::new();
    for resolver in std::iter::once(resolver).chain(prepared.settings.fallback.iter().copied()) {
        match resolve_with(case, resolver, prepared) {
            Verdict::Unable(cause) => {
                unable.push(format!("{}: {cause}", resolver.name()));
                first.get_or_insert((resolver, Verdict::Unable(cause)));
            }
            verdict => return Resolved { resolver, verdict, unable },
        }
    }
    // The first one's cause is the verdict itself.
    unable.drain(..1.min(unable.len()));
    let (resolver, verdict) = first.unwrap_or((resolver, Verdict::Waits(For::Person)));
    Resolved { resolver, verdict, unable }
}

/// Whether anything may come to wait under a resolver and its fallbacks: for whom it names, or because none of them can.
pub fn may_wait(resolver: Resolver, settings: &Settings) -> bool {
    for resolver in std::iter::once(resolver).chain(settings.fallback.iter().copied()) {
        match resolver {
            Resolver::LastWriter
            | Resolver::FirstWriter
            | Resolver::KeepAll
            | Resolver::Max
            | Resolver::Min
            | Resolver::Union
            | Resolver::Priority
            | Resolver::Prioritize => return false,
            Resolver::Vote | Resolver::Advisor | Resolver::Manual => return true,
            // Without a value before, a common shape or a function they are unable: then the next is asked.
            Resolver::DeepMerge
            | Resolver::Discard
            | Resolver::ThreeWay
            | Resolver::Text
            | Resolver::Rollback
            | Resolver::Expr
            | Resolver::Custom => {}
        }
    }
    true
}

/// Tries one resolver, without its fallbacks.
pub fn resolve_with(case: &Case<'_>, resolver: Resolver, prepared: &Prepared) -> Verdict {
    let settings = &prepared.settings;
    match resolver {
        Resolver::LastWriter => choosing::settled(case.newest()),
        Resolver::FirstWriter => choosing::settled(case.values().last()),
        Resolver::KeepAll => Verdict::Settled(case.values().cloned().collect()),
        Resolver::Max => choosing::largest(case, Ordering::Greater),
        Resolver::Min => choosing::largest(case, Ordering::Less),
        Resolver::Union => merging::union(case),
        Resolver::DeepMerge => merging::deep_merge(case, &prepared.merge),
        Resolver::Priority => choosing::priority(case, settings),
        Resolver::Prioritize => choosing::prioritize(case, settings),
        Resolver::Discard => choosing::discard(case),
        Resolver::ThreeWay => merging::three_way(case, &prepared.merge),
        Resolver::Text => merging::texts(case),
        Resolver::Rollback => choosing::rollback(case),
        Resolver::Expr => match &prepared.expression {
            Some(expression) => by_expression(case, expression),
            None => Verdict::Unable("this version of the program cannot read the field's expression".into()),
        },
        Resolver::Custom => by_custom(case, settings.custom.as_deref().unwrap_or_default()),
        Resolver::Vote => Verdict::Waits(For::Voters),
        Resolver::Advisor => by_advice(case, prepared),
        Resolver::Manual => Verdict::Waits(For::Person),
    }
}

/// Does what people would likely do. Where that is not known well enough, the fallback is asked.
fn by_advice(case: &Case<'_>, prepared: &Prepared) -> Verdict {
    let Some(standing) = case.asks.standing else {
        return Verdict::Unable("the advisor is off: no model is trained".into());
    };
    match advise(standing, case.contested()) {
        Advice::Abstain(why) => Verdict::Unable(format!("the advisor abstains: {why}")),
        Advice::Use { strategy: Strategy::Priority, .. } if prepared.settings.order.is_empty() => {
            Verdict::Unable("the advisor says priority, and the field has no `order`".into())
        }
        Advice::Use { strategy, .. } => resolve_with(case, resolver_of(strategy), prepared),
    }
}

/// The resolver that does what a strategy says.
pub(super) fn resolver_of(strategy: Strategy) -> Resolver {
    match strategy {
        Strategy::LastWriter => Resolver::LastWriter,
        Strategy::FirstWriter => Resolver::FirstWriter,
        Strategy::KeepAll => Resolver::KeepAll,
        Strategy::Max => Resolver::Max,
        Strategy::Min => Resolver::Min,
        Strategy::Union => Resolver::Union,
        Strategy::DeepMerge => Resolver::DeepMerge,
        Strategy::Priority => Resolver::Priority,
        Strategy::Prioritize => Resolver::Prioritize,
        Strategy::Discard => Resolver::Discard,
        Strategy::ThreeWay => Resolver::ThreeWay,
        Strategy::Rollback => Resolver::Rollback,
        Strategy::Manual => Resolver::Manual,
    }
}

fn by_expression(case: &Case<'_>, expression: &Expression) -> Verdict {
    let own = Spent::default();
    let variables = Variables::new(case.asks.spent.unwrap_or(&own))
        .with("siblings", case.siblings)
        .with("base", case.base().unwrap_or(&Json::Null))
        .with("doc", case.fields)
        .with("id", case.document)
        .with("field", case.field);
    match expression.evaluate(&variables) {
        Ok(value) => Verdict::Settled(value),
        Err(cause) => Verdict::Unable(cause),
    }
}

fn by_custom(case: &Case<'_>, name: &str) -> Verdict {
    match case.customs.get(name) {
        None => Verdict::Unable(format!("this program registered no resolver `{name}`")),
        Some(custom) => custom(case).map_or_else(Verdict::Unable, Verdict::Settled),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conflict::advisor::simulated::{self, BY_FIELD};
    use crate::conflict::advisor::{Habits, Options, Standing, train};
    use crate::conflict::case::{Asked, Customs};
    use crate::document::Sibling;
    use serde_json::{Map, json};

    /// From simulated decisions of one who takes the larger number, and the newest state.
    fn standing() -> Standing {
        let decisions = simulated::decisions(BY_FIELD, 600, 0.0, 3);
        let model = train(&decisions, 1, &Options::default()).unwrap();
        Standing::new(1, 0, "ann", model, &Habits::default(), [("vms", "memory_mb"), ("vms", "owner")])
    }

    #[track_caller]
    fn verdict(field: &str, values: [Json; 2], settings: Settings, standing: Option<&Standing>) -> (Resolver, Verdict) {
        let [newest, oldest] = values;
        let sibling = |value: Json, n: u64| {
            let replica = format!("worker-{n}/0a");
            Sibling { value, dot: format!("{replica}:1"), replica, at: 100_000 - n * 30_000, base: None }
        };
        let (none, customs) = (Map::new(), Customs::default());
        let case = Case {
            document: "vms/1",
            field,
            siblings: &[sibling(newest, 1), sibling(oldest, 2)],
            fields: &none,
            holds: &|_| Ok(()),
            customs: &customs,
            asks: Asked { standing, contested: 1, score: 2, spent: None },
        };
        let resolved = resolve(&case, Resolver::Advisor, &Prepared::of(&settings));
        (resolved.resolver, resolved.verdict)
    }

    #[test]
    fn the_advisor_does_what_people_would_and_leaves_to_them_what_they_kept() {
        let standing = standing();
        let asked = |field: &str, values| verdict(field, values, Settings::default(), Some(&standing));
        assert_eq!(asked("memory_mb", [json!(3), json!(9)]), (Resolver::Advisor, Verdict::Settled(json!(9))));
        assert_eq!(asked("owner", [json!("ann"), json!("ben")]).1, Verdict::Waits(For::Person));
    }

    #[test]
    fn where_the_advisor_abstains_the_fallback_settles_or_the_reason_stands() {
        let standing = standing();
        let values = || [json!(3), json!(9)];
        let fallback = Settings { fallback: vec![Resolver::Min], ..Settings::default() };
        for (field, standing, why) in
            [("nobody_asked", Some(&standing), "abstains: too few decisions"), ("memory_mb", None, "is off")]
        {
            assert_eq!(
                verdict(field, values(), fallback.clone(), standing),
                (Resolver::Min, Verdict::Settled(json!(3)))
            );
            let (_, alone) = verdict(field, values(), Settings::default(), standing);
            assert!(matches!(&alone, Verdict::Unable(cause) if cause.contains(why)), "{alone:?}");
        }
    }

    #[test]
    fn a_strategy_is_read_as_the_resolver_of_its_name() {
        for strategy in Strategy::ALL {
            assert_eq!(resolver_of(strategy).name(), strategy.name());
        }
    }
}
