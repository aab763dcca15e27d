//! rgfs
fn main() {}
