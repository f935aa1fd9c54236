//! All integration tests, linked once.

mod clients;
mod differential;
mod layers;
