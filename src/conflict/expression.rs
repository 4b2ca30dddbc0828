//! CEL expressions (the Common Expression Language, github.com/google/cel-spec): conditions of rules and policies, and
//! values that settle siblings.
//!
//! An expression sees JSON only and loops only over what it is given or writes down, at most two loops deep, so it ends and
//! soon. The order in which it walks the members of an object is not defined: a result that depends on it would differ
//! between nodes.

use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use cel::common::ast::{ComprehensionExpr, EntryExpr, Expr};
use cel::{Context, Env, IdedExpr, Program, Value};
use serde_json::Value as Json;
use smallvec::{SmallVec, smallvec};

use super::variables::Variables;

/// The functions of the language. To build their table takes far longer than to evaluate an expression.
static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// An expression that parsed.
pub struct Expression {
    text: String,
    program: Program,
    /// The variables it names.
    sees: BTreeSet<String>,
    weight: Weight,
}

/// What it may cost, beside the size of what it is asked about.
#[derive(Clone, Copy)]
struct Weight {
    loops: u32,
    /// Some loop makes a list (`map`, `filter`), which holds on to what each round gives.
    collects: bool,
    /// Sums: each may be of two texts, or of two lists.
    sums: u64,
}

/// Bytes that an expression may hold at once.
const BYTES_MAX: u64 = 64 << 20;

/// An expression that does not parse. Lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column} of the expression `{text}`: {cause}")]
pub struct ExpressionError {
    pub text: String,
    pub line: usize,
    pub column: usize,
    pub cause: String,
}

impl Expression {
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        let error = |line: usize, column: usize, cause: String| ExpressionError {
            text: shortened(text),
            line: line.max(1),
            column: column.max(1),
            cause,
        };
        if let Some(cause) = too_deep(text) {
            return Err(error(1, 1, cause));
        }
        // The parser is not ours: what it does to a text that it cannot take must stay a finding about that text.
        match catch_unwind(|| Program::compile(text)) {
            Ok(Ok(program)) if loops(program.expression()) > LOOPS_MAX => {
                Err(error(1, 1, format!("its loops (`all`, `exists`, `map`, `filter`) nest deeper than {LOOPS_MAX}")))
            }
            Ok(Ok(program)) => {
                let sees = program.references().variables().into_iter().map(str::to_owned).collect();
                let expression = program.expression();
                let sums = text.bytes().filter(|byte| *byte == b'+').count() as u64;
                let weight = Weight { loops: loops(expression) as u32, collects: collects(expression), sums };
                Ok(Self { text: text.to_owned(), program, sees, weight })
            }
            Ok(Err(errors)) => {
                let Some(first) = errors.errors.first() else { return Err(error(1, 1, "does not parse".into())) };
                let place = |at: isize| usize::try_from(at).unwrap_or(1);
                Err(error(place(first.pos.0), place(first.pos.1), first.msg.clone()))
            }
            Err(_) => Err(error(1, 1, "the parser cannot take it".into())),
        }
    }

    /// The same, of an expression that will see `known` and nothing else: a misspelt name would fail whenever it is asked.
    pub fn parse_over(text: &str, known: &[&str]) -> Result<Self, ExpressionError> {
        let expression = Self::parse(text)?;
        match unknown(expression.program.expression(), &mut known.to_vec()) {
            None => Ok(expression),
            Some(name) => {
                let cause = format!("there is no `{name}` here: it sees {}", known.join(", "));
                Err(ExpressionError { text: shortened(text), line: 1, column: 1, cause })
            }
        }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether its value may hang on a member of an object: one that it names, or `name.key` within it. Naming the object
    /// as a whole may look at any.
    pub fn looks_at(&self, object: &str, member: &str) -> bool {
        let is_it = |name: &str| member == name || member.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
        self.sees.contains(object) && looks_at(self.program.expression(), object, &is_it)
    }

    /// The value under these variables.
    pub fn evaluate(&self, variables: &Variables<'_>) -> Result<Json, String> {
        self.afford(variables)?;
        let mut context = Context::with_env(ENVIRONMENT.clone());
        context.set_variable_resolver(variables);
        let done = catch_unwind(AssertUnwindSafe(|| self.program.execute(&context)));
        match done {
            Ok(Ok(value)) => to_json(&value).ok_or_else(|| format!("`{}` gives no JSON", shortened(&self.text))),
            Ok(Err(error)) => Err(format!("`{}`: {error}", shortened(&self.text))),
            Err(_) => Err(format!("`{}` cannot be evaluated", shortened(&self.text))),
        }
    }

    /// Takes the steps that it may need at most. Nothing can stop an evaluation that has begun, and documents come from
    /// anywhere, so what may cost too much is not begun.
    fn afford(&self, variables: &Variables<'_>) -> Result<(), String> {
        let Weight { loops, collects, sums } = self.weight;
        let size = variables.size(self.sees.iter().map(String::as_str));
        let text = self.text.len() as u64;
        // A loop may also go through a list that the text itself spells out.
        let width = size.width.saturating_mul(1 + sums).max(text / 2);
        let rounds = width.saturating_pow(loops);
        let steps = rounds.saturating_mul(1 + text / 32 + (size.bytes >> 14));
        let kept = if collects { rounds } else { 1 };
        let bytes = size.bytes.saturating_mul(1 + sums).saturating_mul(kept);
        if bytes > BYTES_MAX {
            let says = "may make values of more than 64 MiB here: shorten the lists or the texts that it goes through";
            return Err(format!("`{}` {says}", shortened(&self.text)));
        }
        variables.spent.take(steps).map_err(|left| {
            format!(
                "`{}` may take {steps} steps here, and {left} are left: shorten the lists that it goes through",
                shortened(&self.text)
            )
        })
    }

    /// Whether it holds; an error where it gives no boolean.
    pub fn holds(&self, variables: &Variables<'_>) -> Result<bool, String> {
        match self.evaluate(variables)? {
            Json::Bool(holds) => Ok(holds),
            other => Err(format!("`{}` gives {other}, and neither true nor false", shortened(&self.text))),
        }
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.text).finish()
    }
}

