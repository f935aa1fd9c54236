//! All integration tests, linked once.

mod clients;
mod deploy;
mod layers;
mod routes;
