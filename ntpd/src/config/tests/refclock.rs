//! Reference clocks, and interfaces that stamp packets.

use clock_control::{
    RxFilter,
    refclock::{Driver, Edge},
};
use ntp_proto::{ids::ReferenceId, refclock::RefclockConfig};

use super::*;

/// One of each kind, with more or less said of it.
pub(super) fn every(number: u8) -> Vec<Refclock> {
    let default = RefclockConfig { reference_id: ReferenceId(*b"NMEA"), ..RefclockConfig::default() };
    let pps = RefclockConfig {
        reference_id: ReferenceId(*b"P\0\0\0"),
        pulses: true,
        rate: 10.0,
        lock: Some(ReferenceId(*b"NMEA")),
        max_lock_age: 2.5,
        driver_poll: PollInterval::new(-2).unwrap(),
        precision: Some(1e-7),
        max_dispersion: 1e-3,
        readings: usize::from(number % 64) + 1,
        correction: -1e-3,
        samples: (4, 32),
        ..default
    };
    let phc = RefclockConfig {
        reference_id: ReferenceId(*b"PHC0"),
        stratum: number % 16,
        delay: 1e-5,
        options: SelectOptions { prefer: true, trust: true, ..SelectOptions::default() },
        ..default
    };
    let sock = RefclockConfig { reference_id: ReferenceId(*b"SOC3"), ..default };
    vec![
        Refclock { driver: Driver::Shm { unit: number, permissions: 0o640 }, config: default },
        Refclock { driver: Driver::Pps { device: "/dev/pps0".into(), edge: Edge::Clear }, config: pps },
        Refclock { driver: Driver::Phc { device: "eth0".into(), cross_timestamp: false }, config: phc },
        Refclock { driver: Driver::Sock { path: "/run/chrony.tty \"S0\".sock".into() }, config: sock },
    ]
}

/// One with everything said, and all others.
pub(super) fn interfaces() -> Vec<HwTimestamp> {
    let all = HwTimestamp {
        interface: "*".into(),
        rx_filter: None,
        min_poll: PollInterval::new(0).unwrap(),
        tx_comp: 0.0,
        rx_comp: 0.0,
        cross_timestamp: true,
    };
    let one = HwTimestamp {
        interface: "eth0.5".into(),
        rx_filter: Some(RxFilter::Ptp),
        min_poll: PollInterval::new(-2).unwrap(),
        tx_comp: 3e-7,
        rx_comp: -4e-7,
        cross_timestamp: false,
    };
    vec![one, all]
}

#[test]
#[rustfmt::skip]
fn mistakes_about_an_interface_say_what_is_accepted() {
    for (text, message) in [
        ("hwtimestamp = \"a/b\"", "ntpd.toml:1:15: hwtimestamp.interface: `a/b` is no name of an interface; accepted: such as \"eth0\", or \"*\" for all"),
        ("hwtimestamp = [\"eth0\", \"eth0\"]", "ntpd.toml:1:24: hwtimestamp.interface: `eth0` was given before, at ntpd.toml:1:16"),
        ("[[hwtimestamp]]\ninterface = \"eth0\"\nrx-filter = \"nts\"", "ntpd.toml:3:13: hwtimestamp.rx-filter: unknown value `nts`; accepted: all, ntp, ptp, none"),
        ("[[hwtimestamp]]\ninterface = \"eth0\"\ntx-comp = \"2ms\"", "ntpd.toml:3:11: hwtimestamp.tx-comp: `2ms` is out of range; accepted: -1ms to 1ms"),
        ("[[hwtimestamp]]\ninterface = \"eth0\"\nrxfilter = \"all\"", "ntpd.toml:3:1: hwtimestamp.rxfilter: unknown key (did you mean `rx-filter`?); accepted: cross-timestamp, interface, min-poll, rx-comp, rx-filter, tx-comp"),
    ] {
        assert_eq!(load(text).unwrap_err(), message, "{text}");
    }
    assert_eq!(load("hwtimestamp = \"*\"").unwrap().hwtimestamp, interfaces()[1..]);
}

