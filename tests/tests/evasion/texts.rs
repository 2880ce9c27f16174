//! See `docs/security.md`.
