//! Scenarios on [`super::FileSystem`] over a volume in memory.
