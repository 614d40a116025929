//! What a state says of how queries are taken.

use super::*;

#[test]
fn a_new_limit_and_new_secrets_hold_from_the_next_state_on() {
    let mut server = pool();
    let zones = server.responder.state.zones.clone();
    let burst = |server: &mut Server| {
        let message = query("time.example.", RecordType::SOA, false).to_vec().unwrap();
        (0..1_000).filter(|_| server.raw(&message).is_some()).count()
    };
    let state = |limit| Arc::new(State { zones: zones.clone(), rules: Rules { limit, secrets: None } });
    server.responder.set_state(state(Some(LimitSettings { rate: 0, slip: 0 })));
    assert_eq!(burst(&mut server), 1_000);
    server.responder.set_state(state(Some(LimitSettings { rate: 5, slip: 0 })));
    assert_eq!(burst(&mut server), 10);
    // Another state of the zones alone forgets nothing.
    server.responder.set_state(state(Some(LimitSettings { rate: 5, slip: 0 })));
    server.responder.set_state(state(None));
    assert_eq!(burst(&mut server), 0);
}
