//! What may change while the server runs.

use std::{fmt, sync::Arc};

use ntp_proto::{
    nts::Keyring,
    server::{Access, AccessTable, Prefix, RateLimit, Responder, TooManyKeys, TooManyRules},
    wire::SymmetricKey,
};

use super::ClientLog;
use crate::config;

/// Whom the server answers and with which keys. The threads take one of these as a whole, so that a change is made
/// completely or not at all.
#[derive(Clone, Debug)]
pub struct Settings {
    access: AccessTable,
    keys: Vec<SymmetricKey>,
    keyring: Option<Keyring>,
    rate_limit: Option<RateLimit>,
    client_log: Option<Arc<ClientLog>>,
}

/// Settings that the server cannot use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingsError {
    /// Too many ranges of addresses.
    Rules(TooManyRules),
    /// Too many symmetric keys.
    Keys(TooManyKeys),
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rules(error) => error.fmt(f),
            Self::Keys(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SettingsError {}

impl From<TooManyRules> for SettingsError {
    fn from(error: TooManyRules) -> Self {
        Self::Rules(error)
    }
}

impl From<TooManyKeys> for SettingsError {
    fn from(error: TooManyKeys) -> Self {
        Self::Keys(error)
    }
}

impl Settings {
    /// Plain NTP for whom `access` allows, without a rate limit.
    #[must_use]
    pub const fn new(access: AccessTable) -> Self {
        Self { access, keys: Vec::new(), keyring: None, rate_limit: None, client_log: None }
    }

    /// What a configuration says.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] if there is more of something than the server has room for.
    pub fn from_config(serve: &config::Serve, keys: Vec<SymmetricKey>) -> Result<Self, SettingsError> {
        let mut access = AccessTable::new();
        // Denials last: of two rules about one range the later counts.
        let allowed = serve.access.allow.iter().map(|range| (range, Access::Allow));
        for (range, rule) in allowed.chain(serve.access.deny.iter().map(|range| (range, Access::Deny))) {
            if let Some(prefix) = Prefix::new(range.addr(), range.prefix_len()) {
                access.add(prefix, rule)?;
            }
        }
        Self::new(access).with_rate_limit(serve.rate_limit).with_keys(keys)
    }

    /// Changes who is answered.
    #[must_use]
    pub fn with_access(self, access: AccessTable) -> Self {
        Self { access, ..self }
    }

    /// Changes the symmetric keys.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] if there are more than [`Responder::MAX_KEYS`].
    pub fn with_keys(self, keys: Vec<SymmetricKey>) -> Result<Self, SettingsError> {
        if keys.len() > Responder::MAX_KEYS {
            return Err(TooManyKeys.into());
        }
        Ok(Self { keys, ..self })
    }

    /// Changes the keys of cookies; without any, NTS is not served.
    #[must_use]
    pub fn with_keyring(self, keyring: Option<Keyring>) -> Self {
        Self { keyring, ..self }
    }

    /// Changes the rate limit.
    #[must_use]
    pub fn with_rate_limit(self, rate_limit: Option<RateLimit>) -> Self {
        Self { rate_limit, ..self }
    }

    /// Has a server that is started with these take note of who asks; one that runs goes on as it did.
    #[must_use]
    pub fn with_client_log(self, client_log: Option<Arc<ClientLog>>) -> Self {
        Self { client_log, ..self }
    }

    /// Where a server that is started with these takes note of who asks.
    pub(super) const fn client_log(&self) -> Option<&Arc<ClientLog>> {
        self.client_log.as_ref()
    }

    /// The rate limit.
    #[must_use]
    pub const fn rate_limit(&self) -> Option<RateLimit> {
        self.rate_limit
    }

    /// The keys of cookies.
    #[must_use]
    pub const fn keyring(&self) -> Option<&Keyring> {
        self.keyring.as_ref()
    }

    /// Gives all but the rate limit to a thread's responder.
    pub(super) fn apply(&self, responder: &mut Responder<'_>) {
        responder.set_access(self.access.clone());
        responder.set_keyring(self.keyring.clone());
        // Their number was checked when they came in.
        let _ = responder.set_keys(&self.keys);
    }
}

#[cfg(test)]
mod tests {
    use ntp_proto::{ids::KeyId, wire::MacAlgorithm};

    use super::*;

    fn serve(allow: &[&str], deny: &[&str]) -> config::Serve {
        let ranges = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        config::Serve {
            listen: Vec::new(),
            access: config::AccessRules { allow: ranges(allow), deny: ranges(deny) },
            local: None,
            smear: false,
            client_log: 0,
            rate_limit: None,
            threads: 1,
            nts: None,
        }
    }

    #[test]
    fn the_longer_range_counts_and_denial_among_equals() {
        let serve = serve(&["0.0.0.0/0", "192.0.2.7/32"], &["192.0.2.0/24", "192.0.2.7/32"]);
        let settings = Settings::from_config(&serve, Vec::new()).unwrap();
        for (address, allowed) in [("198.51.100.1", true), ("192.0.2.1", false), ("192.0.2.7", false), ("::1", false)] {
            assert_eq!(settings.access.allows(address.parse().unwrap()), allowed, "{address}");
        }
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let many: Vec<String> = (0..=AccessTable::CAPACITY).map(|n| format!("10.0.{n}.0/24")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let error = Settings::from_config(&serve(&many, &[]), Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "more than 128 access rules");

        let key = SymmetricKey::new(KeyId(1), MacAlgorithm::Sha1, &[1; 20]).unwrap();
        let fits = vec![key.clone(); Responder::MAX_KEYS];
        assert!(Settings::from_config(&serve(&[], &[]), fits.clone()).is_ok());
        let error = Settings::from_config(&serve(&[], &[]), [fits, vec![key]].concat()).unwrap_err();
        assert_eq!(error.to_string(), "more than 64 symmetric keys");
    }
}
