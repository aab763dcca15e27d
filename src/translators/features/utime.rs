//! `features/utime`: the client's clock sets the times that bricks note.
