//! All integration tests, linked once.

mod clients;
mod corpus;
mod differential;
mod layers;
