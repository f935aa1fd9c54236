//! All integration tests, linked once.

mod browser;
mod clients;
mod corpus;
mod deploy;
mod differential;
mod egress;
mod layers;
mod previews;
mod routes;
