//! A schema, ready to settle and to judge: resolvers by field, expressions parsed once.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::advisor::Standing;
use super::case::{Asked, Case, Customs, Verdict};
use super::detect::score;
use super::expression::Expression;
use super::merge::Rules;
use super::policies::Policies;
use super::policy::Escalate;
use super::resolver::{Prepared, Resolved, VALUE_SEES, resolve, resolve_with};
use super::variables::{Spent, Variables};
use crate::crdt::Resolver;
use crate::document::rule::{Class, Rule};
use crate::document::{DocumentView, Schema};

/// Settles and judges the documents of one collection.
#[derive(Debug, Default)]
pub struct Judge {
    schema: Arc<Schema>,
    prepared: BTreeMap<String, Prepared>,
    rules: Vec<Ready>,
}

/// A rule with its expressions parsed; one that does not parse in this version says so whenever it is asked.
#[derive(Debug)]
pub struct Ready {
    pub rule: Rule,
    pub check: Option<Result<Expression, String>>,
    pub condition: Option<Result<Expression, String>>,
}

/// An expression of a schema that does not parse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {cause}")]
pub struct BadExpression {
    /// `field `x`` or `rule `y``.
    pub place: String,
    /// What the text of the schema holds at that place, to find its line by.
    pub text: String,
    pub cause: String,
}

/// What became of one contested register.
#[derive(Clone, Debug, PartialEq)]
pub struct Settlement {
    /// The field, or `field.key` of a map.
    pub field: String,
    pub resolver: Resolver,
    pub verdict: Verdict,
    /// The policy's rule that chose the resolver, as `policy@version/rule`; the schema did where there is none.
    pub policy: Option<String>,
    /// Conditions of policies that failed, and resolvers that could not settle it before this one.
    pub failed: Vec<String>,
    pub score: u32,
    /// What becomes of it if it waits for too long, by that rule.
    pub escalate: Option<Escalate>,
}

/// What is in force beside the schema.
#[derive(Clone, Copy, Debug)]
pub struct InForce<'a> {
    pub policies: &'a Policies,
    pub customs: &'a Customs,
    /// The advisor's model.
    pub advisor: Option<&'a Standing>,
    /// Counts what is spent on the document; `None`: every expression has all there is.
    pub spent: Option<&'a Spent>,
}

impl Judge {
    pub fn of(schema: &Arc<Schema>) -> Self {
        let parse = |text: &String| Expression::parse(text).map_err(|error| error.to_string());
        let ready = |rule: &Rule| Ready {
            check: rule.check.as_ref().map(parse),
            condition: rule.over.as_ref().map(|over| parse(&over.condition)),
            rule: rule.clone(),
        };
        let prepared = |(name, settings): (&String, _)| (name.clone(), Prepared::of(settings));
        Self {
            prepared: schema.settings.iter().map(prepared).collect(),
            rules: schema.rules.iter().map(ready).collect(),
            schema: schema.clone(),
        }
    }

    /// Whether every expression of a schema parses.
    pub fn check(schema: &Schema) -> Result<(), BadExpression> {
        let try_parse = |place: String, text: &str, sees: &[&str]| match Expression::parse_over(text, sees) {
            Ok(_) => Ok(()),
            Err(error) => Err(BadExpression { place, text: text.to_owned(), cause: error.to_string() }),
        };
        for (name, settings) in &schema.settings {
            settings.expr.as_deref().map_or(Ok(()), |text| try_parse(format!("field `{name}`"), text, VALUE_SEES))?;
            if let Some(merge) = &settings.merge {
                Rules::parse(&merge.to_string()).map_err(|error| BadExpression {
                    place: format!("field `{name}`"),
                    text: "merge".to_owned(),
                    cause: error.cause,
                })?;
            }
        }
        for rule in &schema.rules {
            let place = || format!("rule `{}`", rule.name);
            let sees: &[&str] = if rule.over.is_some() { &["doc", "id", "total", "count"] } else { &["doc", "id"] };
            rule.check.as_deref().map_or(Ok(()), |text| try_parse(place(), text, sees))?;
            let sees = &["item", "item_id", "doc", "id"];
            rule.over.as_ref().map_or(Ok(()), |over| try_parse(place(), &over.condition, sees))?;
        }
        Ok(())
    }

    pub fn rules(&self) -> &[Ready] {
        &self.rules
    }

