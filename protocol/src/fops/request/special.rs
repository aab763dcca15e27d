//! What fits nowhere else.

use crate::Dict;

messages! {
    /// Does nothing.
    Null {}

    /// A message between translators; `op` 2 registers the xattr names of xdata for invalidation.
    Ipc { op: i32, xdata: Dict }
}
