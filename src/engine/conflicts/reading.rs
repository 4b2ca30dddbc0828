//! A document as it reads: merged, then settled.
//!
//! To settle costs a policy's conditions and a resolver for each contested register, so what came of it is kept from when
//! the document was judged, and reads put it in its place. A document that changed since is settled anew.

use crate::conflict::Policies;
use crate::conflict::advisor::Standing;
use crate::conflict::judge::{InForce, Settlement, put_settled};
use crate::conflict::variables::Spent;
use crate::document::{Document, DocumentView, Sibling};
use crate::engine::hooks::Mutant;
use crate::engine::replica::Replica;

use super::{Conflicts, SYSTEM, collection_of};

impl Replica {
    pub fn conflicts(&self) -> &Conflicts {
        &self.conflicts
    }

    /// A document as it reads: merged, then settled. `None` when it is hidden.
    pub fn show(&self, name: &str, document: &Document) -> Option<DocumentView> {
        let mut view = self.merged(name, document)?;
        if view.siblings.is_empty() {
            return Some(view);
        }
        match self.settlements_of(name, document) {
            Some(settlements) => put_settled(&mut view, settlements),
            None => drop(self.settle_view(name, &mut view, &Spent::default())),
        }
        Some(view)
    }

    /// A document as its fields merged, before any resolver that needs more than its siblings.
    pub fn merged(&self, name: &str, document: &Document) -> Option<DocumentView> {
        DocumentView::of(document, self.schemas.of(collection_of(name)).0, &self.state.roster)
    }

    /// As the document was settled when it was judged. `None`: it changed since, or is not the one in the state.
    fn settlements_of(&self, name: &str, document: &Document) -> Option<&[Settlement]> {
        let is_judged = self.state.is_judged(name, document) || self.config.hooks.planted(Mutant::SettledOnce);
        if self.config.hooks.planted(Mutant::ResolvedByArrival) || !is_judged {
            return None;
        }
        self.conflicts.settlements(name)
    }

    /// A document as it reads, with nothing taken from what was kept.
    pub fn show_anew(&self, name: &str, document: &Document) -> Option<DocumentView> {
        let mut view = self.merged(name, document)?;
        self.settle_view(name, &mut view, &Spent::default());
        Some(view)
    }

    /// Settles the contested registers of a view, anew.
    pub(super) fn settle_view(&self, name: &str, view: &mut DocumentView, spent: &Spent) -> Vec<Settlement> {
        if view.siblings.is_empty() {
            return Vec::new();
        }
        let collection = collection_of(name);
        if self.config.hooks.planted(Mutant::ResolvedByArrival) {
            let slot =
                |sibling: &Sibling| self.state.roster.iter().position(|(_, id)| id.to_string() == sibling.replica);
            view.siblings.values_mut().for_each(|siblings| siblings.sort_by_key(slot));
        }
        // What schemas and policies themselves say cannot hang on a policy.
        let none = Policies::default();
        let policies = if SYSTEM.contains(&collection) { &none } else { &self.schemas.policies };
        self.schemas.judge(collection).settle(name, view, self.in_force(policies, spent))
    }

    pub(in crate::engine) fn in_force<'a>(&'a self, policies: &'a Policies, spent: &'a Spent) -> InForce<'a> {
        InForce { policies, customs: &self.config.customs, advisor: self.standing(), spent: Some(spent) }
    }

    pub(super) fn standing(&self) -> Option<&Standing> {
        self.schemas.advisor().map(|standing| &**standing)
    }
}
