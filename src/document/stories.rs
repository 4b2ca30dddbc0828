//! Writes planned at several replicas, exchanged, and read: what the field types mean to someone who uses them.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::cell::{EntryRef, apply_op};
use super::*;
use crate::clock::{Clock, Dot, HybridTime, Incarnation, NodeId, ReplicaId, Roster, Slot};

const SCHEMA: &str = r#"
[fields.restarts]
type = "pncounter"
[fields.served]
type = "gcounter"
[fields.seen]
type = "gset"
[fields.labels]
type = "orset"
[fields.draining]
type = "flag"
[fields.frozen]
type = "flag"
disable_wins = true
[fields.peak]
type = "max"
[fields.lowest]
type = "min"
[fields.phase]
type = "lww"
[fields.creator]
type = "fww"
[fields.notes]
type = "text"
[fields.config]
type = "json"
[fields.views]
type = "mv"
[fields.owner]
type = "contested"
resolver = "keep_all"
[fields.usage]
type = "map"
inner = "pncounter"
[fields.heartbeat]
type = "lww"
ttl_ms = 15000
"#;

/// A dot as all replicas name it.
type GlobalDot = (usize, u64);

struct Op {
    dot: GlobalDot,
    at: HybridTime,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    supersedes: Vec<GlobalDot>,
}

/// Replicas of one document. Each numbers the others in an order of its own.
struct World {
    schema: Schema,
    replicas: Vec<Replica>,
    log: Vec<Op>,
    now_ms: u64,
}

struct Replica {
    roster: Roster,
    document: Document,
    has: Vec<bool>,
    /// Ops written here.
    seq: u64,
}

fn replica_id(n: usize) -> ReplicaId {
    ReplicaId { node: NodeId([n as u8 + 1; 32]), incarnation: Incarnation([7; 16]) }
}

impl World {
    fn new(replicas: usize) -> Self {
        Self::with_schema(replicas, SCHEMA)
    }

    fn with_schema(replicas: usize, schema: &str) -> Self {
        let replica = |n: usize| {
            let mut roster = Roster::default();
            for other in 0..replicas {
                roster.intern(replica_id((n + other) % replicas)).unwrap();
            }
            Replica { roster, document: Document::default(), has: Vec::new(), seq: 0 }
        };
        let replicas = (0..replicas).map(replica).collect();
        Self { schema: Schema::parse(schema).unwrap(), replicas, log: Vec::new(), now_ms: 1_000_000 }
    }

    /// Plans and applies a write; the number of ops it took.
    fn write(&mut self, at: usize, write: Write) -> Result<usize, PlanError> {
        let replica = &self.replicas[at];
        let me = replica.roster.slot(&replica_id(at)).unwrap();
        let planner = Planner { schema: &self.schema, roster: &replica.roster, me, settled: &Clock::new() };
        let mut ops = Vec::new();
        plan(Some(&replica.document), planner, &write, &mut ops)?;
        self.now_ms += 1;
        let keys: std::collections::BTreeSet<_> = ops.iter().map(|op| op.key.clone()).collect();
        assert_eq!(keys.len(), ops.len(), "a plan names a cell twice");
        let count = ops.len();
        for op in ops {
            let replica = &mut self.replicas[at];
            replica.seq += 1;
            let global = |dot: &Dot| (index(replica.roster.id(dot.slot())), dot.seq());
            let supersedes = op.supersedes.iter().map(global).collect();
            let (dot, at_time) = ((at, replica.seq), HybridTime::from_ms(self.now_ms));
            self.log.push(Op { dot, at: at_time, key: op.key, value: op.value, supersedes });
            self.deliver(at, self.log.len() - 1);
        }
        Ok(count)
    }

