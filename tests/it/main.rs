//! All integration tests, linked once.

mod browser;
mod clients;
mod layers;
