//! Everything that a client needs around it.

use std::net::SocketAddr;

use ntp_proto::{nts::Keyring, time::NtpDuration};
use nts_ke::server::Deadlines;
use pool_lb::balance::Balancer;

use super::{
    folder::Folder,
    pki::Authority,
    plan::{BALANCER, LIE, Plan, SERVERS, address},
    pool::{self, Joined},
};
use crate::{
    config::DEFAULT_AEADS,
    ke::{
        accept::{KeServer, Options},
        admission::Limits,
        pair::Identity,
    },
    serve::Server,
    start::{StartError, random_seed},
};

/// How often another port is tried: somebody else may have the one that was chosen at one of the addresses.
const TRIES: usize = 8;

/// Four servers, and what leads to them. What comes first is dropped first, the folder last.
pub(super) struct Stage {
    pub(super) plan: Plan,
    pub(super) name_server: SocketAddr,
    balancer: Option<Balancer>,
    exchanges: Vec<KeServer>,
    servers: Vec<Server>,
    pub(super) ntp_port: u16,
    pub(super) folder: Folder,
}

impl Stage {
    /// Makes keys and certificates, and starts everything.
    pub(super) async fn build(plan: Plan) -> Result<Self, StartError> {
        let folder = Folder::new()?;
        let authority = Authority::new(&folder)?;
        let joined = pool::join(plan.certified, &folder, &authority)?;
        let keyrings = joined.iter().map(|_| Ok(Keyring::new(&random_seed()?)));
        let keyrings: Vec<_> = keyrings.collect::<Result<_, StartError>>()?;
        let members = || joined.iter().zip(&keyrings);
        let (servers, ntp_port) = on_one_port(members, |member, port, keyring| {
            let ahead = NtpDuration::from_seconds(if member.number == SERVERS { LIE } else { 0.0 });
            let listen = SocketAddr::new(address(member.number).into(), port);
            let server = Server::reference(listen, Some(keyring), ahead).map_err(StartError::new)?;
            let port = server.addresses().first().map_or(0, SocketAddr::port);
            Ok((server, port))
        })?;
        let (exchanges, ke_port) = on_one_port(members, |member, port, keyring| {
            let listen = SocketAddr::new(address(member.number).into(), port);
            let server = exchange(&folder, &member.file, Some(&member.token), listen, ntp_port, keyring)?;
            let port = server.addresses().first().map_or(0, SocketAddr::port);
            Ok((server, port))
        })?;
        pool::write_members(&folder, &joined, ke_port)?;
        let balancer = if plan.balanced { Some(pool::balance(&folder, &authority)?) } else { None };
        let leads_to = if plan.balanced { vec![BALANCER] } else { (1..=SERVERS).map(address).collect() };
        let name_server = pool::publish(&folder, &leads_to).await?;
        Ok(Self { plan, name_server, balancer, exchanges, servers, ntp_port, folder })
    }

    /// How many servers there are.
    pub(super) fn count(&self) -> usize {
        self.servers.len()
    }

    /// Where keys are exchanged with the pool's name.
    pub(super) fn ke_port(&self) -> u16 {
        let balancer = self.balancer.as_ref().and_then(|balancer| balancer.addresses().first());
        balancer.map_or_else(|| self.members_ke_port(), SocketAddr::port)
    }

    /// Where the servers themselves exchange keys.
    pub(super) fn members_ke_port(&self) -> u16 {
        self.exchanges
            .first()
            .and_then(|server| server.addresses().first().copied())
            .map_or(0, |address| address.port())
    }

    /// Where the pool's name leads.
    pub(super) fn leads_to(&self) -> String {
        if self.balancer.is_some() { BALANCER.to_string() } else { format!("{} to {}", address(1), address(SERVERS)) }
    }
}

/// Starts one thing at the address of each server, all on one port.
fn on_one_port<'a, T, I: Iterator<Item = (&'a Joined, &'a Keyring)>>(
    members: impl Fn() -> I,
    start: impl Fn(&Joined, u16, Keyring) -> Result<(T, u16), StartError>,
) -> Result<(Vec<T>, u16), StartError> {
    let mut trouble = StartError::new("no server");
    for _ in 0..TRIES {
        let mut port = 0;
        let started = members().map(|(member, keyring)| {
            let (one, chosen) = start(member, port, keyring.clone())?;
            port = chosen;
            Ok(one)
        });
        match started.collect::<Result<Vec<_>, StartError>>() {
            Ok(started) => return Ok((started, port)),
            Err(error) => trouble = error,
        }
    }
    Err(trouble)
}

/// Starts the key exchange of one server, with the certificate and key in `FILE.pem` and `FILE.key`.
pub(super) fn exchange(
    folder: &Folder,
    file: &str,
    token: Option<&str>,
    listen: SocketAddr,
    ntp_port: u16,
    keyring: Keyring,
) -> Result<KeServer, StartError> {
    let options = Options {
        listen: vec![listen],
        identity: Identity {
            certificate: folder.path(&format!("{file}.pem")),
            private_key: folder.path(&format!("{file}.key")),
            ntp_server: None,
            ntp_port: Some(ntp_port),
            aeads: DEFAULT_AEADS.to_vec(),
            pool_tokens: token.map(|token| folder.path(token)),
        },
        limits: Limits::default(),
        deadlines: Deadlines::default(),
    };
    KeServer::start(options, keyring, None).map_err(StartError::new)
}