    fn deliver(&mut self, to: usize, op: usize) {
        let replica = &mut self.replicas[to];
        replica.has.resize(self.log.len(), false);
        if std::mem::replace(&mut replica.has[op], true) {
            return;
        }
        let op = &self.log[op];
        let local = |(n, seq): GlobalDot| Dot::new(replica.roster.slot(&replica_id(n)).unwrap(), seq);
        let supersedes: Vec<_> = op.supersedes.iter().map(|dot| local(*dot)).collect();
        let known = |dot: &GlobalDot| self.log.iter().position(|op| op.dot == *dot).is_some_and(|at| replica.has[at]);
        assert!(op.supersedes.iter().all(known), "a plan superseded what its writer had not seen");
        let mut packed = Vec::new();
        let entry = EntryRef { dot: local(op.dot), at: op.at, value: op.value.as_deref() };
        apply_op(replica.document.entries_of(&op.key), &supersedes, entry, &mut packed);
        replica.document.put(&op.key, &packed);
    }

    /// Everything everywhere; then all must read the same.
    fn sync(&mut self) {
        for to in 0..self.replicas.len() {
            (0..self.log.len()).for_each(|op| self.deliver(to, op));
        }
        let views: Vec<_> = (0..self.replicas.len()).map(|n| self.view(n)).collect();
        assert!(views.iter().all(|view| *view == views[0]), "{views:#?}");
        let etags: Vec<_> = self.replicas.iter().map(|r| etag(&r.document, &r.roster)).collect();
        assert!(etags.iter().all(|tag| *tag == etags[0]));
    }

    fn put(&mut self, at: usize, fields: Json) -> Result<usize, PlanError> {
        self.write(at, Write::Put(object(fields)))
    }

    fn edit(&mut self, at: usize, edit: Edit) -> Result<usize, PlanError> {
        self.write(at, Write::Edits(vec![edit]))
    }

    fn view(&self, at: usize) -> Option<DocumentView> {
        let replica = &self.replicas[at];
        DocumentView::of(&replica.document, &self.schema, &replica.roster)
    }

    fn fields(&self, at: usize) -> Json {
        Json::Object(self.view(at).expect("the document is hidden").fields)
    }

    fn siblings(&self, at: usize, field: &str) -> Vec<Json> {
        let view = self.view(at).unwrap();
        view.siblings.get(field).into_iter().flatten().map(|sibling| sibling.value.clone()).collect()
    }
}

fn index(id: &ReplicaId) -> usize {
    id.node.0[0] as usize - 1
}

fn object(json: Json) -> Map<String, Json> {
    let Json::Object(map) = json else { panic!("{json} is no object") };
    map
}

fn set(field: &str, value: Json) -> Edit {
    Edit::Set { field: field.into(), value }
}
fn unset(field: &str) -> Edit {
    Edit::Unset { field: field.into() }
}
fn incr(field: &str, by: i64) -> Edit {
    Edit::Incr { field: field.into(), by }
}
fn add(field: &str, value: Json) -> Edit {
    Edit::Add { field: field.into(), value }
}
fn remove(field: &str, value: Json) -> Edit {
    Edit::Remove { field: field.into(), value }
}
fn set_key(field: &str, key: &str, value: Json) -> Edit {
    Edit::SetKey { field: field.into(), key: key.into(), value }
}

#[test]
fn every_type_reads_as_it_was_put_and_putting_that_again_writes_nothing() {
    let mut world = World::new(2);
    let fields = json!({
        "restarts": -3, "served": 7, "seen": ["a", "b"], "labels": [1, "gpu"], "draining": true, "frozen": false,
        "peak": 3.5, "lowest": "a", "phase": {"any": ["json"]}, "creator": "ann", "notes": "a note",
        "config": {"deep": {"er": [1, {"x": null}]}}, "views": 1, "owner": null, "usage": {"cpu": 4, "gpu": 0},
        "heartbeat": 5, "undeclared": "x", "list": [3, 1], "mixed": [[1], 2], "tree": {"a": {"b": 1}, "c": "d"},
        "big": u64::MAX, "half": 0.5, "zero": 0,
    });
    world.put(0, fields.clone()).unwrap();
    let mut expected = fields;
    expected["list"] = json!([1, 3]);
    assert_eq!(world.fields(0), expected);
    assert_eq!(world.put(0, expected.clone()), Ok(0));
    assert_eq!(world.write(0, Write::Replace(object(expected.clone()))), Ok(0));
    world.sync();
    assert_eq!(world.put(1, expected), Ok(0));
    let inferred = world.view(1).unwrap().inferred;
    assert_eq!(inferred, ["big", "half", "list", "mixed", "tree", "undeclared", "zero"]);
}