/// Deepest nesting of brackets, and most conditions `a ? b : c`: the parser and the evaluator call themselves for each.
const NESTED_MAX: usize = 32;

fn too_deep(text: &str) -> Option<String> {
    let (mut depth, mut deepest) = (0usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    let conditions = text.bytes().filter(|byte| *byte == b'?').count();
    let too_deep = deepest > NESTED_MAX || conditions > NESTED_MAX;
    too_deep.then(|| format!("it nests deeper than {NESTED_MAX}: split the rule"))
}

/// Deepest nesting of loops; one over what another gives counts as nested. Two over lists of a document take the product of
/// their lengths, and each further one could take that again.
const LOOPS_MAX: usize = 2;

fn loops(expression: &IdedExpr) -> usize {
    let deepest = parts(expression).into_iter().map(loops).max().unwrap_or(0);
    deepest + usize::from(matches!(expression.expr, Expr::Comprehension(_)))
}

/// Whether any loop makes a list.
fn collects(expression: &IdedExpr) -> bool {
    let makes_list = |made: &ComprehensionExpr| matches!(made.accu_init.expr, Expr::List(_));
    matches!(&expression.expr, Expr::Comprehension(made) if makes_list(made))
        || parts(expression).into_iter().any(collects)
}

/// What an expression is made of, one level down.
fn parts(expression: &IdedExpr) -> SmallVec<[&IdedExpr; 8]> {
    let mut parts: SmallVec<[&IdedExpr; 8]> = SmallVec::new();
    match &expression.expr {
        Expr::Select(select) => parts.push(&select.operand),
        Expr::Call(call) => parts.extend(call.target.iter().map(AsRef::as_ref).chain(&call.args)),
        Expr::List(list) => parts.extend(&list.elements),
        Expr::Map(made) => made.entries.iter().for_each(|entry| parts.extend(parts_of(&entry.expr))),
        Expr::Struct(made) => made.entries.iter().for_each(|entry| parts.extend(parts_of(&entry.expr))),
        Expr::Comprehension(made) => {
            parts.extend([&made.iter_range, &made.accu_init, &made.loop_cond, &made.loop_step, &made.result]);
        }
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => {}
    }
    parts
}

fn looks_at(expression: &IdedExpr, object: &str, member: &dyn Fn(&str) -> bool) -> bool {
    let of_object = |expression: &IdedExpr| matches!(&expression.expr, Expr::Ident(name) if name == object);
    match &expression.expr {
        Expr::Ident(name) => name == object,
        Expr::Select(select) if of_object(&select.operand) => member(&select.field),
        _ => parts(expression).into_iter().any(|part| looks_at(part, object, member)),
    }
}

fn parts_of(entry: &EntryExpr) -> SmallVec<[&IdedExpr; 2]> {
    match entry {
        EntryExpr::StructField(field) => smallvec![&field.value],
        EntryExpr::MapEntry(entry) => smallvec![&entry.key, &entry.value],
    }
}

/// The first name that stands for nothing. Macros such as `exists` bring names of their own.
fn unknown<'e>(expression: &'e IdedExpr, known: &mut Vec<&'e str>) -> Option<&'e str> {
    match &expression.expr {
        Expr::Ident(name) => (!known.contains(&name.as_str())).then_some(name),
        Expr::Call(call) => {
            call.target.iter().map(AsRef::as_ref).chain(&call.args).find_map(|part| unknown(part, known))
        }
        Expr::Select(select) => unknown(&select.operand, known),
        Expr::List(list) => list.elements.iter().find_map(|element| unknown(element, known)),
        Expr::Map(made) => made.entries.iter().flat_map(|e| parts_of(&e.expr)).find_map(|part| unknown(part, known)),
        Expr::Struct(made) => made.entries.iter().flat_map(|e| parts_of(&e.expr)).find_map(|part| unknown(part, known)),
        Expr::Comprehension(made) => {
            let outside = [&made.iter_range, &made.accu_init].into_iter().find_map(|part| unknown(part, known));
            let before = known.len();
            known.extend([made.iter_var.as_str(), made.accu_var.as_str()]);
            known.extend(made.iter_var2.as_deref());
            let inside = [&made.loop_cond, &made.loop_step, &made.result];
            let inside = inside.into_iter().find_map(|part| unknown(part, known));
            known.truncate(before);
            outside.or(inside)
        }
        Expr::Literal(_) | Expr::Unspecified => None,
    }
}

fn shortened(text: &str) -> String {
    const SHOWN_MAX: usize = 80;
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn to_json(value: &Value) -> Option<Json> {
    Some(match value {
        Value::Null => Json::Null,
        Value::Bool(on) => Json::Bool(*on),
        Value::Int(int) => Json::from(*int),
        Value::UInt(int) => Json::from(*int),
        Value::Float(float) => Json::Number(serde_json::Number::from_f64(*float)?),
        Value::String(text) => Json::String(text.to_string()),
        Value::List(items) => Json::Array(items.iter().map(to_json).collect::<Option<_>>()?),
        Value::Map(members) => {
            // Hashed: walked in the order of its keys, so that every node makes the same of it.
            let hashed = &members.map;
            let mut members: Vec<_> = hashed.iter().collect();
            members.sort_by(|a, b| a.0.cmp(b.0));
            let mut object = serde_json::Map::new();
            for (key, value) in members {
                // The keys `1` and `'1'` would be one.
                if object.insert(key.to_string(), to_json(value)?).is_some() {
                    return None;
                }
            }
            Json::Object(object)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conflict::variables::{STEPS_MAX, Spent};
    use crate::document::settings::EXPRESSION_BYTES_MAX;
    use proptest::prelude::*;
    use serde_json::json;

    fn evaluate(text: &str, doc: &Json) -> Result<Json, String> {
        Expression::parse(text).unwrap().evaluate(&Variables::new(&Spent::default()).with("doc", doc))
    }

    #[test]
    fn a_misspelt_name_is_found_when_it_is_written_and_names_of_macros_are_no_such() {
        let sees = &["doc", "siblings"];
        for text in [
            "siblings.exists(s, s.value == doc.x)",
            "siblings.map(s, {'v': s.value})[0]",
            "has(doc.x) && size(siblings) > 1",
        ] {
            assert!(Expression::parse_over(text, sees).is_ok(), "{text}");
        }
        for text in [
            "dco.x == 1",
            "siblings.exists(s, s.value == t)",
            "siblings.map(s, s.at)[s]",
            "{'a': [dox]}",
            "size(sibling) > 1",
        ] {
            let error = Expression::parse_over(text, sees).unwrap_err();
            assert!(error.cause.contains("it sees doc, siblings"), "{text}: {error}");
        }
    }

    #[test]
    fn json_goes_in_and_comes_out() {
        let doc = json!({"state": "running", "cpu": 4, "load": 0.5, "disks": [{"id": "a"}, {"id": "b"}], "none": null});
        assert_eq!(evaluate("doc.cpu == 4 && doc.load < 1.0 && doc.state != 'stopped'", &doc), Ok(json!(true)));
        assert_eq!(evaluate("doc.disks.map(d, d.id)", &doc), Ok(json!(["a", "b"])));
        assert_eq!(evaluate("{'cpu': doc.cpu * 2}", &doc), Ok(json!({"cpu": 8})));
        assert!(evaluate("{1: 'a', '1': 'b'}", &doc).is_err(), "one key in JSON: which value it had would be chance");
        assert_eq!(evaluate("has(doc.missing) ? doc.missing : 'none'", &doc), Ok(json!("none")));
        assert_eq!(evaluate("size(doc.disks) > 1 || doc.none == null", &doc), Ok(json!(true)));
    }

    #[test]
    fn what_an_expression_looks_at_is_known_before_it_is_asked() {
        let sees = |text: &str, member: &str| Expression::parse(text).unwrap().looks_at("doc", member);
        assert!(sees("doc.cpu + 1 < doc.memory", "memory"));
        assert!(!sees("doc.cpu + 1 < doc.memory", "disk"));
        assert!(sees("doc.tags.team == 'a'", "tags.team") && !sees("doc.tags.team == 'a'", "tag.team"));
        assert!(sees("[1].all(x, x < size(doc.disks))", "disks") && sees("{'a': doc.disks}.a", "disks"));
        assert!(sees("has(doc.host)", "host") && !sees("id == 'a'", "host"));
        assert!(sees("doc['cpu'] == 1", "disk"), "what names the object may look at any of its members");
    }

    #[test]
    fn what_may_take_too_long_or_too_much_is_not_begun() {
        let list = |n: usize| json!({"l": (0..n).collect::<Vec<_>>(), "s": "x".repeat(900_000)});
        let pairs = "doc.l.all(a, doc.l.exists_one(b, b == a))";
        let doc = json!({"l": (0..100).collect::<Vec<_>>()});
        assert_eq!(evaluate(pairs, &doc), Ok(json!(true)));
        let error = evaluate(pairs, &json!({"l": (0..2_000).collect::<Vec<_>>()})).unwrap_err();
        assert!(error.contains("steps here"), "{error}");
        for costly in ["size(doc.l.map(a, doc.s + doc.s)) > 0", "size(doc.l.map(a, doc.s)) > 0"] {
            let error = evaluate(costly, &list(1_500)).unwrap_err();
            assert!(error.contains("64 MiB"), "{error}");
        }
        assert!(evaluate("size(doc.l) > 3 && size(doc.s) > 3", &list(1_500)).is_ok());
        // All that is asked about one document shares what there is.
        let (spent, expression) = (Spent::default(), Expression::parse(pairs).unwrap());
        let variables = Variables::new(&spent).with("doc", &doc);
        let asked = (0..100).take_while(|_| expression.evaluate(&variables).is_ok()).count();
        assert!((2..99).contains(&asked) && spent.steps() <= STEPS_MAX, "{asked}");
    }

    #[test]
    fn loops_over_loops_are_refused_before_they_run() {
        let nested = |levels: usize| {
            (0..levels).fold("true".to_owned(), |inner, level| format!("[1, 2].all(v{level}, {inner})"))
        };
        assert_eq!(
            Expression::parse(&nested(2)).unwrap().evaluate(&Variables::new(&Spent::default())),
            Ok(json!(true))
        );
        assert!(Expression::parse(&nested(3)).unwrap_err().cause.contains("nest deeper"));
        let doubled = format!("['a']{}", ".map(x, x + x)".repeat(26));
        assert!(Expression::parse(&doubled).unwrap_err().cause.contains("nest deeper"));
    }

    #[test]
    fn what_does_not_parse_is_told_with_its_place_and_what_fails_with_its_cause() {
        let error = Expression::parse("doc.cpu ==\n== 4").unwrap_err();
        assert_eq!(error.line, 2, "{error}");
        assert!(evaluate("doc.missing.deeper == 1", &json!({})).unwrap_err().contains("doc.missing.deeper"));
        assert!(evaluate("1 / 0", &json!({})).is_err());
        assert!(evaluate("9223372036854775807 + 1", &json!({})).is_err());
        assert!(
            Expression::parse("doc.cpu")
                .unwrap()
                .holds(&Variables::new(&Spent::default()).with("doc", &json!({"cpu": 4})))
                .unwrap_err()
                .contains("4")
        );
    }

    /// Tests run on stacks of 2 MiB, as the node's own threads do.
    #[test]
    fn an_expression_as_long_and_deep_as_allowed_is_evaluated_on_a_small_stack() {
        let doc = json!({"a": {}});
        for (start, link) in [("1", " + 1"), ("!true", " || true"), ("doc.a", ".a"), ("-1", " - 1")] {
            let text = format!("{start}{}", link.repeat((EXPRESSION_BYTES_MAX - start.len()) / link.len()));
            if let Ok(expression) = Expression::parse(&text) {
                let _ = expression.evaluate(&Variables::new(&Spent::default()).with("doc", &doc));
            }
        }
        let deep = format!("{}1{}", "(".repeat(NESTED_MAX), ")".repeat(NESTED_MAX));
        assert_eq!(Expression::parse(&deep).unwrap().evaluate(&Variables::new(&Spent::default())), Ok(json!(1)));
        assert!(Expression::parse(&format!("({deep})")).unwrap_err().cause.contains("nests deeper"));
        let nots = format!("{}true", "!".repeat(EXPRESSION_BYTES_MAX - 4));
        let _ = Expression::parse(&nots).map(|expression| expression.evaluate(&Variables::new(&Spent::default())));
    }

    proptest! {
        #[test]
        fn no_text_and_no_value_make_it_panic(text in "[a-z0-9 .()\\[\\]{}+*/<>=!&|?:,'\"-]{0,40}", n in any::<i64>()) {
            if let Ok(expression) = Expression::parse(&text) {
                let _ = expression.evaluate(&Variables::new(&Spent::default()).with("a", &json!(n)).with("b", &json!({"c": [n, "x"]})));
            }
        }
    }
}
