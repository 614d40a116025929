//! Files that are fetched: a member directory or a health report that another machine publishes by HTTPS.
//!
//! What was fetched is kept as a file, checked before and replaced as a whole. Everything else reads that file: a publisher
//! that is away, or publishes rubbish, leaves the last good state in force, over restarts too.

use std::{
    fmt, fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::crypto::aws_lc_rs;
use ureq::{
    Agent,
    http::{HeaderName, HeaderValue, Response, StatusCode, Uri},
    tls::{Certificate, RootCerts, TlsConfig, TlsProvider},
};

use super::{MAX_BYTES, Problem};

/// How long one attempt may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longest entity tag that is kept.
const MAX_TAG: usize = 256;

/// Says what is wrong with a text, if anything is.
pub type Check = fn(&Path, &str) -> Result<(), Problem>;

/// One file and where it comes from.
pub struct Fetcher {
    url: String,
    file: PathBuf,
    check: Check,
    agent: Agent,
    /// The entity tag (RFC 9110 section 8.8.3) of what the file holds.
    tag: Option<String>,
    credential: Option<Credential>,
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetcher").field("url", &self.url).field("file", &self.file).finish_non_exhaustive()
    }
}

/// A header that shows who asks, such as `Authorization: Bearer …`.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    name: HeaderName,
    value: HeaderValue,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Credential {
    /// Reads a line `Name: value`.
    ///
    /// # Errors
    ///
    /// What is accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "no header; accepted: one line such as `Authorization: Bearer …`".to_owned();
        let (name, value) = text.trim().split_once(':').ok_or_else(wrong)?;
        let name = HeaderName::try_from(name.trim()).map_err(|_| wrong())?;
        let mut value = HeaderValue::try_from(value.trim()).map_err(|_| wrong())?;
        value.set_sensitive(true);
        Ok(Self { name, value })
    }
}

/// An address that nothing is fetched from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidUrl(pub String);

impl fmt::Display for InvalidUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} cannot be fetched; accepted: https://…, or http:// at an address of loopback", self.0)
    }
}

impl core::error::Error for InvalidUrl {}

impl Fetcher {
    /// Fetches `url` to `file`. Certificates must lead to the system's roots, or to those of `roots` (PEM).
    ///
    /// # Errors
    ///
    /// [`InvalidUrl`] if it is neither HTTPS nor on this machine: a directory holds secrets.
    pub fn new(url: &str, file: &Path, roots: Option<&[u8]>, check: Check) -> Result<Self, InvalidUrl> {
        let invalid = || InvalidUrl(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        let host = uri.host().ok_or_else(invalid)?.trim_matches(['[', ']']);
        let local = host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if local => {}
            _ => return Err(invalid()),
        }
        let roots: Vec<Certificate<'static>> = match roots {
            Some(pem) => ureq::tls::parse_pem(pem)
                .filter_map(|item| match item {
                    Ok(ureq::tls::PemItem::Certificate(certificate)) => Some(certificate),
                    Ok(_) | Err(_) => None,
                })
                .collect(),
            None => rustls_native_certs::load_native_certs()
                .certs
                .iter()
                .map(|certificate| Certificate::from_der(certificate).to_owned())
                .collect(),
        };
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::Specific(Arc::new(roots)))
            .unversioned_rustls_crypto_provider(Arc::new(aws_lc_rs::default_provider()))
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .https_only(!local)
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(PATIENCE))
            .user_agent(concat!("nts-pool/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        let (url, file) = (url.to_owned(), file.to_owned());
        // A tag without its file would keep the file away for ever.
        let tag = file.exists().then(|| fs::read_to_string(tag_file(&file)).ok()).flatten();
        Ok(Self { url, file, check, agent, tag, credential: None })
    }

    /// Has each request carry this.
    #[must_use]
    pub fn with_credential(mut self, credential: Option<Credential>) -> Self {
        self.credential = credential;
        self
    }

    /// Fetches once, and says whether the file is another now. Takes up to 30 seconds: call it where waiting harms nobody.
    ///
    /// # Errors
    ///
    /// [`Problem`] of the address, or of a line of what was fetched; the file is as it was then.
    pub fn refresh(&mut self) -> Result<bool, Problem> {
        let wrong = |what: String| Problem::whole(Path::new(&self.url), what);
        let mut request = self.agent.get(&self.url);
        if let Some(tag) = &self.tag {
            request = request.header("If-None-Match", tag);
        }
        if let Some(Credential { name, value }) = &self.credential {
            request = request.header(name, value);
        }
        let mut response = request.call().map_err(|error| wrong(error.to_string()))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if self.tag.is_some() => return Ok(false),
            status => return Err(wrong(format!("HTTP status {status}; accepted: 200, or 304 for what is known"))),
        }
        let tag = tag_of(&response);
        let text = response.body_mut().with_config().limit(MAX_BYTES).read_to_string();
        let text = text.map_err(|error| wrong(error.to_string()))?;
        (self.check)(Path::new(&self.url), &text)?;
        let same = fs::read_to_string(&self.file).is_ok_and(|old| old == text);
        if !same {
            replace(&self.file, &text).map_err(|error| Problem::whole(&self.file, error))?;
        }
        let kept = tag.as_deref().map_or_else(
            || fs::remove_file(tag_file(&self.file)).or(Ok(())),
            |tag| replace(&tag_file(&self.file), tag),
        );
        // Without it the next start fetches the whole once more, and no harm is done.
        self.tag = kept.is_ok().then_some(tag).flatten();
        Ok(!same)
    }
}

fn tag_of<T>(response: &Response<T>) -> Option<String> {
    let tag = response.headers().get("ETag")?.to_str().ok()?;
    (tag.len() <= MAX_TAG).then(|| tag.to_owned())
}

fn tag_file(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".etag");
    name.into()
}

/// Puts a text in the place of a file as a whole, readable by its owner and group. Several may do so at a time.
///
/// # Errors
///
/// If it cannot be written; the file is as it was then.
pub fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    let mut number = [0; 8];
    getrandom::fill(&mut number).map_err(|error| std::io::Error::other(error.to_string()))?;
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{:016x}.new", u64::from_be_bytes(number)));
    let new = PathBuf::from(name);
    let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o640).open(&new)?;
    let written = out.write_all(text.as_bytes()).and_then(|()| out.sync_all()).and_then(|()| fs::rename(&new, file));
    if written.is_err() {
        // What cannot be taken away is in nobody's way.
        let _: Result<(), _> = fs::remove_file(&new);
    }
    written
}

/// For [`Fetcher::new`]: a member directory that names no files of this machine.
///
/// # Errors
///
/// [`Problem`] with the line of the first mistake.
pub fn check_directory(url: &Path, text: &str) -> Result<(), Problem> {
    super::parse_foreign(url, text).map(drop)
}

/// For [`Fetcher::new`]: a health report.
///
/// # Errors
///
/// [`Problem`] if it is none.
pub fn check_report(url: &Path, text: &str) -> Result<(), Problem> {
    let parsed = super::HealthReport::from_json(text);
    parsed.map(drop).ok_or_else(|| Problem::whole(url, "not a health report; accepted: what nts-pool-lb publishes"))
}

#[cfg(test)]
mod tests;
