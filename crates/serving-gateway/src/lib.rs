//! serving-gateway