#[test]
fn a_put_removes_what_is_absent_and_touches_only_what_differs() {
    let mut world = World::new(1);
    world.put(0, json!({"a": 1, "b": 2, "restarts": 5, "labels": ["x", "y"]})).unwrap();
    // Existence, `a` gone, `b` written, one element added and one removed, a share.
    let ops = world.put(0, json!({"b": 3, "restarts": 9, "labels": ["y", "z"]}));
    assert_eq!(ops, Ok(6));
    assert_eq!(world.fields(0), json!({"b": 3, "restarts": 9, "labels": ["y", "z"]}));
}

#[test]
fn increments_on_both_sides_add_up() {
    let mut world = World::new(3);
    world.put(0, json!({"restarts": 10})).unwrap();
    world.sync();
    world.edit(0, incr("restarts", 5)).unwrap();
    world.edit(1, incr("restarts", -2)).unwrap();
    world.edit(1, incr("restarts", -2)).unwrap();
    world.put(2, json!({"restarts": 11})).unwrap();
    world.sync();
    assert_eq!(world.fields(0), json!({"restarts": 12}));
}

#[test]
fn a_counter_that_was_a_plain_number_counts_on_from_it_on_both_sides() {
    let mut world = World::with_schema(2, "");
    world.put(0, json!({"n": 5})).unwrap();
    world.sync();
    world.edit(0, incr("n", 1)).unwrap();
    world.edit(1, incr("n", 2)).unwrap();
    world.sync();
    assert_eq!(world.fields(0), json!({"n": 8}));
    assert_eq!(world.put(0, json!({"n": 8})), Ok(0));
    world.put(0, json!({"n": 3})).unwrap();
    assert_eq!(world.fields(0), json!({"n": 3}));
    // A set that saw no counter lays a new base, however new it is.
    world.sync();
    world.put(0, json!({"m": 5})).unwrap();
    world.sync();
    world.edit(0, incr("m", 1)).unwrap();
    world.edit(1, set("m", json!(10))).unwrap();
    world.sync();
    assert_eq!(world.fields(0), json!({"m": 11}));
    world.put(0, json!({"n": 3})).unwrap();
    world.edit(0, set("n", json!("none"))).unwrap();
    assert_eq!(world.fields(0), json!({"n": "none"}));
    let error = world.edit(0, incr("n", 1)).unwrap_err();
    assert!(matches!(error, PlanError::Edit { edit: "incr", .. }), "{error}");
    world.edit(0, unset("n")).unwrap();
    world.edit(0, incr("n", 1)).unwrap();
    assert_eq!(world.fields(0), json!({"n": 1}));
}

#[test]
fn an_add_wins_over_a_concurrent_remove() {
    let mut world = World::new(2);
    world.put(0, json!({"labels": ["gpu", "old"]})).unwrap();
    world.sync();
    world.edit(0, remove("labels", json!("gpu"))).unwrap();
    world.edit(0, remove("labels", json!("old"))).unwrap();
    world.edit(1, add("labels", json!("gpu"))).unwrap();
    assert_eq!(world.fields(0), json!({}));
    world.sync();
    assert_eq!(world.fields(0), json!({"labels": ["gpu"]}));
    assert_eq!(world.edit(0, remove("labels", json!("never there"))), Ok(0));
    for _ in 0..3 {
        world.edit(0, add("labels", json!("gpu"))).unwrap();
    }
    let entries = |cell: CellRef<'_>| cell.entries().count();
    assert_eq!(world.replicas[0].document.cells_of("labels").map(entries).max(), Some(1), "entries pile up");
}

