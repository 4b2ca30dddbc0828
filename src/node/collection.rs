//! Documents as Rust values: a typed view of one collection, for programs that embed a node.
//!
//! A value is written by the difference: a field that did not change is not written, a counter is moved by what was
//! added, a set gains and loses elements. Concurrent writers of other fields are not overruled.

use std::fmt;
use std::marker::PhantomData;

use futures::{Stream, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

use super::handle::Node;
use super::read::Shown;
use super::watch::WatchError;
use super::write::{DocumentWrite, Durability, IfMatch, Missing, Receipt, WriteBody, WriteError};
use crate::document::address::check_collection;
use crate::document::{Address, AddressError, Edit};

/// How often an update is tried again because another writer here was faster.
const UPDATE_TRIES_MAX: usize = 16;
/// Documents read at a time when a whole collection is listed.
const PAGE: usize = 256;

/// A collection whose documents are `T`s. Unknown fields of a document are left alone.
pub struct Collection<T> {
    node: Node,
    name: String,
    durability: Durability,
    of: PhantomData<fn() -> T>,
}

/// Why a typed call failed. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum CollectionError {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("{id} does not read as this type: {cause}")]
    Shape { id: String, cause: serde_json::Error },
    #[error("a document is an object of fields, and this value is not one: derive Serialize on a struct")]
    NotAnObject,
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("{id} does not exist")]
    NotFound { id: String },
    #[error("{id} was changed by others {UPDATE_TRIES_MAX} times in a row while it was being updated: try again")]
    Contended { id: String },
}

impl Node {
    /// Documents of `name` as `T`s.
    pub fn collection<T: Serialize + DeserializeOwned>(&self, name: &str) -> Result<Collection<T>, AddressError> {
        check_collection(name)?;
        Ok(Collection { node: self.clone(), name: name.to_owned(), durability: Durability::Local, of: PhantomData })
    }
}

impl<T> fmt::Debug for Collection<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Collection({})", self.name)
    }
}

impl<T: Serialize + DeserializeOwned> Collection<T> {
    /// What writes wait for; on this disk, unless told otherwise.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// The document as this node knows it now; `None` when there is none.
    pub fn get(&self, id: &str) -> Result<Option<T>, CollectionError> {
        let shown = self.node.read(&self.address(id)?).document;
        shown.map(|shown| self.decode(id, shown)).transpose()
    }

    /// The document becomes `value`; creates it when there is none.
    pub async fn put(&self, id: &str, value: &T) -> Result<Receipt, CollectionError> {
        self.write(id, WriteBody::Put(encode(id, value)?), None, Missing::Create).await
    }

    /// Changes the document by a function of what it is. The function runs again when another writer here came between.
    pub async fn update(&self, id: &str, mut change: impl FnMut(&mut T)) -> Result<Receipt, CollectionError> {
        let address = self.address(id)?;
        for _ in 0..UPDATE_TRIES_MAX {
            let Some(shown) = self.node.read(&address).document else {
                return Err(CollectionError::NotFound { id: id.to_owned() });
            };
            let mut fields = shown.view.fields.clone();
            let etag = shown.etag.clone();
            let mut value = self.decode(id, shown)?;
            change(&mut value);
            fields.extend(encode(id, &value)?);
            let unchanged = Some(IfMatch::Tags(vec![etag]));
            match self.write(id, WriteBody::Replace(fields), unchanged, Missing::Refuse).await {
                Err(CollectionError::Write(WriteError::Precondition { .. })) => {}
                outcome => return outcome,
            }
        }
        Err(CollectionError::Contended { id: id.to_owned() })
    }

    /// Edits single fields: increments, elements of sets, keys of maps. Creates the document when there is none.
    pub async fn edit(&self, id: &str, edits: Vec<Edit>) -> Result<Receipt, CollectionError> {
        self.write(id, WriteBody::Edits(edits), None, Missing::Create).await
    }

    pub async fn delete(&self, id: &str) -> Result<Receipt, CollectionError> {
        self.write(id, WriteBody::Delete, None, Missing::Refuse).await
    }

