//! Floor 4: what is kept about what happened. The [`ledger`] holds every value that another overruled.

pub mod ledger;
