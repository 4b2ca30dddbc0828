//! The advisor of a node: training it on the cluster's decisions, and asking it.
//!
//! Training reads every decision that is kept, works for up to some seconds on a thread of its own, and writes the model as
//! the document `advisor/model`. From there all nodes use the same one; the engine reads it (`engine/schemas.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use super::conflicts::{COLLECTION, contested};
use super::handle::Node;
use super::write::{DocumentWrite, Durability, Missing, Receipt, WriteBody, WriteError};
use crate::conflict::advice::{advise, explained, of_conflict};
use crate::conflict::advisor::model::{ANSWER_FROM, MODEL_BYTES_MAX};
use crate::conflict::advisor::standing::STANDING_BYTES_MAX;
use crate::conflict::advisor::training::{DECISIONS_MAX, DECISIONS_MIN};
use crate::conflict::advisor::{
    Advice, Case, Evaluation, Explanation, Habits, Options, Standing, TooFew, evaluate, split_by_time, train,
};
use crate::conflict::decisions::{Recorded, told};
use crate::conflict::resolver::Prepared;
use crate::document::{Address, AddressError};
use crate::engine::schemas::{ADVISOR, ADVISOR_MODEL, DEFINITION};

/// Decisions read at a time: the lock is let go in between.
const PAGE: usize = 256;
/// Documents of decisions that are looked at. At some 20 µs each: two seconds.
const DOCUMENTS_MAX: usize = 100_000;
/// The share of the decisions, the latest ones, on which a training is evaluated.
const LATER: f64 = 0.3;

