//! What a pool's operator runs: the member directory, the balancer, and the pool's DNS.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr},
};

use pool_lb::balance::{Balancer, config};
use pool_srv::publish::{self, ZoneKey};

use super::{
    folder::Folder,
    pki::{AUTHORITY, Authority},
    plan::{BALANCER, Certified, NAME_SERVER, POOL, SERVERS, address, host},
};
use crate::{
    hex,
    start::{StartError, random_seed},
};

/// The files of the operator.
const MEMBERS: &str = "members.toml";
pub(super) const BALANCER_CONFIG: &str = "nts-pool-lb.toml";
const NAME_SERVER_CONFIG: &str = "nts-pool-srv.toml";
const ZONE_KEY: &str = "zone.key";
/// The file by which the client validates DNSSEC.
pub(super) const ANCHOR: &str = "anchor.key";

/// A server that has joined the pool.
pub(super) struct Joined {
    pub(super) number: u8,
    /// Its certificate and key are in `FILE.pem` and `FILE.key`.
    pub(super) file: String,
    /// The file of the token that it shares with the balancer.
    pub(super) token: String,
    /// What its certificate is pinned to.
    pub(super) tlsa: String,
}

/// Makes the certificates of the servers, and their tokens.
pub(super) fn join(certified: Certified, folder: &Folder, authority: &Authority) -> Result<Vec<Joined>, StartError> {
    let shared = match certified {
        Certified::Pool => {
            let all = [POOL.to_owned()].into_iter().chain((1..=SERVERS).map(host)).collect();
            Some((POOL.to_owned(), authority.certify(folder, POOL, all)?))
        }
        Certified::Host | Certified::Address => None,
    };
    let join = |number| {
        let name = host(number);
        let token = format!("{name}.token");
        folder.write(&token, &format!("{}\n", hex::encode(&random_seed()?)))?;
        let (file, tlsa) = match &shared {
            Some(shared) => shared.clone(),
            None => {
                let address = (certified == Certified::Address).then(|| address(number).to_string());
                let tlsa = authority.certify(folder, &name, [name.clone()].into_iter().chain(address).collect())?;
                (name, tlsa)
            }
        };
        Ok(Joined { number, file, token, tlsa })
    };
    (1..=SERVERS).map(join).collect()
}

/// Writes the member directory, which balancer and DNS read.
pub(super) fn write_members(folder: &Folder, members: &[Joined], ke_port: u16) -> Result<(), StartError> {
    let mut text = String::new();
    for Joined { number, token, tlsa, .. } in members {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "[[member]]\nname = \"{}\"\nport = {ke_port}\naddresses = [\"{}\"]\ntoken-file = \"{token}\"\ntlsa = \
             [\"{tlsa}\"]\n\n",
            host(*number),
            address(*number),
        );
    }
    folder.write(MEMBERS, &text)
}

/// Starts the balancer. It does not probe: the liar is left to the client.
pub(super) fn balance(folder: &Folder, authority: &Authority) -> Result<Balancer, StartError> {
    authority.certify(folder, POOL, vec![POOL.to_owned()])?;
    folder.write(
        BALANCER_CONFIG,
        &format!(
            "listen = [\"{BALANCER}:0\"]\ncertificate = \"{POOL}.pem\"\nprivate-key = \"{POOL}.key\"\nmembers = \
             \"{MEMBERS}\"\ntrust = \"file\"\ntrust-file = \"{AUTHORITY}\"\nworkers = 1\nallow-private = true\n\
             control-socket = \"nts-pool-lb.sock\"\n\n[probe]\ninterval = 0.0\n"
        ),
    )?;
    let config = config::load(&folder.path(BALANCER_CONFIG)).map_err(StartError::new)?;
    Balancer::start(config).map_err(StartError::new)
}

/// Makes a key, signs the zone of the pool with it, and answers queries for as long as the runtime lives.
pub(super) async fn publish(folder: &Folder, addresses: &[Ipv4Addr]) -> Result<SocketAddr, StartError> {
    let key = ZoneKey::generate().map_err(StartError::new)?;
    folder.write(ZONE_KEY, &key)?;
    let key = ZoneKey::from_pem(&folder.path(ZONE_KEY), key.as_bytes()).map_err(StartError::new)?;
    folder.write(ANCHOR, &format!("{POOL}. 3600 IN DNSKEY {}\n", key.dnskey_text()))?;
    folder.write(
        NAME_SERVER_CONFIG,
        &format!(
            "listen = [\"{NAME_SERVER}:0\"]\n\n[[zone]]\nname = \"{POOL}\"\nmembers = \"{MEMBERS}\"\nkey = \
             \"{ZONE_KEY}\"\nname-servers = [{{ name = \"ns.{POOL}\", addresses = [\"{NAME_SERVER}\"] }}]\naddresses = \
             {addresses:?}\n",
            addresses = addresses.iter().map(ToString::to_string).collect::<Vec<_>>()
        ),
    )?;
    let server = publish::Server::start(&folder.path(NAME_SERVER_CONFIG)).await.map_err(StartError::new)?;
    let address = server.addresses().first().copied();
    tokio::spawn(server.follow());
    address.ok_or_else(|| StartError::new("the name server has no address"))
}