#[test]
fn flags_let_the_declared_side_win() {
    let mut world = World::new(2);
    world.put(0, json!({"draining": true, "frozen": true})).unwrap();
    world.sync();
    for field in ["draining", "frozen"] {
        world.edit(0, set(field, json!(false))).unwrap();
        world.edit(1, set(field, json!(true))).unwrap();
    }
    world.sync();
    assert_eq!(world.fields(0), json!({"draining": true, "frozen": false}));
}

#[test]
fn concurrent_values_of_a_contested_field_stay_until_a_write_settles_them() {
    let mut world = World::with_schema(2, "");
    world.put(0, json!({"power": "on"})).unwrap();
    world.sync();
    world.edit(0, set("power", json!("stopped"))).unwrap();
    world.edit(1, set("power", json!("migrating"))).unwrap();
    world.sync();
    assert_eq!(world.fields(0), json!({"power": "migrating"}));
    assert_eq!(world.siblings(0, "power"), [json!("migrating"), json!("stopped")]);
    let sibling = &world.view(0).unwrap().siblings["power"][0];
    assert_eq!(sibling.dot, format!("{}:1", replica_id(1)));
    assert_eq!(sibling.replica, replica_id(1).to_string());
    // A patch that leaves the field alone leaves the conflict alone; a set, also of the shown value, settles it.
    assert_eq!(world.write(0, Write::Replace(object(json!({"power": "migrating"})))), Ok(0));
    assert_eq!(world.edit(0, set("power", json!("migrating"))), Ok(1));
    world.sync();
    assert!(world.siblings(1, "power").is_empty());
    assert_eq!(world.edit(1, set("power", json!("migrating"))), Ok(0));
}

#[test]
fn keep_all_and_mv_show_every_value() {
    let mut world = World::new(2);
    world.put(0, json!({"owner": "a", "views": 1})).unwrap();
    world.sync();
    world.put(0, json!({"owner": "b", "views": 2})).unwrap();
    world.put(1, json!({"owner": "c", "views": 3})).unwrap();
    world.sync();
    assert_eq!(world.fields(0), json!({"owner": ["c", "b"], "views": [3, 2]}));
    assert_eq!(world.siblings(0, "owner").len(), 2);
    assert!(world.siblings(0, "views").is_empty(), "the values of an mv register are no conflict");
}

#[test]
fn extremes_move_one_way_and_a_first_writer_is_not_overwritten() {
    let mut world = World::new(2);
    world.put(0, json!({"peak": 5, "lowest": 5, "creator": "ann"})).unwrap();
    assert_eq!(world.edit(0, set("peak", json!(4.9))), Ok(0));
    assert_eq!(world.edit(0, set("lowest", json!(5))), Ok(0));
    let refused = world.edit(0, set("creator", json!("bob"))).unwrap_err();
    assert_eq!(refused, PlanError::AlreadyWritten { field: "creator".into() });
    world.sync();
    world.edit(0, set("peak", json!(7))).unwrap();
    world.edit(1, set("peak", json!(6.5))).unwrap();
    world.sync();
    assert_eq!(world.fields(1), json!({"peak": 7, "lowest": 5, "creator": "ann"}));
}

#[test]
fn a_grow_only_set_refuses_to_shrink_however_it_is_asked() {
    let mut world = World::new(1);
    world.put(0, json!({"seen": [1]})).unwrap();
    let refused = Err(PlanError::GrowOnly { field: "seen".into() });
    assert_eq!(world.edit(0, remove("seen", json!(1))), refused);
    assert_eq!(world.edit(0, unset("seen")), refused);
    assert_eq!(world.put(0, json!({"seen": [2]})), refused);
    assert_eq!(world.put(0, json!({})), refused);
    assert_eq!(world.edit(0, add("seen", json!(1))), Ok(0));
    world.edit(0, add("seen", json!(2))).unwrap();
    assert_eq!(world.fields(0), json!({"seen": [1, 2]}));
}

