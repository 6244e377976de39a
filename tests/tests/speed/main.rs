//! The speed layer on a real Redis: store, tail, webhook, service.

mod kit;
mod service;
mod store;
mod tail;
mod webhook;
