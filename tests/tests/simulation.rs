//! The engine in the virtual world. Accuracy figures are of simulated clocks, so they do not depend on this machine.

use ntpd_tests::sim::{ClientSpec, Path, Plot, ServerSpec, SourceSpec, World, run_seeds};

/// Where plots of failed or requested runs go.
fn plot_dir() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("plots")
}

/// Plots a run if `NTPD_PLOT` is set or `failed`.
fn plot(name: &str, seed: u64, world: &World, client: usize, failed: bool) {
    if failed || std::env::var_os("NTPD_PLOT").is_some() {
        let file = plot_dir().join(format!("{name}-{seed}.svg"));
        let title = format!("{name}, seed {seed}");
        Plot::new(&title).with("clock error", world.trace(client)).save(&file).expect("plot can be written");
        eprintln!("plot: {}", file.display());
    }
}

#[test]
fn a_lan_clock_is_held_within_100_us_rms() {
    run_seeds(10, |seed| {
        let mut world = World::new(seed);
        let server = world.add_server(ServerSpec::default());
        let client = world.add_client(ClientSpec::new(vec![SourceSpec::new(server, Path::lan())]));
        world.run_until(12.0 * 3600.0);
        let trace = world.trace(client);
        let (rms, max, broken) = (trace.rms(3600.0), trace.max(3600.0), trace.broken_bounds(60.0));
        eprintln!(
            "  rms {:.1} us, max {:.1} us, {} answers, {broken} broken",
            rms * 1e6,
            max * 1e6,
            world.answers(server)
        );
        plot("lan", seed, &world, client, rms > 100e-6 || broken > 0);
        assert!(rms < 100e-6, "rms {rms}");
        assert_eq!(broken, 0, "the true error must never exceed the claimed one");
    });
}