    /// The resolver of a register, and the name under which the schema declares it: a map's keys follow the map.
    fn declared<'r>(&self, register: &'r str) -> (Resolver, &'r str) {
        let of_map = register.match_indices('.').map(|(at, _)| &register[..at]);
        let names = std::iter::once(register).chain(of_map);
        let declared = names.into_iter().find_map(|name| self.schema.field(name).map(|field| (field.resolver, name)));
        declared.unwrap_or((Resolver::default(), register))
    }

    /// What the schema tells the resolvers of a register.
    pub fn prepared(&self, register: &str) -> Option<&Prepared> {
        self.prepared.get(self.declared(register).1)
    }

    /// Puts what the resolvers say in the place of what the last writer said, and tells what became of each contested
    /// register. Resolvers see the other fields as their last writers have them, so none depends on another's answer.
    pub fn settle(&self, document: &str, view: &mut DocumentView, in_force: InForce<'_>) -> Vec<Settlement> {
        let settle = |field: &String| self.settlement(document, field, view, in_force);
        let settlements: Vec<Settlement> = view.siblings.keys().map(settle).collect();
        put_settled(view, &settlements);
        settlements
    }

    fn settlement(&self, document: &str, field: &str, view: &DocumentView, in_force: InForce<'_>) -> Settlement {
        let holds = |value: &Json| self.keeps_invariants(document, view, field, value, in_force.spent);
        let case = self.case(document, field, view, &holds, in_force);
        let score = case.asks.score;
        let (choice, mut failed) = in_force.policies.choose(&case, score);
        let unprepared = Prepared::default();
        let (declared, name) = self.declared(field);
        let prepared = self.prepared.get(name).unwrap_or(&unprepared);
        let (resolver, prepared) = choice.map_or((declared, prepared), |choice| (choice.resolver, choice.prepared));
        let Resolved { resolver, verdict, unable } = resolve(&case, resolver, prepared);
        failed.extend(unable);
        Settlement {
            field: field.to_owned(),
            resolver,
            verdict,
            policy: choice.map(|choice| format!("{}@{}/{}", choice.policy, choice.version, choice.rule)),
            failed,
            score,
            escalate: choice.and_then(|choice| choice.escalate),
        }
    }

    fn case<'c>(
        &self,
        document: &'c str,
        field: &'c str,
        view: &'c DocumentView,
        holds: &'c dyn Fn(&Json) -> Result<(), String>,
        in_force: InForce<'c>,
    ) -> Case<'c> {
        let siblings = view.siblings.get(field).map_or(&[][..], Vec::as_slice);
        let (fields, customs, asks) = (&view.fields, in_force.customs, Asked::default());
        let mut case = Case { document, field, siblings, fields, holds, customs, asks };
        let contested = view.siblings.len();
        let score = score(&case, contested, self.has_invariants());
        case.asks = Asked { standing: in_force.advisor, contested, score, spent: in_force.spent };
        case
    }

    /// What a resolver would make of a contested register, told what the policy's rule or the schema tells the one in
    /// force. Only this one is tried: who asks for it by name does not want another.
    pub fn try_on(
        &self,
        document: &str,
        register: &str,
        view: &DocumentView,
        resolver: Resolver,
        in_force: InForce<'_>,
    ) -> Verdict {
        if !view.siblings.contains_key(register) {
            return Verdict::Unable("it has no siblings".to_owned());
        }
        let holds = |value: &Json| self.keeps_invariants(document, view, register, value, in_force.spent);
        let case = self.case(document, register, view, &holds, in_force);
        let unprepared = Prepared::default();
        let (_, name) = self.declared(register);
        let declared = self.prepared.get(name).unwrap_or(&unprepared);
        let (choice, _) = in_force.policies.choose(&case, case.asks.score);
        let told = choice.iter().map(|choice| choice.prepared).chain([declared]);
        let fit = told.map(|prepared| (prepared, prepared.settings.suffice(resolver)));
        match fit.min_by_key(|(_, fit)| fit.is_err()) {
            Some((prepared, Ok(()))) => resolve_with(&case, resolver, prepared),
            Some((_, Err(cause))) => Verdict::Unable(format!("{cause}, and neither the schema nor a policy gives it")),
            None => resolve_with(&case, resolver, &unprepared),
        }
    }

    /// What a voter would have become of a contested register: what the fallbacks of the vote make of it, in turn, and the
    /// last writer's value where there are none. `None`: they leave it to somebody, or cannot.
    pub fn nominate(&self, document: &str, register: &str, view: &DocumentView, in_force: InForce<'_>) -> Option<Json> {
        if !view.siblings.contains_key(register) {
            return None;
        }
        let holds = |value: &Json| self.keeps_invariants(document, view, register, value, in_force.spent);
        let case = self.case(document, register, view, &holds, in_force);
        let unprepared = Prepared::default();
        let declared = self.prepared.get(self.declared(register).1).unwrap_or(&unprepared);
        let (choice, _) = in_force.policies.choose(&case, case.asks.score);
        let prepared = choice.map_or(declared, |choice| choice.prepared);
        let fallbacks = prepared.settings.fallback.iter().copied();
        match fallbacks.clone().next() {
            None => resolve_with(&case, Resolver::LastWriter, prepared).value().cloned(),
            Some(_) => fallbacks.filter_map(|resolver| resolve_with(&case, resolver, prepared).value().cloned()).next(),
        }
    }

    /// Whether any rule is about one document alone.
    pub fn has_rules_within(&self) -> bool {
        self.rules.iter().any(|ready| ready.rule.over.is_none() && ready.rule.check.is_some())
    }

    pub(super) fn has_invariants(&self) -> bool {
        self.rules.iter().any(|ready| ready.rule.class() == Class::Invariant)
    }

    /// Whether the invariants that look at a register hold with this value in it. What another field breaks is no reason to
    /// refuse the value.
    fn keeps_invariants(
        &self,
        document: &str,
        view: &DocumentView,
        register: &str,
        value: &Json,
        spent: Option<&Spent>,
    ) -> Result<(), String> {
        let own = self.rules.iter().filter(|ready| ready.rule.class() == Class::Invariant && ready.rule.over.is_none());
        let mut at_stake = own.filter(|ready| ready.looks_at(register)).peekable();
        if at_stake.peek().is_none() {
            return Ok(());
        }
        let fields = with(&view.fields, register, value);
        let own = Spent::default();
        let variables = of_document(document, &fields, spent.unwrap_or(&own));
        at_stake.find_map(|ready| ready.broken(&variables)).map_or(Ok(()), Err)
    }
}

