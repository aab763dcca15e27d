//! `features/read-only`: every modifying fop answers EROFS.
