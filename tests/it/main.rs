//! All integration tests, linked once.

mod agents;
mod browser;
mod clients;
mod corpus;
mod deploy;
mod differential;
mod egress;
mod layers;
mod previews;
mod routes;
mod sdk;
mod security;
mod terminals;