/// Puts settled values in the place of those that the last writers left.
pub fn put_settled(view: &mut DocumentView, settlements: &[Settlement]) {
    for settlement in settlements {
        if let Some(value) = settlement.verdict.value() {
            put(&mut view.fields, &settlement.field, value.clone());
        }
    }
}

impl Ready {
    fn looks_at(&self, register: &str) -> bool {
        self.check.as_ref().is_some_and(|check| check.as_ref().map_or(true, |check| check.looks_at("doc", register)))
    }

    /// What is wrong with a document by this rule; a rule that fails is broken by its own error.
    pub fn broken(&self, variables: &Variables<'_>) -> Option<String> {
        let expression = match self.check.as_ref()? {
            Ok(expression) => expression,
            Err(cause) => return Some(cause.clone()),
        };
        match expression.holds(variables) {
            Ok(true) => None,
            Ok(false) => Some(format!("`{}` does not hold", expression.text())),
            Err(cause) => Some(cause),
        }
    }
}

/// What rules about one document see.
pub fn of_document<'a>(document: &'a str, fields: &'a Map<String, Json>, spent: &'a Spent) -> Variables<'a> {
    Variables::new(spent).with("doc", fields).with("id", id_of(document))
}

/// The id within `collection/id`.
pub fn id_of(document: &str) -> &str {
    document.split_once('/').map_or(document, |(_, id)| id)
}

fn with(fields: &Map<String, Json>, register: &str, value: &Json) -> Map<String, Json> {
    let mut fields = fields.clone();
    put(&mut fields, register, value.clone());
    fields
}

/// The field a register is, or the map and the key.
pub fn place(fields: &Map<String, Json>, register: &str) -> (String, Option<String>) {
    if fields.contains_key(register) {
        return (register.to_owned(), None);
    }
    let splits = register.match_indices('.').map(|(at, _)| (&register[..at], &register[at + 1..]));
    let found = splits.into_iter().find(|(field, _)| fields.get(*field).is_some_and(Json::is_object));
    found.map_or((register.to_owned(), None), |(field, key)| (field.to_owned(), Some(key.to_owned())))
}

