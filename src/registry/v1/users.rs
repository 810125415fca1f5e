//! Accounts at an index (F220 to F223): made and checked. The password travels in the body of a POST, which is never
//! redirected to another host, and as `Authorization: Basic`.

use crate::error::{Context as _, Error, Kind, Result};
use crate::registry::credentials::{Credentials, Secret};
use crate::registry::endpoint::{Call, Endpoint, To};
use crate::registry::http::{Method, Payload};
use serde_json::json;

/// What became of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entered {
    In,
    /// There was no such account; there is now, once its mail has been answered.
    Created,
}

/// Gets into the index at `endpoint`, which has the credentials. With an address, an account is made if there is none.
pub(crate) fn enter(endpoint: &Endpoint, credentials: &Credentials, email: Option<&str>) -> Result<Entered> {
    let Secret::Password(password) = &credentials.secret else {
        return Err(Error::other("a registry of 2013 takes passwords only"));
    };
    if let Some(email) = email {
        check_account(&credentials.username, password)?;
        let body = json!({"username": credentials.username, "password": password, "email": email, "auth": ""});
        let body = body.to_string();
        let call = Call::new(Method::POST, To::Path("/v1/users/"), &[])
            .of_2013(None)
            .header("content-type", "application/json")
            .payload(Payload::Bytes(body.as_bytes()));
        let answer = endpoint.ask(call).context("register")?;
        match answer.status {
            200 | 201 => {
                answer.drain();
                return Ok(Entered::Created);
            }
            403 => {
                let e = Error::other("Login: Your account hasn't been activated.");
                return Err(e.with_hint("it is by the link in the mail that was sent to you"));
            }
            status => {
                let (_, said) = answer.complaint();
                let known = status == 400 && said.contains("already exists");
                if !known && status == 400 {
                    return Err(Error::other(format!("Registration: {said}")));
                }
                // A registry that has accounts but makes none does not say so with one voice.
                if !known && !matches!(status, 401 | 404 | 405 | 501) {
                    return Err(Error::other(format!("Unexpected status code: {said}")));
                }
            }
        }
    }
    let call = Call::get("/v1/users/", &[]).of_2013(endpoint.basic());
    let answer = endpoint.ask(call)?;
    match answer.status {
        200 => {
            answer.drain();
            Ok(Entered::In)
        }
        401 => Err(Error::new(
            Kind::LoginRequired,
            "Wrong login/password, please try again",
        )),
        403 => Err(Error::other("Login: Your account hasn't been activated.")
            .with_hint("it is by the link in the mail that was sent to you")),
        _ => Err(endpoint.failed("login", answer)),
    }
}

/// What every index of that time refuses (F241), said before a password is sent.
fn check_account(username: &str, password: &str) -> Result<()> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if !(4..=30).contains(&username.len()) || !username.bytes().all(good) {
        return Err(Error::other("a new account's name has 4 to 30 of [a-z0-9_]"));
    }
    match password.chars().count() < 5 {
        true => Err(Error::other("a new account's password has 5 characters at least")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts() {
        assert!(check_account("user_1", "secret").is_ok());
        for (name, password) in [
            ("abc", "secret"),
            ("User", "secret"),
            ("a-b-c", "secret"),
            ("user", "1234"),
        ] {
            assert!(check_account(name, password).is_err(), "{name}");
        }
        assert!(check_account(&"a".repeat(31), "secret").is_err());
    }
}
