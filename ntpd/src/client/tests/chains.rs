//! What certificates and records say of the time comes with the answers.

use ntp_proto::bootstrap::Window;

use super::*;
use crate::{
    ke::connect::tests::{Pki, serve},
    resolve::tests::vouching,
};

/// When signatures of service records here begin: 2024-01-02, a day after all others.
const SIGNED: i64 = 1_704_153_600;

/// The next answer, taken by the loop; what it says of the time, by certificates and by service records.
async fn next(client: &mut Client) -> (Option<Window>, Option<Window>) {
    loop {
        let event = client.inbox.recv().await.unwrap();
        let Event::Answered { answered, .. } = &event else { continue };
        let said = answered.said();
        client.handle(event);
        client.drain();
        return said;
    }
}

#[test]
fn records_that_named_a_server_bound_the_time_with_its_certificate() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let pki = Pki::new();
        let server = serve(pki.server(), "127.0.0.1:0").await;
        let resolver = vouching(server.port(), 3, &pki.chain[0]).await;
        let config = Config::parse("test", "[[pool]]\nname = \"pool.test\"\nmode = \"srv\"\ncount = 1\n").unwrap();
        let parts = Parts {
            clock: LocalClock::Soft(SoftClock::new()),
            exchanger: KeyExchanger::with_roots(pki.roots(), resolver.clone()).unwrap(),
            resolver,
            status: Arc::new(StatusCell::default()),
            state: None,
            known: KNOWN,
            precision: -20,
            refclocks: Opened::default(),
            hardware: Hardware::default(),
            seed: [1; 32],
        };
        let mut client = Client::new(&config, &[], parts);
        let (None, Some(records)) = next(&mut client).await else { panic!("no records") };
        assert_eq!(records.not_before, SIGNED);
        let (Some(chain), None) = next(&mut client).await else { panic!("no keys") };
        assert_eq!(chain, records, "nothing but records counts here, and that for the certificate begins earlier");
    });
}
