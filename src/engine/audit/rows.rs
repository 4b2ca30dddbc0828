//! Changes to the tree `audit`, on their way to the disk.

/// Changes to the tree, in order.
#[derive(Debug, Default)]
pub struct Rows(Vec<(Vec<u8>, Option<Vec<u8>>)>);

impl Rows {
    pub(super) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.0.push((key, Some(value)));
    }

    pub(super) fn remove(&mut self, key: Vec<u8>) {
        self.0.push((key, None));
    }

    pub(in crate::engine) fn take(&mut self) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        std::mem::take(&mut self.0)
    }
}
