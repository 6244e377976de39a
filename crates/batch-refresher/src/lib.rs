//! batch-refresher
