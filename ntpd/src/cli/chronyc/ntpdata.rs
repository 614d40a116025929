//! The last reply of a source, in words and for scripts.

use super::format::{address, leap, reference_id, stamp, text_of, time, yes_no};
use crate::observe::chronyc::client::{NtpData, ntp_flags};

/// The tests that a packet passed, in their three groups.
fn tests(flags: u16) -> [String; 3] {
    let bits = format!("{:010b}", flags & ntp_flags::TESTS);
    let part = |from: usize, to: usize| bits.get(from..to).unwrap_or_default().to_owned();
    [part(0, 3), part(3, 6), part(6, 10)]
}

const fn stamp_word(letter: u8) -> &'static str {
    match letter {
        b'D' => "Daemon",
        b'K' => "Kernel",
        b'H' => "Hardware",
        _ => "Invalid",
    }
}

const fn mode_word(mode: u8) -> &'static str {
    match mode {
        1 => "Symmetric active",
        2 => "Symmetric passive",
        4 => "Server",
        _ => "Invalid",
    }
}

/// The letters of a reference identifier, which have a meaning at stratum 1.
fn letters(reference_id: u32, stratum: u8) -> String {
    if stratum > 1 { String::new() } else { text_of(reference_id) }
}

pub(super) fn text(data: &NtpData) -> String {
    let reply = &data.reply;
    let seconds = |log2: i8| 2_f64.powi(log2.into());
    let [first, second, third] = tests(reply.flags);
    let id = reply.reference_id;
    let labels = [
        ("Remote address", format!("{} ({:08X})", address(reply.remote), reference_id(reply.remote))),
        ("Remote port", reply.port.to_string()),
        ("Local address", format!("{} ({:08X})", address(reply.local), reference_id(reply.local))),
        ("Leap status", leap(reply.leap.into()).to_owned()),
        ("Version", reply.version.to_string()),
        ("Mode", mode_word(reply.mode).to_owned()),
        ("Stratum", reply.stratum.to_string()),
        ("Poll interval", format!("{} ({:.0} seconds)", reply.poll, seconds(reply.poll))),
        ("Precision", format!("{} ({:.9} seconds)", reply.precision, seconds(reply.precision))),
        ("Root delay", format!("{:.6} seconds", reply.root_delay_seconds)),
        ("Root dispersion", format!("{:.6} seconds", reply.root_dispersion_seconds)),
        ("Reference ID", format!("{id:08X} ({})", letters(id, reply.stratum))),
        ("Reference time", time(reply.reference_time)),
        ("Offset", format!("{:+.9} seconds", reply.offset_seconds)),
        ("Peer delay", format!("{:.9} seconds", reply.delay_seconds)),
        ("Peer dispersion", format!("{:.9} seconds", reply.dispersion_seconds)),
        ("Response time", format!("{:.9} seconds", reply.response_seconds)),
        ("Jitter asymmetry", format!("{:+.2}", reply.asymmetry)),
        ("NTP tests", format!("{first} {second} {third}")),
        ("Interleaved", yes_no(reply.flags & ntp_flags::INTERLEAVED != 0).to_owned()),
        ("Authenticated", yes_no(reply.flags & ntp_flags::AUTHENTICATED != 0).to_owned()),
        ("TX timestamping", stamp_word(reply.sent_stamp).to_owned()),
        ("RX timestamping", stamp_word(reply.received_stamp).to_owned()),
        ("Total TX", reply.sent.to_string()),
        ("Total RX", reply.received.to_string()),
        ("Total valid RX", reply.valid.to_string()),
        ("Total good RX", reply.good.to_string()),
        ("Total kernel TX", data.kernel_sent.to_string()),
        ("Total kernel RX", data.kernel_received.to_string()),
        ("Total HW TX", data.hardware_sent.to_string()),
        ("Total HW RX", data.hardware_received.to_string()),
    ];
    labels.map(|(label, value)| format!("{label:<16}: {value}\n")).concat()
}

pub(super) fn csv(data: &NtpData) -> String {
    let reply = &data.reply;
    let seconds = |log2: i8| 2_f64.powi(log2.into());
    let [first, second, third] = tests(reply.flags);
    let fields = [
        address(reply.remote),
        format!("{:08X}", reference_id(reply.remote)),
        reply.port.to_string(),
        address(reply.local),
        format!("{:08X}", reference_id(reply.local)),
        leap(reply.leap.into()).to_owned(),
        reply.version.to_string(),
        mode_word(reply.mode).to_owned(),
        reply.stratum.to_string(),
        reply.poll.to_string(),
        format!("{:.0}", seconds(reply.poll)),
        reply.precision.to_string(),
        format!("{:.9}", seconds(reply.precision)),
        format!("{:.6}", reply.root_delay_seconds),
        format!("{:.6}", reply.root_dispersion_seconds),
        format!("{:08X}", reply.reference_id),
        letters(reply.reference_id, reply.stratum),
        stamp(reply.reference_time),
        format!("{:.9}", reply.offset_seconds),
        format!("{:.9}", reply.delay_seconds),
        format!("{:.9}", reply.dispersion_seconds),
        format!("{:.9}", reply.response_seconds),
        format!("{:.2}", reply.asymmetry),
        first,
        second,
        third,
        yes_no(reply.flags & ntp_flags::INTERLEAVED != 0).to_owned(),
        yes_no(reply.flags & ntp_flags::AUTHENTICATED != 0).to_owned(),
        stamp_word(reply.sent_stamp).to_owned(),
        stamp_word(reply.received_stamp).to_owned(),
        reply.sent.to_string(),
        reply.received.to_string(),
        reply.valid.to_string(),
        reply.good.to_string(),
        data.kernel_sent.to_string(),
        data.kernel_received.to_string(),
        data.hardware_sent.to_string(),
        data.hardware_received.to_string(),
    ];
    fields.join(",") + "\n"
}
