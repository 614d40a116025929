//! A probe as users are served: keys are handed over, and cookies for them come back.

use ntp_proto::{nts::AeadAlgorithm, time::Monotonic};
use nts_ke::{error::KeError, message::NTPV4, pool::FixedKeys, upstream::Answer};
use pool_srv::directory::{Member, Token};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::{KE_DEADLINE, QUEUEING, addresses_of, not_tried};
use crate::balance::{
    Shared,
    assign::{Terms, grant},
    connection::Connection,
    now,
    trouble::Trouble,
};

/// The algorithm that every server has (RFC 8915 section 5.1).
const ALGORITHM: AeadAlgorithm = AeadAlgorithm::AesSivCmac256;

/// Hands over keys that are nobody's, over a connection of its own: what is wrong with kept ones shows with users.
pub(super) async fn hand_over(shared: &Shared, member: &Member) -> Result<(), Trouble> {
    // Until the member has taken the token, the connection counts as any host's there.
    let place = timeout(QUEUEING, shared.dials.of(&member.name).acquire_owned()).await;
    let _place = place.ok().and_then(Result::ok).ok_or(Trouble::Skipped("others connect to it"))?;
    // That others were there before is no fault of the member.
    let by = now::monotonic() + KE_DEADLINE;
    let mut trouble = None;
    let addresses = addresses_of(member, &shared.config, by).await?;
    let count = u32::try_from(addresses.len()).unwrap_or(1).max(1);
    for (address, left) in addresses.into_iter().zip((1..=count).rev()) {
        match Connection::open(shared, member, address, now::monotonic() + now::until(by) / left).await {
            Ok(connection) => return ask(shared, member, connection, by).await,
            Err(failed) => trouble = Some(Trouble::or(trouble, failed)),
        }
    }
    Err(trouble.unwrap_or_else(not_tried))
}

async fn ask(shared: &Shared, member: &Member, mut connection: Connection, by: Monotonic) -> Result<(), Trouble> {
    let token = member.token.as_ref().map(Token::reveal).ok_or(Trouble::Skipped("it has no token"))?;
    let terms = Terms { algorithm: ALGORITHM.id(), key_length: ALGORITHM.key_len(), compliant_export: false };
    let key = || {
        let mut key = Zeroizing::new(vec![0; terms.key_length]);
        getrandom::fill(&mut key).map_err(|error| Trouble::Ours(std::io::Error::other(error)))?;
        Ok::<_, Trouble>(key)
    };
    let keys = FixedKeys { protocol: NTPV4, algorithm: terms.algorithm, c2s: key()?, s2c: key()? };
    match connection.exchange(keys.into(), token, by).await {
        Ok(Answer::Cookies(accepted)) => {
            let fit = grant(&terms, &member.name, member.name.as_str(), &accepted, shared.config.allow_private);
            fit.map(|_| ()).map_err(|unfit| Trouble::Member(unfit.to_string()))
        }
        Ok(Answer::Support(_)) => Err(Trouble::Member("an answer to something else".to_owned())),
        Err(KeError::Eof(_)) => Err(Trouble::Member("it closes the connection when it is handed keys".to_owned())),
        Err(error) => Err(error.into()),
    }
}
