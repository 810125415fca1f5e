//! What a registry speaks: HTTP, credentials, the protocols.
