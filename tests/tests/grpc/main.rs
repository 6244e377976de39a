//! What all three services do with requests that no client should send: none of them can be forgotten, as they are read from the contracts.

mod bad_input;
mod made;
mod routes;
mod table;
mod whole;
