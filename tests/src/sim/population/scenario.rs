//! What happens to a population.

/// How clients find servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModeName {
    /// By service records.
    Srv,
    /// By a balancer.
    Lb,
    /// By addresses, with plain NTP.
    Classic,
    /// By whatever the name offers.
    Auto(Offer),
}

/// What a name offers to `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// Signed service records.
    Srv,
    /// A balancer, and no service records.
    Lb,
    /// Addresses only.
    Classic,
}

impl ModeName {
    /// What the pool offers.
    #[must_use]
    pub const fn offer(self) -> Offer {
        match self {
            Self::Srv | Self::Auto(Offer::Srv) => Offer::Srv,
            Self::Lb | Self::Auto(Offer::Lb) => Offer::Lb,
            Self::Classic | Self::Auto(Offer::Classic) => Offer::Classic,
        }
    }

    /// Its word in tables.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Srv => "srv",
            Self::Lb => "lb",
            Self::Classic => "classic",
            Self::Auto(Offer::Srv) => "auto (srv)",
            Self::Auto(Offer::Lb) => "auto (lb)",
            Self::Auto(Offer::Classic) => "auto (classic)",
        }
    }
}

/// Something that happens to the pool or to everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incident {
    /// A member stops answering, and the operator notices.
    Dies(usize),
    /// A member is no longer listed, but goes on answering.
    Leaves(usize),
    /// A member loses its cookie keys: every cookie gets a NAK.
    ForgetsKeys(usize),
    /// All clients lose power without saving anything, and start again within a minute.
    PowerCut,
    /// No key exchange succeeds any more (a certificate that ran out, say), or they do again.
    ExchangesFail(bool),
    /// No name can be resolved any more, or they can again.
    NamesFail(bool),
}

/// A population and its days.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// How clients find servers.
    pub mode: ModeName,
    /// How many clients there are.
    pub clients: usize,
    /// How many members each wants.
    pub wanted: usize,
    /// How many members the pool has, 250 at most.
    pub members: usize,
    /// How many of them one answer of the name server lists.
    pub listed: usize,
    /// Lifetime of the pool's records, in seconds.
    pub ttl: u32,
    /// Probability that a packet is lost, each way.
    pub loss: f64,
    /// Clients that share a caching resolver.
    pub clients_per_resolver: usize,
    /// Mean number of restarts of each client in a day.
    pub restarts: f64,
    /// Whether it saves its state before them.
    pub saved: bool,
    /// Clients sleep two hours of three, in stretches of random length.
    pub laptops: bool,
    /// Shortest and longest poll interval, log2 seconds.
    pub polls: (i8, i8),
    /// For how many days it goes on.
    pub days: f64,
    /// What happens, and when, in seconds since the beginning; in order of time.
    pub incidents: Vec<(f64, Incident)>,
}

impl Scenario {
    /// Twenty desktops for a day, each with 4 of 40 members, without loss or restarts.
    #[must_use]
    pub const fn new(mode: ModeName) -> Self {
        Self {
            mode,
            clients: 20,
            wanted: 4,
            members: 40,
            listed: 8,
            ttl: 3_600,
            loss: 0.0,
            clients_per_resolver: 10,
            restarts: 0.0,
            saved: true,
            laptops: false,
            polls: (6, 10),
            days: 1.0,
            incidents: Vec::new(),
        }
    }
}
