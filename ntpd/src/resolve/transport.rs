//! How queries get to name servers.

use std::{io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use hickory_resolver::{
    NameServerPool, PoolContext, TlsConfig,
    config::{ConnectionConfig, NameServerConfig, ResolverOpts},
    net::{
        DnsHandle, NetError, RetryDnsHandle,
        runtime::{RuntimeProvider, Time, TokioRuntimeProvider, TokioTime},
        xfer::FirstAnswer as _,
    },
    proto::{
        op::{DnsRequest, DnsRequestOptions, DnsResponse, Query},
        rr::{self, RecordType},
    },
};

use crate::now;

/// How long one query to one name server may take.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a query is sent again.
const RETRIES: usize = 1;

/// By what a query goes to a name server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// UDP, and TCP for those answers that come cut.
    Udp,
    /// TCP alone.
    Tcp,
}

/// The name servers, each asked once more if it does not answer.
pub(super) fn handle(
    servers: &[SocketAddr],
    transport: Transport,
) -> Result<RetryDnsHandle<NameServerPool<Runtime>>, NetError> {
    let mut options = ResolverOpts::default();
    options.timeout = QUERY_TIMEOUT;
    let context = Arc::new(PoolContext::new(options, TlsConfig::new()?));
    let servers = servers.iter().map(|address| {
        let mut connections = match transport {
            Transport::Udp => vec![ConnectionConfig::udp(), ConnectionConfig::tcp()],
            Transport::Tcp => vec![ConnectionConfig::tcp()],
        };
        connections.iter_mut().for_each(|connection| connection.port = address.port());
        NameServerConfig::new(address.ip(), true, connections)
    });
    let pool = NameServerPool::from_config(servers, context, Runtime::default());
    Ok(RetryDnsHandle::new(pool, RETRIES))
}

/// Asks name servers to leave the checking to us.
///
/// RFC 4035 section 4.9.2: "A validating security-aware stub resolver SHOULD set the CD bit". The library clears it. A
/// resolver on the way would keep back what it finds wrong by its own keys and its own clock, and systemd-resolved leaves
/// signatures out of all other answers.
#[derive(Clone)]
pub(super) struct Unchecked<H>(pub(super) H);

impl<H: DnsHandle> DnsHandle for Unchecked<H> {
    type Response = H::Response;
    type Runtime = H::Runtime;

    fn is_using_edns(&self) -> bool {
        self.0.is_using_edns()
    }

    fn send(&self, mut request: DnsRequest) -> Self::Response {
        request.metadata.checking_disabled = true;
        self.0.send(request)
    }
}

/// Asks for records and their signatures.
pub(super) async fn lookup(handle: impl DnsHandle, name: rr::Name, kind: RecordType) -> Result<DnsResponse, NetError> {
    let mut options = DnsRequestOptions::default();
    options.use_edns = true;
    options.edns_set_dnssec_ok = true;
    handle.lookup(Query::query(name, kind), options).first_answer().await
}

tokio::task_local! {
    /// The time, in seconds since 1970, at which the signatures of the question in progress are judged. The library asks
    /// for the time in the task that waits for its answer.
    pub(super) static JUDGED_AT: u64;
}

/// tokio, but for the time of day.
#[derive(Clone, Default)]
pub(super) struct Runtime(TokioRuntimeProvider);

impl RuntimeProvider for Runtime {
    type Handle = <TokioRuntimeProvider as RuntimeProvider>::Handle;
    type Timer = Timer;
    type Udp = <TokioRuntimeProvider as RuntimeProvider>::Udp;
    type Tcp = <TokioRuntimeProvider as RuntimeProvider>::Tcp;

    fn create_handle(&self) -> Self::Handle {
        self.0.create_handle()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        bind: Option<SocketAddr>,
        timeout: Option<Duration>,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<Self::Tcp>>>> {
        self.0.connect_tcp(server, bind, timeout)
    }

    fn bind_udp(
        &self,
        local: SocketAddr,
        server: SocketAddr,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<Self::Udp>>>> {
        self.0.bind_udp(local, server)
    }
}

/// tokio's timer with the daemon's own idea of the time of day, which may be better than the machine's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timer;

impl Time for Timer {
    fn delay_for<'a>(duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        TokioTime::delay_for(duration)
    }

    fn timeout<'a, F>(duration: Duration, future: F) -> Pin<Box<dyn Future<Output = io::Result<F::Output>> + Send + 'a>>
    where
        F: 'static + Future + Send + 'a,
    {
        TokioTime::timeout(duration, future)
    }

    fn current_time() -> u64 {
        JUDGED_AT.try_with(|at| *at).unwrap_or_else(|_| u64::try_from(now::unix().seconds).unwrap_or(0))
    }
}
