//! Everything that a client needs around it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ntp_proto::{nts::Keyring, time::NtpDuration};
use nts_ke::server::Deadlines;
use pool_lb::balance::{Balancer, metrics::Counter};

use super::{
    folder::Folder,
    pki::Authority,
    plan::{BALANCER, Certified, LIE, POOL, Plan, SERVERS, address, host},
    pool::{self, Joined},
};
use crate::{
    config::DEFAULT_AEADS,
    hex,
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
    ke_port: u16,
    servers: Vec<Server>,
    pub(super) ntp_port: u16,
    pub(super) folder: Folder,
}

impl Stage {
    /// Makes keys and certificates, and starts everything.
    pub(super) async fn build(plan: Plan) -> Result<Self, StartError> {
        let folder = Folder::new()?;
        let authority = Authority::new(&folder)?;
        let keyrings: Vec<_> =
            (0..SERVERS).map(|_| Ok(Keyring::new(&random_seed()?))).collect::<Result<_, StartError>>()?;
        let (servers, ntp_port) = on_one_port(&keyrings, |number, port, keyring| {
            let ahead = NtpDuration::from_seconds(if number == SERVERS { LIE } else { 0.0 });
            let listen = SocketAddr::new(address(number).into(), port);
            let server = Server::reference(listen, Some(keyring), ahead).map_err(StartError::new)?;
            let port = server.addresses().first().map_or(0, SocketAddr::port);
            Ok((server, port))
        })?;
        let joined = certify(&plan, &folder, &authority)?;
        let (exchanges, ke_port) = if plan.certified == Certified::Nothing {
            (Vec::new(), 0)
        } else {
            on_one_port(&keyrings, |number, port, keyring| exchange(&plan, &folder, number, (port, ntp_port), keyring))?
        };
        pool::write_members(&folder, &joined, ke_port)?;
        let balancer = if plan.has_members() { Some(pool::balance(&folder, &authority)?) } else { None };
        let leads_to = if balancer.is_some() { vec![BALANCER] } else { (1..=SERVERS).map(address).collect() };
        let leads_to: Vec<IpAddr> = leads_to.into_iter().map(IpAddr::V4).collect();
        let name_server = pool::publish(&folder, &leads_to).await?;
        Ok(Self { plan, name_server, balancer, exchanges, ke_port, servers, ntp_port, folder })
    }

    /// How many servers there are.
    pub(super) fn count(&self) -> usize {
        self.servers.len()
    }

    /// Where keys are exchanged with the pool's name, if they are.
    pub(super) fn ke_port(&self) -> Option<u16> {
        let balancer = self.balancer.as_ref().and_then(|balancer| balancer.addresses().first());
        balancer.map(SocketAddr::port).or_else(|| self.members_ke_port())
    }

    /// Where the servers themselves exchange keys, if they do.
    pub(super) fn members_ke_port(&self) -> Option<u16> {
        (!self.exchanges.is_empty()).then_some(self.ke_port)
    }

    /// Where the pool's name leads.
    pub(super) fn leads_to(&self) -> String {
        if self.balancer.is_some() { BALANCER.to_string() } else { format!("{} to {}", address(1), address(SERVERS)) }
    }

    /// Users whose keys the balancer has handed to a member, if there is a balancer.
    pub(super) fn balanced(&self) -> Option<u64> {
        self.balancer.as_ref().map(|balancer| balancer.metrics().get(Counter::Served))
    }
}

/// Starts one thing at each server's address, all on one port.
fn on_one_port<T>(
    keyrings: &[Keyring],
    start: impl Fn(u8, u16, Keyring) -> Result<(T, u16), StartError>,
) -> Result<(Vec<T>, u16), StartError> {
    let mut trouble = StartError::new("no server");
    for _ in 0..TRIES {
        let mut port = 0;
        let started = (1..).zip(keyrings).map(|(number, keyring)| {
            let (one, chosen) = start(number, port, keyring.clone())?;
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

/// Makes the certificates of the servers, and the tokens of those that join the balancer.
fn certify(plan: &Plan, folder: &Folder, authority: &Authority) -> Result<Vec<Joined>, StartError> {
    let mut joined = Vec::new();
    match plan.certified {
        Certified::Host => {
            for number in 1..=SERVERS {
                let tlsa = authority.certify(folder, &host(number), &host(number))?;
                let token = format!("{}.token", host(number));
                folder.write(&token, &format!("{}\n", hex::encode(&random_seed()?)))?;
                joined.push(Joined { number, token, tlsa });
            }
        }
        Certified::Pool => drop(authority.certify(folder, POOL, POOL)?),
        Certified::Address => {
            for number in 1..=SERVERS {
                authority.certify(folder, &host(number), &address(number).to_string())?;
            }
        }
        Certified::Nothing => {}
    }
    Ok(joined)
}

/// Starts the key exchange of one server.
fn exchange(
    plan: &Plan,
    folder: &Folder,
    number: u8,
    (port, ntp_port): (u16, u16),
    keyring: Keyring,
) -> Result<(KeServer, u16), StartError> {
    let name = if plan.certified == Certified::Pool { POOL.to_owned() } else { host(number) };
    let address: Ipv4Addr = address(number);
    let options = Options {
        listen: vec![SocketAddr::new(address.into(), port)],
        identity: Identity {
            certificate: folder.path(&format!("{name}.pem")),
            private_key: folder.path(&format!("{name}.key")),
            ntp_server: None,
            ntp_port: Some(ntp_port),
            aeads: DEFAULT_AEADS.to_vec(),
            pool_tokens: plan.has_members().then(|| folder.path(&format!("{name}.token"))),
        },
        limits: Limits::default(),
        deadlines: Deadlines::default(),
    };
    let server = KeServer::start(options, keyring, None).map_err(StartError::new)?;
    let port = server.addresses().first().map_or(0, SocketAddr::port);
    Ok((server, port))
}
