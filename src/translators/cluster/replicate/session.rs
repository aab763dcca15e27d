//! placeholder
#[derive(Default)]
pub(super) struct Sessions;
