//! The measurements are in `benches/`, one for each `make bench-*`.