#[test]
fn a_map_merges_key_by_key() {
    let mut world = World::new(2);
    world.put(0, json!({"usage": {"cpu": 1}, "tags": {"a": 1, "b": 2}})).unwrap();
    world.sync();
    world.edit(0, Edit::IncrKey { field: "usage".into(), key: "cpu".into(), by: 2 }).unwrap();
    world.edit(1, Edit::IncrKey { field: "usage".into(), key: "cpu".into(), by: 3 }).unwrap();
    world.edit(0, set_key("tags", "a", json!("x"))).unwrap();
    world.edit(1, set_key("tags", "a", json!({"deep": [1]}))).unwrap();
    world.edit(1, Edit::UnsetKey { field: "tags".into(), key: "b".into() }).unwrap();
    world.sync();
    assert_eq!(world.fields(0), json!({"usage": {"cpu": 6}, "tags": {"a": {"deep": [1]}}}));
    assert_eq!(world.siblings(0, "tags.a"), [json!({"deep": [1]}), json!("x")]);
    // Existence, one key less, one more, and the last of `tags`.
    assert_eq!(world.put(0, json!({"usage": {"gpu": 1}})), Ok(4));
    assert_eq!(world.fields(0), json!({"usage": {"gpu": 1}}));
}

#[test]
fn texts_edited_on_both_sides_keep_both_edits() {
    let mut world = World::new(2);
    world.put(0, json!({"notes": "the fox"})).unwrap();
    world.sync();
    let splice = Edit::Splice { field: "notes".into(), at: 4, delete: 0, insert: "quick ".into() };
    world.edit(0, splice).unwrap();
    world.edit(1, set("notes", json!("the fox jumps"))).unwrap();
    world.sync();
    assert_eq!(world.fields(0), json!({"notes": "the quick fox jumps"}));
    let outside = Edit::Splice { field: "notes".into(), at: 90, delete: 0, insert: "x".into() };
    assert!(matches!(world.edit(0, outside), Err(PlanError::Text { .. })));
}

#[test]
fn a_concurrent_heartbeat_does_not_revive_a_deleted_document() {
    let mut world = World::new(2);
    world.put(0, json!({"heartbeat": 1, "power": "on"})).unwrap();
    world.sync();
    world.write(0, Write::Delete).unwrap();
    world.edit(1, set("heartbeat", json!(2))).unwrap();
    world.edit(1, incr("restarts", 1)).unwrap();
    world.sync();
    assert_eq!(world.view(0), None);
    assert_eq!(world.edit(0, incr("restarts", 1)), Err(PlanError::Missing));
    assert_eq!(world.write(0, Write::Delete), Err(PlanError::Missing));
    // What the deleted life left does not show in the next one.
    world.put(1, json!({"restarts": 2})).unwrap();
    world.sync();
    assert_eq!(world.fields(0), json!({"restarts": 2}));
    world.write(0, Write::Delete).unwrap();
    world.edit(1, set("heartbeat", json!(3))).unwrap();
    world.sync();
    world.write(1, Write::Upsert(vec![incr("served", 1)])).unwrap();
    world.sync();
    assert_eq!(world.fields(0), json!({"served": 1}));
}

#[test]
fn a_put_wins_over_a_concurrent_delete_and_keeps_what_it_wrote() {
    let mut world = World::new(2);
    world.put(0, json!({"a": 1, "b": 1})).unwrap();
    world.sync();
    world.write(0, Write::Delete).unwrap();
    world.put(1, json!({"a": 2, "b": 1})).unwrap();
    world.sync();
    assert_eq!(world.fields(0), json!({"a": 2}));
}