#[test]
#[rustfmt::skip]
fn mistakes_about_a_reference_clock_say_what_is_accepted() {
    for (text, message) in [
        ("[[refclock]]\ndriver = \"gps\"", "ntpd.toml:2:10: refclock.driver: unknown value `gps`; accepted: pps, phc, shm, sock"),
        ("[[refclock]]\ndevice = \"/dev/pps0\"", "ntpd.toml:1:1: refclock.driver: missing"),
        ("[[refclock]]\ndriver = \"pps\"", "ntpd.toml:1:1: refclock.device: missing"),
        ("[[refclock]]\ndriver = \"shm\"", "ntpd.toml:1:1: refclock.unit: missing"),
        ("[[refclock]]\ndriver = \"shm\"\nunit = 256", "ntpd.toml:3:8: refclock.unit: 256 is out of range; accepted: 0 to 255"),
        ("[[refclock]]\ndriver = \"shm\"\nunit = 0\npermissions = \"0999\"", "ntpd.toml:4:15: refclock.permissions: `0999` are no permissions; accepted: octal, such as \"0600\" or \"0666\""),
        ("[[refclock]]\ndriver = \"shm\"\nunit = 0\nrefid = \"TOOLONG\"", "ntpd.toml:4:9: refclock.refid: `TOOLONG` is no reference identifier; accepted: 1 to 4 letters or digits"),
        ("[[refclock]]\ndriver = \"shm\"\nunit = 0\nlock = \"PPS\"", "ntpd.toml:4:8: refclock.lock: only pulses need it; accepted: beside driver \"pps\", or `pps = true`"),
        ("[[refclock]]\ndriver = \"shm\"\nunit = 0\npoll = 2\ndpoll = 3", "ntpd.toml:5:9: refclock.dpoll: 3 is more than `poll`, which is 2"),
        ("[[refclock]]\ndriver = \"shm\"\nunit = 0\ntai = true", "ntpd.toml:4:7: refclock.tai: TAI needs a list of leap seconds; accepted: beside `leap-file` in [clock]"),
        ("[[refclock]]\ndriver = \"pps\"\ndevice = \"/dev/pps0\"\nlock = \"GPS\"", "ntpd.toml:1:1: refclock.lock: no other `refclock` has the refid `GPS`"),
        ("[[refclock]]\ndriver = \"shm\"\nunit = 0\n[[refclock]]\ndriver = \"shm\"\nunit = 0", "ntpd.toml:4:1: refclock.device: `shm unit 0` was given before, at ntpd.toml:1:1"),
        ("[[refclock]]\ndriver = \"shm\"\nunit = 0\nrefid = \"A\"\n[[refclock]]\ndriver = \"shm\"\nunit = 1\nrefid = \"A\"", "ntpd.toml:5:1: refclock.refid: `A` was given before, at ntpd.toml:1:1"),
        ("[[refclock]]\ndriver = \"phc\"\ndevice = \"/dev/ptp0\"\nunit = 1", "ntpd.toml:4:1: refclock.unit: unknown key; accepted: cross-timestamp, delay, device, dpoll, driver, filter, lock, max-dispersion, max-lock-age, max-samples, min-samples, offset, poll, pps, precision, rate, refid, select, stratum, tai"),
    ] {
        assert_eq!(load(text).unwrap_err(), message, "{text}");
    }
}

#[test]
fn what_is_not_said_is_as_in_chrony() {
    let text = "[[refclock]]\ndriver = \"phc\"\ndevice = \"/dev/ptp_ena\"\npoll = -1\n\
                [[refclock]]\ndriver = \"pps\"\ndevice = \"/dev/pps0\"\n";
    let refclocks = load(text).unwrap().refclocks;
    let names: Vec<String> = refclocks.iter().map(Refclock::name).collect();
    assert_eq!(names, ["PHC0", "PPS1"]);
    let [phc, pps] = refclocks.as_slice() else { panic!("{refclocks:?}") };
    assert_eq!(phc.config.driver_poll, phc.config.poll, "the device is looked at for every sample");
    assert!(pps.config.pulses && pps.config.driver_poll == PollInterval::new(0).unwrap());
    assert_eq!(pps.driver, Driver::Pps { device: "/dev/pps0".into(), edge: Edge::Assert });
}

#[test]
fn pulses_alone_are_warned_of_and_a_later_file_takes_them_out() {
    let pps = "[[refclock]]\ndriver = \"pps\"\ndevice = \"/dev/pps0\"\n";
    let told = |text: &str| {
        let warnings = Etc::new().with("ntpd.toml", text).load().unwrap().warnings;
        warnings.iter().map(ToString::to_string).collect::<Vec<_>>().concat()
    };
    assert!(told(pps).contains("pulses alone do not tell which second they begin"), "{}", told(pps));
    assert_eq!(told(&format!("pool = \"a.example\"\n{pps}")), "");
    let etc = Etc::new().with("ntpd.toml", pps).with("conf.d/1.toml", "remove = [\"/dev/pps0\"]\n");
    assert_eq!(etc.load().unwrap().config.refclocks, []);
}