#[derive(Debug, thiserror::Error)]
pub enum AdvisorError {
    #[error("{0}; nothing was changed")]
    TooFew(#[from] TooFew),
    #[error("no model is trained: POST /v1/advisor/train, or `folkmoot advisor train`, once there are decisions")]
    Off,
    #[error("there is no conflict {0} here: it may have been settled meanwhile")]
    NoConflict(String),
    #[error("{0} is a conflict of a rule: the advisor knows conflicts between values only")]
    OfRule(String),
    #[error("a training is under way at this node: wait for its end")]
    Busy,
    #[error("the model has {0} bytes, more than a model may have: shorten the names of fields")]
    Large(usize),
    #[error("the training ended without a result: this is a bug")]
    Lost,
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Where the advisor stands.
#[derive(Debug, Clone, Serialize)]
pub struct AdvisorStatus {
    pub on: bool,
    /// Why it is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Decisions on siblings that are kept and not taken back; only the latest [`DECISIONS_MAX`] are learned from.
    pub decisions: usize,
    pub answers_from: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelStatus>,
    /// Of a model trained on the earlier decisions, asked about the later ones; made at the training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<Rated>,
    /// Of the model in force, asked about the decisions since its training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Rated>,
}

/// The model in force.
#[derive(Debug, Clone, Serialize)]
pub struct ModelStatus {
    pub version: u64,
    pub trained_ms: u64,
    pub by: String,
    /// Decisions it was given; of these, the latest `learned_from`, but for those held out to calibrate it.
    pub decisions: usize,
    pub learned_from: usize,
    pub held_out: usize,
    pub strategies: Vec<&'static str>,
    pub habits: BTreeMap<String, BTreeMap<&'static str, f64>>,
}

/// An evaluation with its two shares: of all what was answered, and of the answered what was right.
#[derive(Debug, Clone, Serialize)]
pub struct Rated {
    pub coverage: f64,
    /// `None`: nothing was answered.
    pub accuracy: Option<f64>,
    #[serde(flatten)]
    pub evaluation: Evaluation,
}

/// What came of a training.
#[derive(Debug, Clone)]
pub struct TrainedAdvisor {
    pub standing: Arc<Standing>,
    pub receipt: Receipt,
}

/// What is said about a conflict, and why.
#[derive(Debug, Clone, Serialize)]
pub struct Explained {
    /// The strategy; `None`: it abstains.
    pub advice: Option<&'static str>,
    pub confidence: f64,
    /// Why it abstains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abstains: Option<String>,
    pub version: u64,
    pub explanation: Explanation,
    pub case: Case,
}

impl Node {
    pub async fn advisor(&self) -> Result<AdvisorStatus, AdvisorError> {
        let node = self.clone();
        tokio::task::spawn_blocking(move || node.status_of_advisor()).await.map_err(|_| AdvisorError::Lost)
    }

    /// Learns from every decision that is kept and puts the model in force at all nodes.
    pub async fn train_advisor(&self, by: &str, durability: Durability) -> Result<TrainedAdvisor, AdvisorError> {
        let _alone = self.inner.training.try_lock().map_err(|_| AdvisorError::Busy)?;
        let (node, by) = (self.clone(), by.to_owned());
        let trained = tokio::task::spawn_blocking(move || node.trained(&by)).await.map_err(|_| AdvisorError::Lost)?;
        let standing = trained?;
        let fields = Map::from_iter([(DEFINITION.to_owned(), json!(standing))]);
        let write = DocumentWrite {
            address: Address::new(ADVISOR, ADVISOR_MODEL)?,
            body: WriteBody::Put(fields),
            if_match: None,
            create_only: false,
            missing: Missing::Create,
        };
        let receipt = self.write(vec![write], durability).await?;
        Ok(TrainedAdvisor { standing: Arc::new(standing), receipt })
    }

    /// What the advisor says about a conflict of now, whatever settles it.
    pub fn explain_conflict(&self, id: &str) -> Result<Explained, AdvisorError> {
        let replica = self.inner.replica.read();
        let standing = replica.advisor().ok_or(AdvisorError::Off)?;
        let conflict = replica.conflicts().get(id).ok_or_else(|| AdvisorError::NoConflict(id.to_owned()))?;
        let register = of_conflict(conflict, contested(&replica, &conflict.document));
        let register = register.ok_or_else(|| AdvisorError::OfRule(id.to_owned()))?;
        let (case, explanation) = explained(standing, register);
        let (advice, abstains) = match advise(standing, register) {
            Advice::Use { strategy, .. } => (Some(strategy.name()), None),
            Advice::Abstain(why) => (None, Some(why.to_string())),
        };
        let confidence = explanation.confidence;
        Ok(Explained { advice, confidence, abstains, version: standing.version, explanation, case })
    }

    fn status_of_advisor(&self) -> AdvisorStatus {
        let standing = self.inner.replica.read().advisor().cloned();
        let (decisions, mut recorded) = self.decisions();
        let (since, why) = match &standing {
            Some(standing) => {
                let learned = standing.model.origin().decisions;
                let rated = evaluate(&standing.model, &told(&mut recorded, learned).0);
                ((rated.decisions > 0).then(|| Rated::of(rated)), None)
            }
            None if decisions < DECISIONS_MIN => (None, Some(TooFew::Decisions { have: decisions }.to_string())),
            // Whether there are enough of one strategy is said by the training.
            None => (None, Some(format!("no model is trained: {decisions} decisions are there to learn from"))),
        };
        AdvisorStatus {
            on: standing.is_some(),
            why,
            decisions,
            answers_from: ANSWER_FROM,
            evaluation: standing.as_ref().and_then(|standing| standing.evaluation.clone()).map(Rated::of),
            model: standing.as_deref().map(ModelStatus::of),
            since,
        }
    }

    fn trained(&self, by: &str) -> Result<Standing, AdvisorError> {
        let version = self.inner.replica.read().advisor().map_or(0, |standing| standing.version) + 1;
        let (_, mut recorded) = self.decisions();
        let (decisions, habits) = told(&mut recorded, usize::MAX);
        let model = train(&decisions, version, &Options::default())?;
        let evaluation = evaluation(&mut recorded, version);
        let places = recorded.iter().map(Recorded::place);
        let mut standing = Standing::new(version, self.now().wall_ms, by, model, &habits, places);
        standing.evaluation = evaluation;
        // What other nodes could not read is not put in force.
        let bytes = (standing.model.to_json().len(), json!(standing).to_string().len());
        if bytes.0 > MODEL_BYTES_MAX || bytes.1 > STANDING_BYTES_MAX {
            return Err(AdvisorError::Large(bytes.1));
        }
        Ok(standing)
    }

    /// How many decisions there are, and the latest of them.
    fn decisions(&self) -> (usize, Vec<Recorded>) {
        let (mut after, mut count, mut looked) = (None, 0, 0);
        let mut kept: Vec<Recorded> = Vec::new();
        loop {
            let page = self.list(COLLECTION, "", after.as_deref(), PAGE);
            let read = page.items.iter().filter_map(|(_, shown)| self.recorded(&shown.view.fields));
            let before = kept.len();
            kept.extend(read);
            count += kept.len() - before;
            looked += page.items.len();
            if kept.len() >= 2 * DECISIONS_MAX {
                latest(&mut kept);
            }
            after = page.next.filter(|_| looked < DOCUMENTS_MAX);
            if after.is_none() {
                latest(&mut kept);
                return (count, kept);
            }
        }
    }

    fn recorded(&self, fields: &Map<String, Json>) -> Option<Recorded> {
        let (document, field) = (fields.get("document")?.as_str()?, fields.get("field")?.as_str()?);
        let collection = document.split('/').next().unwrap_or_default();
        let judge = self.inner.replica.read().judge(collection);
        let unprepared = Prepared::default();
        Recorded::read(fields, judge.prepared(field).unwrap_or(&unprepared))
    }
}

/// Trains on the earlier decisions as they looked then, and asks about the later ones. `None` when the earlier are too
/// few.
fn evaluation(recorded: &mut [Recorded], seed: u64) -> Option<Evaluation> {
    let earlier = split_by_time(told(recorded, usize::MAX).0, LATER).0.len();
    let (mut decisions, _): (_, Habits) = told(recorded, earlier);
    let later = decisions.split_off(earlier);
    let model = train(&decisions, seed, &Options::default()).ok()?;
    Some(evaluate(&model, &later))
}

fn latest(recorded: &mut Vec<Recorded>) {
    recorded.sort_by_key(|recorded| std::cmp::Reverse(recorded.at_ms));
    recorded.truncate(DECISIONS_MAX);
}

impl Rated {
    fn of(evaluation: Evaluation) -> Self {
        Self { coverage: evaluation.coverage(), accuracy: evaluation.accuracy(), evaluation }
    }
}

impl ModelStatus {
    pub fn of(standing: &Standing) -> Self {
        let origin = standing.model.origin();
        let named = |(place, shares): (&String, &BTreeMap<_, f64>)| {
            let shares = shares
                .iter()
                .map(|(strategy, share): (&crate::conflict::advisor::Strategy, _)| (strategy.name(), *share));
            (place.clone(), shares.collect())
        };
        Self {
            version: standing.version,
            trained_ms: standing.trained_ms,
            by: standing.by.clone(),
            decisions: origin.decisions,
            learned_from: origin.window,
            held_out: origin.held_out,
            strategies: standing.model.strategies().iter().map(|strategy| strategy.name()).collect(),
            habits: standing.habits.iter().map(named).collect(),
        }
    }
}
