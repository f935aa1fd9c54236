//! The command line of perch.
fn main() {}
