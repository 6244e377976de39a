//! The audit of the three daemons, all running: what is recorded, what is never in it, what happens where it cannot be written, and that a file holds after a
//! crash.

mod broken;
mod cases;
mod file;
mod recorded;
mod sinks;
mod whole;
