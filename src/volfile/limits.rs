//! Bounds of what is accepted: a volfile comes from outside. Real ones are far below.

/// Longest text, in bytes. A brick needs about 900 of them.
pub(super) const TEXT: usize = 16 << 20;
/// Most volumes.
pub(super) const VOLUMES: usize = 65_536;
/// Most options of one volume.
pub(super) const OPTIONS: usize = 1024;
/// Longest name of a volume or an option, in bytes; names of volumes become parts of xattr names.
pub(super) const NAME: usize = 255;
/// Longest value of an option, in bytes. Lists of all bricks occur.
pub(super) const VALUE: usize = 1 << 20;
/// Most translators on the way from the top to a leaf: calls nest that deep.
pub(super) const DEPTH: usize = 64;
