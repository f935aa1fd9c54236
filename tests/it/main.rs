//! All integration tests, linked once.

mod browser;
mod clients;
mod corpus;
mod deploy;
mod differential;
mod layers;
mod routes;
mod terminals;