/// Sets a field, or one key of a map.
fn put(fields: &mut Map<String, Json>, register: &str, value: Json) {
    if fields.contains_key(register) {
        fields.insert(register.to_owned(), value);
        return;
    }
    for (at, _) in register.match_indices('.') {
        if let Some(Json::Object(map)) = fields.get_mut(&register[..at]) {
            map.insert(register[at + 1..].to_owned(), value);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Sibling;
    use serde_json::json;

    /// A view in which `field` has these siblings, the newest first.
    pub fn contested(field: &str, base: Option<Json>, values: &[Json]) -> DocumentView {
        let sibling = |(n, value): (usize, &Json)| Sibling {
            value: value.clone(),
            dot: format!("r{n}:{n}"),
            replica: format!("r{n}"),
            at: 1_000 - n as u64,
            base: base.clone(),
        };
        let siblings = values.iter().enumerate().map(sibling).collect();
        DocumentView {
            fields: [(field.to_owned(), values[0].clone())].into_iter().collect(),
            siblings: [(field.to_owned(), siblings)].into(),
            ..DocumentView::default()
        }
    }

    fn in_force() -> InForce<'static> {
        static NONE: std::sync::LazyLock<(Policies, Customs)> = std::sync::LazyLock::new(Default::default);
        InForce { policies: &NONE.0, customs: &NONE.1, advisor: None, spent: None }
    }

    fn judge(schema: &str) -> Judge {
        Judge::of(&Arc::new(Schema::parse(schema).unwrap()))
    }

    #[track_caller]
    fn settled(resolver: &str, base: Option<Json>, values: &[Json]) -> Json {
        let mut view = contested("f", base, values);
        let told = judge(&format!("[fields.f]\ntype = \"contested\"\nresolver = {resolver}")).settle(
            "things/1",
            &mut view,
            in_force(),
        );
        assert!(told[0].verdict.value().is_some(), "{:?}", told[0].verdict);
        view.fields["f"].clone()
    }

    #[track_caller]
    fn verdict(resolver: &str, values: &[Json]) -> Verdict {
        let judge = judge(&format!("[fields.f]\ntype = \"contested\"\nresolver = {resolver}"));
        let mut view = contested("f", None, values);
        judge.settle("things/1", &mut view, in_force()).remove(0).verdict
    }

    #[test]
    fn the_plain_resolvers_choose_by_time_and_by_value() {
        let values = [json!(3), json!(9), json!(5)];
        assert_eq!(settled("\"last_writer\"", None, &values), json!(3));
        assert_eq!(settled("\"first_writer\"", None, &values), json!(5));
        assert_eq!(settled("\"max\"", None, &values), json!(9));
        assert_eq!(settled("\"min\"", None, &values), json!(3));
        assert_eq!(settled("\"keep_all\"", None, &values), json!([3, 9, 5]));
    }

    #[test]
    fn priority_takes_what_stands_first_in_its_order_whatever_the_time() {
        let order = "\"priority\"\norder = [\"running\", \"paused\", \"stopped\"]";
        assert_eq!(settled(order, None, &[json!("stopped"), json!("paused"), json!("running")]), json!("running"));
        assert_eq!(settled(order, None, &[json!("unknown"), json!("stopped")]), json!("stopped"));
        assert_eq!(settled(order, None, &[json!("newer"), json!("older")]), json!("newer"));
    }

    #[test]
    fn prioritize_goes_by_its_criteria_in_turn() {
        let by = "\"prioritize\"\nby = [\"confidence\", \"sources\", \"recency\"]";
        let fact = |says: &str, confidence: f64, sources: Json| json!({"says": says, "confidence": confidence, "sources": sources});
        let values = [fact("a", 0.5, json!(["x"])), fact("b", 0.9, json!(["x"])), fact("c", 0.9, json!(["x", "y"]))];
        assert_eq!(settled(by, None, &values)["says"], "c");
        let sources = "\"prioritize\"\nby = [\"sources\"]";
        assert_eq!(settled(sources, None, &[json!(1), json!(2), json!(2)]), json!(2), "two nodes say so");
        assert_eq!(settled("\"prioritize\"", None, &[json!(1), json!(2)]), json!(1), "recency, if nothing is said");
    }

    #[test]
    fn union_and_deep_merge_keep_what_either_side_has() {
        assert_eq!(settled("\"union\"", None, &[json!(["b", "a"]), json!(["c", "a"])]), json!(["a", "b", "c"]));
        assert_eq!(settled("\"union\"", None, &[json!(2), json!([1])]), json!([1, 2]));
        let (newer, older) = (json!({"a": 1, "in": {"x": 1}}), json!({"a": 2, "b": 3, "in": {"y": 2}}));
        assert_eq!(settled("\"deep_merge\"", None, &[newer, older]), json!({"a": 1, "b": 3, "in": {"x": 1, "y": 2}}));
    }

    #[test]
    fn three_way_keeps_both_changes_and_names_the_one_that_lost() {
        let base = json!({"image": "web:1", "replicas": 2, "ports": [{"name": "http", "port": 80}]});
        let (mut scaled, mut upgraded) = (base.clone(), base.clone());
        scaled["replicas"] = json!(5);
        scaled["image"] = json!("web:0");
        upgraded["image"] = json!("web:2");
        let rules = "\"three_way\"\nmerge = { strategies = { replicas = \"max\" } }";
        let judge = judge(&format!("[fields.f]\ntype = \"contested\"\nresolver = {rules}"));
        let mut view = contested("f", Some(base.clone()), &[upgraded, scaled]);
        let told = judge.settle("things/1", &mut view, in_force()).remove(0).verdict;
        let Verdict::Merged(_, lost) = told else { panic!("{told:?}") };
        assert_eq!(
            (view.fields["f"]["image"].clone(), view.fields["f"]["replicas"].clone()),
            (json!("web:2"), json!(5))
        );
        assert_eq!((lost[0].path.as_str(), &lost[0].lost), ("image", &Some(json!("web:0"))));
        assert!(
            matches!(verdict("\"three_way\"", &[json!(1), json!(2)]), Verdict::Unable(_)),
            "without a base it says so"
        );
        let wrong =
            Schema::parse("[fields.f]\ntype = \"contested\"\nresolver = \"three_way\"\nmerge = { lists = 3 }").unwrap();
        assert!(Judge::check(&wrong).unwrap_err().to_string().starts_with("field `f`: "));
    }

    #[test]
    fn a_resolver_tried_by_name_is_told_what_the_schema_says_and_refused_what_nobody_says() {
        let judge = judge(
            "[fields.f]\ntype = \"contested\"\nresolver = \"priority\"\norder = [3]\nfallback = [\"max\"]\n\
             [[rules]]\nname = \"small\"\nclass = \"invariant\"\ncheck = \"doc.f < 5\"",
        );
        let view = contested("f", None, &[json!(9), json!(3), json!(4)]);
        let tried = |resolver| judge.try_on("things/1", "f", &view, resolver, in_force());
        assert_eq!(tried(Resolver::Priority), Verdict::Settled(json!(3)));
        assert_eq!(tried(Resolver::Rollback), Verdict::Settled(json!(3)), "it knows the invariants");
        let Verdict::Unable(cause) = tried(Resolver::Expr) else { panic!("there is no expression") };
        assert!(cause.contains("needs `expr`"), "{cause}");
        assert!(matches!(tried(Resolver::ThreeWay), Verdict::Unable(_)), "no fallback is tried");
    }

    #[test]
    fn discard_goes_back_to_the_value_before_and_says_when_there_is_none() {
        assert_eq!(settled("\"discard\"", Some(json!("before")), &[json!("a"), json!("b")]), json!("before"));
        assert!(matches!(verdict("\"discard\"", &[json!(1), json!(2)]), Verdict::Unable(_)));
        let with_fallback = "\"discard\"\nfallback = [\"max\"]";
        assert_eq!(settled(with_fallback, None, &[json!(1), json!(2)]), json!(2));
    }

    #[test]
    fn text_keeps_both_edits() {
        let merged = settled("\"text\"", Some(json!("the fox")), &[json!("the quick fox"), json!("the fox jumps")]);
        assert_eq!(merged, json!("the quick fox jumps"));
    }

    #[test]
    fn rollback_takes_the_newest_value_that_keeps_the_invariants() {
        let rule = "\"rollback\"\n[[rules]]\nname = \"small\"\nclass = \"invariant\"\ncheck = \"doc.f < 10\"";
        assert_eq!(settled(rule, Some(json!(1)), &[json!(50), json!(7)]), json!(7));
        assert_eq!(settled(rule, Some(json!(1)), &[json!(50), json!(70)]), json!(1));
        assert!(
            matches!(verdict(rule, &[json!(50), json!(70)]), Verdict::Unable(cause) if cause.contains("doc.f < 10"))
        );
    }

    #[test]
    fn an_invariant_that_another_field_breaks_is_no_reason_to_refuse_a_merge() {
        let schema = |check: &str| {
            let field = "[fields.f]\ntype = \"contested\"\nresolver = \"deep_merge\"";
            format!("{field}\n[[rules]]\nname = \"r\"\nclass = \"invariant\"\ncheck = \"{check}\"")
        };
        let merged = |check: &str| {
            let mut view = contested("f", None, &[json!({"a": 1}), json!({"b": 2})]);
            view.fields.insert("other".to_owned(), json!(50));
            judge(&schema(check)).settle("things/1", &mut view, in_force()).remove(0).verdict
        };
        assert!(matches!(merged("doc.other < 10"), Verdict::Merged(..)));
        assert!(matches!(merged("!has(doc.f.a)"), Verdict::Unable(cause) if cause.contains("!has(doc.f.a)")));
    }

    #[test]
    fn what_a_resolver_lacked_is_told_also_when_its_fallback_settles() {
        let schema = "[fields.f]\ntype = \"contested\"\nresolver = \"three_way\"\nfallback = [\"max\"]";
        let mut view = contested("f", None, &[json!(1), json!(2)]);
        let told = judge(schema).settle("things/1", &mut view, in_force()).remove(0);
        assert_eq!((told.resolver, view.fields["f"].clone()), (Resolver::Max, json!(2)));
        assert!(told.failed[0].starts_with("three_way: "), "{:?}", told.failed);
    }

    #[test]
    fn an_expression_sees_the_siblings_and_the_document() {
        let sum = "\"expr\"\nexpr = \"siblings[0].value + siblings[1].value - base\"";
        assert_eq!(settled(sum, Some(json!(10)), &[json!(12), json!(15)]), json!(17));
        assert!(matches!(verdict("\"expr\"\nexpr = \"doc.none.deeper\"", &[json!(1), json!(2)]), Verdict::Unable(_)));
    }

    #[test]
    fn a_custom_resolver_is_the_embedders_function_and_a_node_without_it_says_so() {
        let judge = judge("[fields.f]\ntype = \"contested\"\nresolver = \"custom\"\ncustom = \"longest\"");
        let longest = |case: &Case<'_>| {
            let longest = case.values().max_by_key(|value| value.as_str().map_or(0, str::len));
            longest.cloned().ok_or_else(|| "no value".to_owned())
        };
        let mut customs = Customs::default();
        let mut view = contested("f", None, &[json!("ab"), json!("abc")]);
        let told = judge.settle("things/1", &mut view.clone(), InForce { customs: &customs, ..in_force() });
        assert!(matches!(&told[0].verdict, Verdict::Unable(cause) if cause.contains("`longest`")));
        customs.register("longest", Arc::new(longest));
        judge.settle("things/1", &mut view, InForce { customs: &customs, ..in_force() });
        assert_eq!(view.fields["f"], "abc");
    }

    #[test]
    fn what_waits_for_someone_shows_the_last_writer() {
        use super::super::case::For;
        assert_eq!(verdict("\"manual\"", &[json!(1), json!(2)]), Verdict::Waits(For::Person));
        assert_eq!(verdict("\"vote\"", &[json!(1), json!(2)]), Verdict::Waits(For::Voters));
        let mut view = contested("f", None, &[json!("last"), json!("first")]);
        judge("[fields.f]\ntype = \"contested\"\nresolver = \"manual\"").settle("t/1", &mut view, in_force());
        assert_eq!(view.fields["f"], "last");
    }

    #[test]
    fn a_key_of_a_map_follows_its_maps_resolver() {
        let mut view = contested("by.k", None, &[json!(1), json!(2)]);
        view.fields = [("by".to_owned(), json!({"k": 1, "other": 5}))].into_iter().collect();
        let judge = judge("[fields.by]\ntype = \"map\"\nresolver = \"max\"");
        judge.settle("things/1", &mut view, in_force());
        assert_eq!(view.fields["by"], json!({"k": 2, "other": 5}));
    }

    #[test]
    fn an_expression_that_does_not_parse_is_named_with_its_place() {
        let schema = Schema::parse("[[rules]]\nname = \"r\"\ncheck = \"doc. <\"").unwrap();
        assert!(Judge::check(&schema).unwrap_err().to_string().starts_with("rule `r`: line 1"));
        let schema = Schema::parse("[fields.f]\ntype = \"contested\"\nresolver = \"expr\"\nexpr = \"(\"").unwrap();
        assert!(Judge::check(&schema).unwrap_err().to_string().starts_with("field `f`: "));
    }
}
