//! What PBFT guarantees.
