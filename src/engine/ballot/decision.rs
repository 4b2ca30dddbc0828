//! A change of what a quorum decides about a document, in the words of programs.

use std::time::Duration;

use serde_json::Value as Json;

use super::fields::{FieldValue, FieldsChange};
use super::lock::{HOLDER_MAX, LEASE_MS_MAX, LEASE_MS_MIN, LockChange, NAME_MAX, RequestId, Waiter};
use crate::crdt::{FieldKind, Value};
use crate::document::schema::{Schema, check_field_name};

/// A change of fields of one document that all declare the type `quorum`. All of it is done, or nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decision {
    /// Only if these fields are so; `None`: if there is none.
    pub tests: Vec<(String, Option<Json>)>,
    /// What they become; `None`: nothing.
    pub set: Vec<(String, Option<Json>)>,
    /// The token of the document's lock: the lock of the document's name. While somebody holds it, only writes under its token
    /// are done.
    pub token: Option<u64>,
    /// Gets the document's lock with it, or does nothing.
    pub take: Option<Take>,
    /// Gives the document's lock back with it.
    pub release: bool,
}

/// The lock of the document is to be this holder's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Take {
    pub holder: String,
    pub lease: Duration,
    /// Asked again with the same, it comes to the same grant.
    pub request: RequestId,
}

/// Why a decision cannot be put to a quorum. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("field `{0}` is not of type quorum")]
    Field(String),
    #[error("{0}")]
    Invalid(String),
}

impl Decision {
    /// The same as voters are asked, where this is the schema of the document's collection.
    pub fn change(&self, request: RequestId, schema: &Schema) -> Result<FieldsChange, Unfit> {
        let value = |(field, value): &(String, Option<Json>)| {
            check_field_name(field).map_err(|error| Unfit::Invalid(error.to_string()))?;
            if schema.field(field).is_none_or(|declared| declared.kind != FieldKind::Quorum) {
                return Err(Unfit::Field(field.clone()));
            }
            Ok((field.clone(), value.as_ref().map(Value::encode_json)))
        };
        let values = |fields: &[(String, Option<Json>)]| {
            fields.iter().map(value).collect::<Result<Vec<(String, FieldValue)>, _>>()
        };
        Ok(FieldsChange {
            take: self.take.as_ref().map(Take::change).transpose()?,
            token: self.token,
            tests: values(&self.tests)?,
            set: values(&self.set)?,
            release: self.release,
            ..FieldsChange::read(request)
        })
    }
}

impl Take {
    fn change(&self) -> Result<LockChange, Unfit> {
        let waiter = Waiter {
            holder: check_holder(&self.holder).map(|()| self.holder.clone())?,
            request: self.request,
            lease_ms: check_lease(self.lease)?,
        };
        Ok(LockChange::Acquire { waiter, waits: false, expired: None })
    }
}

pub fn check_lock(name: &str) -> Result<(), Unfit> {
    check_name(name, "lock", NAME_MAX)
}

pub fn check_holder(name: &str) -> Result<(), Unfit> {
    check_name(name, "holder", HOLDER_MAX)
}

fn check_name(name: &str, what: &str, bytes_max: usize) -> Result<(), Unfit> {
    let fits = (1..=bytes_max).contains(&name.len()) && !name.chars().any(char::is_control);
    if fits {
        return Ok(());
    }
    Err(Unfit::Invalid(format!("the name of a {what} has 1 to {bytes_max} bytes and no control characters")))
}

/// A lease in milliseconds.
pub fn check_lease(lease: Duration) -> Result<u64, Unfit> {
    let ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
    if (LEASE_MS_MIN..=LEASE_MS_MAX).contains(&ms) {
        return Ok(ms);
    }
    Err(Unfit::Invalid(format!("a lease is {LEASE_MS_MIN} to {LEASE_MS_MAX} ms, and not {ms}")))
}
