//! The translator over children without bricks: what each fop waits for, who learns of failures, and a randomized
//! comparison of a file with a model.

mod brick;
mod fops;
mod random;
