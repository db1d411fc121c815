//! One exchange with one server over HTTP or HTTPS, bounded in time and size. Knows nothing of what is said.

use std::io::ErrorKind;
use std::time::Duration;

use ureq::http::{HeaderValue, StatusCode, Uri, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, Error};

use super::error::EndpointError;
use super::failure::{Failure, FailureReason};
use super::options::is_loopback;
use super::reply::Cleaner;
use crate::actions::secret::Secret;

/// Bytes of an answer at most.
const MAX_BODY_BYTES: u64 = 16 << 20;
/// Bytes of an error that are read; more of it is not looked at.
const MAX_ERROR_BYTES: u64 = 64 << 10;

/// No request takes longer, whatever the entry says.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// What came back.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    /// The `Retry-After` header.
    pub(super) retry_after: Option<String>,
    /// The `Location` header.
    pub(super) location: Option<String>,
    pub(super) body: Vec<u8>,
}

/// The connection to one server. Redirects are never followed, so the key goes to the configured address only.
pub(super) struct Client {
    agent: Agent,
    url: Uri,
    authorization: Option<HeaderValue>,
    secret: Option<Secret>,
}

impl Client {
    /// # Errors
    /// A key that no header can carry.
    pub(super) fn new(
        url: Uri,
        secret: Option<Secret>,
        timeout: Duration,
    ) -> Result<Self, EndpointError> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(timeout.min(LONGEST_TIMEOUT)))
            .tls_config(system_roots())
            .user_agent(concat!("vision-ekipl/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&url) {
            config = config.proxy(None);
        }
        let authorization = secret
            .as_ref()
            .map(|secret| HeaderValue::from_str(&secret.bearer()));
        let mut authorization = authorization
            .transpose()
            .map_err(|_| EndpointError::Start("the key fits no header".to_owned()))?;
        if let Some(header) = &mut authorization {
            header.set_sensitive(true);
        }
        Ok(Self {
            agent: config.build().new_agent(),
            url,
            authorization,
            secret,
        })
    }

    /// What makes this server's text safe.
    pub(super) const fn cleaner(&self) -> Cleaner<'_> {
        Cleaner(self.secret.as_ref())
    }

    /// Breaks off every exchange under way. The client is of no use afterwards.
    pub(super) fn shut_down(&self) {
        self.agent.clone().shutdown();
    }

    /// Sends a JSON body and reads whatever comes, of any status.
    ///
    /// # Errors
    /// [`Failure`] where no whole answer came.
    pub(super) fn post(&self, body: &[u8]) -> Result<Response, Failure> {
        let mut request = self
            .agent
            .post(self.url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let mut response = request.send(body).map_err(|error| self.failure(&error))?;
        let status = response.status();
        let text = |name| {
            let value = response.headers().get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let (retry_after, location) = (text(header::RETRY_AFTER), text(header::LOCATION));
        let body = self.read(response.body_mut(), status)?;
        Ok(Response {
            status: status.as_u16(),
            retry_after,
            location,
            body,
        })
    }

    fn read(&self, body: &mut Body, status: StatusCode) -> Result<Vec<u8>, Failure> {
        if !status.is_success() {
            // Whatever can be had of an error is better than an error about the error.
            use std::io::Read;
            let mut start = Vec::new();
            let mut reader = body.as_reader().take(MAX_ERROR_BYTES);
            if let Err(error) = reader.read_to_end(&mut start) {
                log::debug!("the text of an error broke off: {}", error.kind());
            }
            return Ok(start);
        }
        if let Some(length) = body
            .content_length()
            .filter(|length| *length > MAX_BODY_BYTES)
        {
            return Err(too_large(&format!("{length}")));
        }
        let read = body.with_config().limit(MAX_BODY_BYTES).read_to_vec();
        read.map_err(|error| self.failure(&error))
    }

    fn failure(&self, error: &Error) -> Failure {
        let words = self.cleaner().words(&error.to_string());
        let reason = match error {
            Error::Timeout(_) => FailureReason::Timeout,
            Error::Io(error) if error.kind() == ErrorKind::TimedOut => FailureReason::Timeout,
            // A certificate that is not trusted and bytes that are no TLS arrive as this.
            Error::Io(error) if error.kind() == ErrorKind::InvalidData => FailureReason::Tls,
            Error::Tls(_) | Error::Rustls(_) | Error::Pem(_) | Error::TlsRequired => {
                FailureReason::Tls
            }
            Error::Io(_)
            | Error::HostNotFound
            | Error::ConnectionFailed
            | Error::ConnectProxyFailed(_) => FailureReason::Connection,
            Error::BodyExceedsLimit(_) => return too_large(&format!("more than {MAX_BODY_BYTES}")),
            _ => FailureReason::BadHttp,
        };
        Failure::new(reason, words)
    }
}

/// Certificates are checked by the system's own rules, so that a company's authority counts as it does elsewhere.
fn system_roots() -> TlsConfig {
    TlsConfig::builder()
        .root_certs(RootCerts::PlatformVerifier)
        .build()
}

fn too_large(found: &str) -> Failure {
    let words = format!("a body of {found} bytes, expected at most {MAX_BODY_BYTES}");
    Failure::new(FailureReason::TooLarge, words)
}
