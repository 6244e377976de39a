//! TLS of every listener and between the layers, with the built daemons: who is let in, what goes on while certificates are exchanged, what is not started.

mod installation;
mod outward;
mod refused;
mod rotation;
mod who;