    /// Every document with its id, in order of ids.
    pub fn list(&self) -> Result<Vec<(String, T)>, CollectionError> {
        let (mut all, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = self.node.list(&self.name, "", after.as_deref(), PAGE);
            for (id, shown) in page.items {
                let value = self.decode(&id, shown)?;
                all.push((id, value));
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// Documents as they change from now on, with their ids; `None` for one that was deleted. Ends only when the reader
    /// was too slow and changes were lost to it.
    pub fn watch(
        &self,
    ) -> Result<impl Stream<Item = (String, Result<Option<T>, CollectionError>)> + Unpin + use<T>, WatchError> {
        let changes = self.node.watch(&format!("{}/", self.name), None)?;
        Ok(changes.map(|change| {
            let id = change.address.id().to_owned();
            let value = change.document.map(|shown| decode(&id, shown)).transpose();
            (id, value)
        }))
    }

    fn address(&self, id: &str) -> Result<Address, AddressError> {
        Address::new(&self.name, id)
    }

    fn decode(&self, id: &str, shown: Shown) -> Result<T, CollectionError> {
        decode(id, shown)
    }

    async fn write(
        &self,
        id: &str,
        body: WriteBody,
        if_match: Option<IfMatch>,
        missing: Missing,
    ) -> Result<Receipt, CollectionError> {
        let write = DocumentWrite { address: self.address(id)?, body, if_match, create_only: false, missing };
        Ok(self.node.write(vec![write], self.durability).await?)
    }
}

fn decode<T: DeserializeOwned>(id: &str, shown: Shown) -> Result<T, CollectionError> {
    serde_json::from_value(Json::Object(shown.view.fields))
        .map_err(|cause| CollectionError::Shape { id: id.to_owned(), cause })
}

fn encode<T: Serialize>(id: &str, value: &T) -> Result<Map<String, Json>, CollectionError> {
    match serde_json::to_value(value) {
        Ok(Json::Object(fields)) => Ok(fields),
        Ok(_) => Err(CollectionError::NotAnObject),
        Err(cause) => Err(CollectionError::Shape { id: id.to_owned(), cause }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Job {
        title: String,
        #[serde(default)]
        tags: Vec<String>,
    }

    fn job() -> Job {
        Job { title: "scan".into(), tags: vec!["net".into()] }
    }

    #[tokio::test]
    async fn a_value_comes_back_as_it_was_put_and_changes_by_what_an_update_changed() {
        let node = Node::builder().start().await.unwrap();
        let jobs = node.collection::<Job>("jobs").unwrap();
        jobs.put("1", &job()).await.unwrap();
        jobs.edit("1", vec![Edit::Set { field: "note".into(), value: "of another program".into() }]).await.unwrap();
        jobs.update("1", |job| job.title = "scan twice".into()).await.unwrap();
        assert_eq!(jobs.get("1").unwrap(), Some(Job { title: "scan twice".into(), ..job() }));
        let address = Address::new("jobs", "1").unwrap();
        assert_eq!(node.read(&address).document.unwrap().view.fields["note"], "of another program");
        assert_eq!(jobs.list().unwrap().len(), 1);
        jobs.delete("1").await.unwrap();
        assert_eq!(jobs.get("1").unwrap(), None);
        node.shutdown().await;
    }

    #[tokio::test]
    async fn concurrent_updates_of_one_document_all_count() {
        #[derive(Debug, Serialize, Deserialize)]
        struct Total {
            n: i64,
        }
        let node = Node::builder().start().await.unwrap();
        let totals = std::sync::Arc::new(node.collection::<Total>("totals").unwrap());
        totals.put("t", &Total { n: 0 }).await.unwrap();
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let totals = totals.clone();
                tokio::spawn(async move {
                    for _ in 0..25 {
                        totals.update("t", |total| total.n += 1).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(totals.get("t").unwrap().unwrap().n, 100);
        node.shutdown().await;
    }

    #[tokio::test]
    async fn a_watch_gives_values_and_deletions() {
        let node = Node::builder().start().await.unwrap();
        let jobs = node.collection::<Job>("jobs").unwrap();
        let mut changes = jobs.watch().unwrap();
        jobs.put("1", &job()).await.unwrap();
        let (id, value) = changes.next().await.unwrap();
        assert_eq!((id.as_str(), value.unwrap()), ("1", Some(job())));
        jobs.delete("1").await.unwrap();
        let (_, value) = changes.next().await.unwrap();
        assert_eq!(value.unwrap(), None);
        node.shutdown().await;
    }
}
