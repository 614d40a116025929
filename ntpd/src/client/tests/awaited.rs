//! Names that are not resolved, and what they count for.

use super::*;

/// How many sources the engine counts on that are not there.
fn awaited(bench: &Bench) -> usize {
    bench.client.groups.values().map(Group::missing).sum()
}

fn server(name: &str) -> String {
    format!("[[server]]\naddress = \"{name}\"\nnts = \"off\"\n")
}

fn failed(question: u32) -> Answered {
    Answered::for_test(QuestionId(question), Answer::Failed(Failure::Resolver), None)
}

#[test]
fn a_name_counts_until_it_is_resolved_or_cannot_be_or_is_taken_out() {
    let names = ["192.0.2.1", "a.invalid", "b.invalid", "c.invalid"].map(server).concat();
    let mut bench = Bench::new(&names);
    assert_eq!((bench.sources().len(), awaited(&bench)), (1, 3));
    bench.with(|client| client.handle_answered(1, addresses(0, &["192.0.2.2:123"])));
    assert_eq!((bench.sources().len(), awaited(&bench)), (2, 2));
    bench.with(|client| client.handle_answered(2, failed(0)));
    assert_eq!(awaited(&bench), 1, "there is no waiting for what failed");
    bench.with(|client| client.change(&Change::Offline { source: Some("c.invalid".to_owned()) }).unwrap());
    assert_eq!(awaited(&bench), 0, "nobody asks it");
}

#[test]
fn a_pool_has_as_many_servers_as_were_found() {
    let mut bench = Bench::new("[[pool]]\nname = \"pool.invalid\"\nnts = \"off\"\ncount = 4\n");
    // There are no service records, but addresses.
    for turn in 0.. {
        let open: Vec<u32> = bench.client.groups[&0].search.open.iter().map(|question| question.0).collect();
        for question in open {
            assert_eq!(awaited(&bench), 4 - bench.sources().len());
            let answer = if turn < 1 { failed(question) } else { addresses(question, &["192.0.2.1:123"]) };
            bench.with(|client| client.handle_answered(0, answer));
        }
        if !bench.sources().is_empty() {
            break;
        }
        assert!(turn < 6, "nothing is asked");
        bench.pools_after(Duration::from_secs(3600));
    }
    assert_eq!((bench.sources().len(), awaited(&bench)), (1, 0), "it has but one");
    bench.with(|client| client.restart_group("pool.invalid"));
    assert_eq!(awaited(&bench), 4, "it is begun anew");
}

#[test]
fn a_pool_that_cannot_be_found_keeps_nobody_else_from_being_followed() {
    let mut bench = Bench::new("[[pool]]\nname = \"pool.invalid\"\nnts = \"off\"\ncount = 4\n");
    assert_eq!(awaited(&bench), 4);
    for _ in 0..4 {
        let open: Vec<u32> = bench.client.groups[&0].search.open.iter().map(|question| question.0).collect();
        open.into_iter().for_each(|question| bench.with(|client| client.handle_answered(0, failed(question))));
        bench.pools_after(Duration::from_secs(3600));
    }
    assert_eq!(awaited(&bench), 0);
}
