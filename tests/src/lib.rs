//! Real servers, the built binaries and synthetic patients, for the end-to-end tests, the demo and the development stack.
//!
//! Every server is private: started from the installed binaries on a free port of 127.0.0.1, with its files below the target folder, and stopped when
//! its value is dropped or this program dies. A missing server is an error that names the command which installs it; nothing is skipped.

pub mod ask;
pub mod background;
pub mod balancer;
pub mod bodies;
pub mod certificates;
pub mod collector;
pub mod consistency;
pub mod deadline;
pub mod fhir;
pub mod ground;
pub mod hapi;
pub mod house;
pub mod issuer;
pub mod line;
pub mod loading;
pub mod merging;
pub mod operate;
pub mod patients;
pub mod postgres;
pub mod process;
pub mod redis;
pub mod rights;
pub mod rpc;
pub mod s3;
pub mod server;
pub mod stack;
pub mod staged;
pub mod standby;
pub mod tables;
pub mod upgrade;
pub mod whole;