#[test]
fn an_upsert_creates_and_then_edits_what_is_there() {
    let mut world = World::new(1);
    let upsert = |edits: Vec<Edit>| Write::Upsert(edits);
    world.write(0, upsert(vec![incr("n", 2), incr("n", 3), add("tags", json!("x"))])).unwrap();
    assert_eq!(world.fields(0), json!({"n": 5, "tags": ["x"]}));
    assert_eq!(world.write(0, upsert(vec![incr("n", 1)])), Ok(1));
    world.write(0, Write::Delete).unwrap();
    world.write(0, upsert(vec![incr("n", 1), incr("n", 1)])).unwrap();
    assert_eq!(world.fields(0), json!({"n": 2}));
}

#[test]
fn edits_of_one_write_see_those_before_them_and_cost_one_op_a_cell() {
    let mut world = World::new(2);
    world.put(0, json!({"restarts": 1, "labels": ["old"], "phase": "a"})).unwrap();
    world.sync();
    world.edit(1, incr("restarts", 10)).unwrap();
    world.sync();
    let edits = vec![
        incr("restarts", 1),
        incr("restarts", 2),
        add("labels", json!("new")),
        remove("labels", json!("old")),
        add("labels", json!("brief")),
        remove("labels", json!("brief")),
        set("phase", json!("b")),
        set("phase", json!("c")),
    ];
    assert_eq!(world.write(0, Write::Edits(edits)), Ok(4));
    assert_eq!(world.fields(0), json!({"restarts": 14, "labels": ["new"], "phase": "c"}));
    let edits = vec![unset("restarts"), incr("restarts", 2), set("x", json!([1])), set("x", json!("s"))];
    world.write(0, Write::Edits(edits)).unwrap();
    world.sync();
    assert_eq!(world.fields(1), json!({"restarts": 2, "labels": ["new"], "phase": "c", "x": "s"}));
}

#[test]
fn a_field_that_changes_its_type_leaves_nothing_of_the_old_one() {
    let mut world = World::with_schema(2, "");
    let shapes = [json!("s"), json!([1, 2]), json!({"k": 1}), json!([[1]]), json!(null), json!({"k": {"l": 2}})];
    world.put(0, json!({})).unwrap();
    for shape in &shapes {
        world.edit(0, set("x", shape.clone())).unwrap();
        assert_eq!(world.fields(0)["x"], *shape);
        world.sync();
    }
    world.edit(0, unset("x")).unwrap();
    assert_eq!(world.fields(0), json!({}));
    // Inferred differently on both sides: the newest is shown, and the next write settles it.
    world.sync();
    world.edit(0, set("x", json!([1]))).unwrap();
    world.edit(1, set("x", json!("later"))).unwrap();
    world.sync();
    assert_eq!(world.fields(0), json!({"x": "later"}));
    world.edit(0, set("x", json!("settled"))).unwrap();
    world.sync();
    assert_eq!(world.fields(1), json!({"x": "settled"}));
}

#[test]
fn a_misfit_is_refused_whole_and_says_what_would_fit() {
    let mut world = World::new(1);
    world.put(0, json!({"phase": "a"})).unwrap();
    for (field, value, words) in [
        ("restarts", json!("many"), "an integer"),
        ("restarts", json!(1.5), "1.5"),
        ("served", json!(-1), "from 0"),
        ("labels", json!({"a": 1}), "an array"),
        ("draining", json!("yes"), "true or false"),
        ("usage", json!(1), "an object"),
        ("peak", json!(null), "a number"),
        ("notes", json!(4), "a string"),
        ("restarts", json!(u64::MAX), "signed"),
    ] {
        let error = world.put(0, json!({"phase": "b", field: value})).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, PlanError::Type { .. }) && text.contains(field) && text.contains(words), "{text}");
    }
    let error = world.put(0, json!({"usage": {"cpu": "much"}})).unwrap_err();
    assert!(error.to_string().contains("`usage.cpu`"), "{error}");
    assert!(matches!(world.edit(0, incr("served", -1)), Err(PlanError::Count { .. })));
    assert!(matches!(world.edit(0, add("phase", json!(1))), Err(PlanError::Edit { edit: "add", .. })));
    assert!(matches!(world.edit(0, set("", json!(1))), Err(PlanError::FieldName(_))));
    assert!(matches!(world.edit(0, set("a\nb", json!(1))), Err(PlanError::FieldName(_))));
    assert_eq!(world.fields(0), json!({"phase": "a"}));
}

