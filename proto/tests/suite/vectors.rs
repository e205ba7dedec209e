//! The committed vectors.
