//! A container as docker-shaped JSON.