#[test]
fn what_is_too_large_is_refused() {
    let mut world = World::new(1);
    world.put(0, json!({})).unwrap();
    let long = "x".repeat(1 << 20);
    assert!(matches!(world.edit(0, set("x", json!(long))), Err(PlanError::TooLong { .. })));
    assert!(matches!(world.edit(0, add("labels", json!("x".repeat(4096)))), Err(PlanError::TooLong { .. })));
    assert!(matches!(world.edit(0, set_key("usage", &"x".repeat(4096), json!(1))), Err(PlanError::TooLong { .. })));
    let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
    assert!(matches!(world.edit(0, set("x", deep)), Err(PlanError::TooDeep { .. })));
    let many: Map<_, _> = (0..1025).map(|i| (format!("f{i}"), json!(1))).collect();
    assert_eq!(world.write(0, Write::Put(many)), Err(PlanError::TooManyFields(1025)));
}

#[test]
fn a_stale_heartbeat_expires_the_document_everywhere_at_once() {
    let mut world = World::new(2);
    world.put(0, json!({"heartbeat": 1})).unwrap();
    let written_ms = world.now_ms;
    world.sync();
    for at in 0..2 {
        let view = world.view(at).unwrap();
        assert!(!view.expired(written_ms + 15_000) && view.expired(written_ms + 15_001));
    }
    world.edit(1, unset("heartbeat")).unwrap();
    assert!(!world.view(1).unwrap().expired(u64::MAX));
}

#[test]
fn the_etag_follows_every_change_and_nothing_else() {
    let mut world = World::new(2);
    world.put(0, json!({"a": 1, "labels": ["x"]})).unwrap();
    let tag = |world: &World, at: usize| etag(&world.replicas[at].document, &world.replicas[at].roster);
    let mut tags = vec![tag(&world, 0)];
    for edit in [set("a", json!(2)), add("labels", json!("y")), remove("labels", json!("x")), unset("a")] {
        world.edit(0, edit).unwrap();
        tags.push(tag(&world, 0));
    }
    world.edit(0, set("labels", json!(["y"]))).unwrap();
    assert_eq!(tag(&world, 0), tags[4]);
    tags.sort_unstable();
    tags.dedup();
    assert_eq!(tags.len(), 5);
}

#[test]
fn one_element_of_a_large_set_is_edited_without_reading_the_set() {
    let mut world = World::with_schema(1, "");
    let elements: Vec<Json> = (0..3_000).map(Json::from).collect();
    world.put(0, json!({"s": elements})).unwrap();
    let key = CellKey { field: "s", tag: crate::crdt::FieldKind::Contested.tag(), sub: b"" }.encode();
    // A concurrent writer took the field for a register; the cell lies behind all elements.
    let (mut packed, value) = (Vec::new(), crate::crdt::Value::Null.encode());
    EntryRef { dot: Dot::new(Slot(0), 9_000), at: HybridTime(1), value: Some(&value) }.encode_into(&mut packed);
    world.replicas[0].document.put(&key, &packed);
    let mut ops = Vec::new();
    let replica = &world.replicas[0];
    let planner = Planner { schema: &world.schema, roster: &replica.roster, me: Slot(0), settled: &Clock::new() };
    plan(Some(&replica.document), planner, &Write::Edits(vec![add("s", json!(1))]), &mut ops).unwrap();
    let removed: BTreeMap<_, _> = ops.iter().map(|op| (op.key.clone(), op.value.is_none())).collect();
    assert_eq!((ops.len(), removed[&key]), (2, true));
}
