//! A translator that does nothing but have a name.
//!
//! Translators that only cache or report are left out of the live graph. Under a cluster translator the place must stay,
//! because distribute and replicate write their children's names into xattrs: with `parallel-readdir` those are the names
//! of `performance/readdir-ahead` volumes.

use std::sync::Arc;

use crate::Translator;

/// Passes every fop to its only child.
pub struct PassThrough {
    name: Arc<str>,
    kind: &'static str,
    children: [Arc<dyn Translator>; 1],
}

impl PassThrough {
    /// Stands for a volume of the type `kind` over `child`.
    pub fn new(name: Arc<str>, kind: &'static str, child: Arc<dyn Translator>) -> Arc<Self> {
        Arc::new(PassThrough { name, kind, children: [child] })
    }
}

impl Translator for PassThrough {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn kind(&self) -> &'static str {
        self.kind
    }

    fn children(&self) -> &[Arc<dyn Translator>] {
        &self.children
    }
}
