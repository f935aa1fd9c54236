//! All integration tests, linked once.

mod browser;
mod clients;
mod corpus;
mod differential;
mod layers;
