//! A program settles conflicts by a rule of its own.
//!
//! Two nodes in one process (they would be two hosts) keep the stock of a shop. The network between them is cut, both
//! sell, and both write what is left. No built-in resolver knows what two counts of one shelf come to; the program does:
//! whatever either side sold is gone. It registers that as a resolver, a schema names it, and both nodes read the same.
//!
//! ```sh
//! cargo run --example custom_resolver
//! ```

use std::collections::BTreeSet;
use std::error::Error;
use std::net::TcpListener;
use std::time::Duration;

use folkmoot::conflict::Case;
use folkmoot::document::{Address, Edit};
use folkmoot::node::{Builder, ConflictFilter, DocumentWrite, Durability, Missing, Node, Resolution, WriteBody};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Shelf {
    left: i64,
}

/// Far more than it takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is left once both sides' sales are counted. It is asked at every read, on every node, and may look at nothing but
/// its case: the siblings, what they were written over, and the other fields.
fn sold_on_both_sides(case: &Case<'_>) -> Result<Value, String> {
    let number = |value: &Value| value.as_i64().ok_or_else(|| format!("{value} is no count"));
    let before = case.base().ok_or("what was there before is not known")?;
    let before = number(before)?;
    let counts: Vec<i64> = case.values().map(number).collect::<Result<_, _>>()?;
    let sold: i64 = counts.iter().map(|left| before - left).sum();
    Ok(json!((before - sold).max(0)))
}

/// Every node of the cluster has to know the resolver. One that does not says so in its list of conflicts.
fn node(name: &str) -> Builder {
    Node::builder().name(name).resolver("sold_on_both_sides", sold_on_both_sides)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = free_address()?;
    let front = node("front").listen(&address).start().await?;
    let back = node("back").listen("/ip4/127.0.0.1/tcp/0").join(&address).start().await?;

    // `keeps_base`: each write carries the value it was made over.
    declare(&front).await?;
    let (here, there) = (front.collection::<Shelf>("shelves")?, back.collection::<Shelf>("shelves")?);
    let stocked = here.put("apples", &Shelf { left: 10 }).await?;
    back.wait_for(&stocked.token, PATIENCE).await?;

    // The network is cut; both sides sell what they see.
    front.set_blocked(BTreeSet::from([back.id()]));
    back.set_blocked(BTreeSet::from([front.id()]));
    let sold = |left: i64| vec![Edit::Set { field: "left".into(), value: json!(left) }];
    let first = here.edit("apples", sold(7)).await?;
    let second = there.edit("apples", sold(6)).await?;
    println!("front has {:?}, back has {:?}", here.get("apples")?, there.get("apples")?);

    front.set_blocked(BTreeSet::new());
    back.set_blocked(BTreeSet::new());
    front.wait_for(&second.token, PATIENCE).await?;
    back.wait_for(&first.token, PATIENCE).await?;
    // 3 and 4 were sold of 10.
    assert_eq!(here.get("apples")?, Some(Shelf { left: 3 }));
    assert_eq!(there.get("apples")?, Some(Shelf { left: 3 }));

    let (conflicts, _) = front.conflicts(&ConflictFilter::default(), 10);
    let [conflict] = &conflicts[..] else { return Err(format!("one conflict, not {conflicts:?}").into()) };
    let value = conflict.value.as_ref().ok_or("it has a value")?;
    println!("what is left on {} is {value}, whatever either side wrote", conflict.document);
    assert_eq!(back.conflict(&conflict.id).as_ref(), Some(conflict), "both nodes list it alike");

    // Somebody counts the shelf, and settles it for good.
    let counted = Resolution::Value(json!(2));
    let resolved = front.resolve(&conflict.id, &counted, "ada", false, Durability::Local).await?;
    let receipt = resolved.receipt.ok_or("it was no preview")?;
    back.wait_for(&receipt.token, PATIENCE).await?;
    assert_eq!(there.get("apples")?, Some(Shelf { left: 2 }));
    assert!(back.conflict(&conflict.id).is_none());
    println!("ada counted 2, and both nodes say so");

    back.shutdown().await;
    front.shutdown().await;
    Ok(())
}

/// A schema is a document like others: written at one node, in force at all.
async fn declare(node: &Node) -> Result<(), Box<dyn Error>> {
    let left = json!({ "type": "contested", "resolver": "custom", "custom": "sold_on_both_sides", "keeps_base": true });
    let definition = json!({ "fields": { "left": left } });
    let schema = DocumentWrite {
        address: Address::new("schemas", "shelves")?,
        body: WriteBody::Put([("definition".to_owned(), definition)].into_iter().collect()),
        if_match: None,
        create_only: false,
        missing: Missing::Create,
    };
    node.write(vec![schema], Durability::Local).await?;
    Ok(())
}

/// A port that is free now. Hosts have fixed ones; an example should run wherever it is tried.
fn free_address() -> std::io::Result<String> {
    let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    Ok(format!("/ip4/127.0.0.1/tcp/{port}"))
}

#[test]
fn it_runs() {
    main().unwrap();
}
