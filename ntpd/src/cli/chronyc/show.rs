//! What can be shown.

use std::net::IpAddr;

use super::{
    Outcome, Session,
    format::{address, ago, cut, leap, signed, stamp, text_of, time, unsigned},
    ntpdata,
};
use crate::observe::chronyc::{
    client::{
        self, ActivityData, Address, AuthData, ClientsBody, ClientsData, Entry, Failure, Field, NtpData, SelectData,
        ServerStatsData, SourceCount, SourceData, SourceNameData, SourceStatsData, TrackingData, options,
    },
    table as requests,
};

/// Widths of names.
const WIDE: usize = 27;
const NARROW: usize = 25;

/// [`SourceData::mode`] of a reference clock, which has four letters in the place of an address.
const REFERENCE_CLOCK: u16 = 2;

type Shown = Result<String, Failure>;

impl Session {
    /// Shows something; `None` if there is nothing of this name.
    pub(super) fn show(&mut self, name: &str, arguments: &[&str]) -> Option<Outcome> {
        let all = arguments.contains(&"-a");
        let shown = match name {
            "tracking" => self.tracking(),
            "sources" => self.sources(all),
            "sourcestats" => self.source_stats(all),
            "selectdata" => self.select_data(all),
            "authdata" => self.auth_data(all),
            "ntpdata" => self.ntp_data(arguments.first().copied()),
            "activity" => self.activity(),
            "serverstats" => self.server_stats(),
            "clients" => return Some(self.clients(arguments.contains(&"-k"))),
            "sourcename" => match arguments.first().and_then(|text| text.parse().ok()) {
                Some(ip) => self.name_of(Address::Ip(ip)).map(|name| format!("{name}\n")),
                None => return Some(Outcome::Misused("Could not parse address\n".to_owned())),
            },
            "smoothing" => self.ask::<client::SmoothingData>(&requests::SMOOTHING, &()).map(|_| String::new()),
            "rtcdata" => self.ask::<client::RtcData>(&requests::RTCDATA, &()).map(|_| String::new()),
            "manual" if arguments == ["list"] => self.manual(),
            _ => return None,
        };
        Some(shown.map_or_else(Outcome::from, Outcome::Text))
    }

    fn ask<T: Field>(&mut self, entry: &Entry, body: &impl client::Body) -> Result<T, Failure> {
        self.talker.ask(entry, body)
    }

    /// How an address is shown.
    fn shown(&mut self, ip: Address) -> String {
        match ip {
            Address::Ip(_) if !self.numeric => self.name_of(ip).unwrap_or_else(|_| address(ip)),
            Address::Ip(_) | Address::Unspecified | Address::Id(_) => address(ip),
        }
    }

    fn shown_in(&mut self, ip: Address, width: usize) -> String {
        let shown = self.shown(ip);
        // Addresses are not cut.
        if self.numeric || self.csv || shown.parse::<IpAddr>().is_ok() { shown } else { cut(&shown, width) }
    }

    /// The same, or the letters that a reference clock has in its place.
    fn shown_or_text(&mut self, ip: Address, reference_id: u32) -> String {
        if ip == Address::Unspecified { text_of(reference_id) } else { self.shown_in(ip, NARROW) }
    }

    /// The source that was configured by this name.
    pub(super) fn find_named(&mut self, wanted: &str) -> Result<Option<Address>, Failure> {
        let sources: Vec<SourceData> = self.each(&requests::SOURCE_DATA, true, |row: &SourceData| row.address)?;
        for source in sources {
            if self.name_of(source.address)?.eq_ignore_ascii_case(wanted) {
                return Ok(Some(source.address));
            }
        }
        Ok(None)
    }

    fn name_of(&mut self, ip: Address) -> Shown {
        let SourceNameData { name } = self.ask(&requests::SOURCENAME, &ip)?;
        let end = name.iter().position(|octet| *octet == 0).unwrap_or(name.len());
        Ok(crate::observe::table::printable(&String::from_utf8_lossy(name.get(..end).unwrap_or_default())))
    }

    /// What there is of each source; sources without an address only if all are wanted.
    fn each<T: Field>(&mut self, entry: &Entry, all: bool, address_of: fn(&T) -> Address) -> Result<Vec<T>, Failure> {
        let SourceCount { count } = self.ask(&requests::N_SOURCES, &())?;
        let mut rows = Vec::new();
        for index in 0..count {
            let row = self.ask(entry, &index)?;
            if all || !matches!(address_of(&row), Address::Id(_)) {
                rows.push(row);
            }
        }
        Ok(rows)
    }

    fn tracking(&mut self) -> Shown {
        let data: TrackingData = self.ask(&requests::TRACKING, &())?;
        let name = if data.address == Address::Unspecified { String::new() } else { self.shown(data.address) };
        let TrackingData { reference_id, stratum, .. } = data;
        if self.csv {
            return Ok(format!(
                "{reference_id:08X},{name},{stratum},{},{:.9},{:.9},{:.9},{:.3},{:.3},{:.3},{:.9},{:.9},{:.1},{}\n",
                stamp(data.reference_time),
                data.correction_seconds,
                data.last_offset_seconds,
                data.rms_offset_seconds,
                data.frequency_ppm,
                data.residual_frequency_ppm,
                data.skew_ppm,
                data.root_delay_seconds,
                data.root_dispersion_seconds,
                data.update_interval_seconds,
                leap(data.leap),
            ));
        }
        let which = |first: bool| if first { "slow" } else { "fast" };
        Ok(format!(
            "Reference ID    : {reference_id:08X} ({name})\n\
             Stratum         : {stratum}\n\
             Ref time (UTC)  : {}\n\
             System time     : {:.9} seconds {} of NTP time\n\
             Last offset     : {:+.9} seconds\n\
             RMS offset      : {:.9} seconds\n\
             Frequency       : {:.3} ppm {}\n\
             Residual freq   : {:+.3} ppm\n\
             Skew            : {:.3} ppm\n\
             Root delay      : {:.9} seconds\n\
             Root dispersion : {:.9} seconds\n\
             Update interval : {:.1} seconds\n\
             Leap status     : {}\n",
            time(data.reference_time),
            data.correction_seconds.abs(),
            which(data.correction_seconds > 0.0),
            data.last_offset_seconds,
            data.rms_offset_seconds,
            data.frequency_ppm.abs(),
            which(data.frequency_ppm < 0.0),
            data.residual_frequency_ppm,
            data.skew_ppm,
            data.root_delay_seconds,
            data.root_dispersion_seconds,
            data.update_interval_seconds,
            leap(data.leap),
        ))
    }

    fn sources(&mut self, all: bool) -> Shown {
        let rows: Vec<SourceData> = self.each(&requests::SOURCE_DATA, all, |row: &SourceData| row.address)?;
        let mut text = self.head("MS Name/IP address         Stratum Poll Reach LastRx Last sample               ", 79);
        for row in rows {
            let letter = |letters: &str, at: u16| letters.chars().nth(at.into()).unwrap_or('?');
            let (mode, state) = (letter("^=#", row.mode), letter("*?x~+-", row.state));
            let name = match row.address {
                Address::Ip(IpAddr::V4(letters)) if row.mode == REFERENCE_CLOCK => text_of(u32::from(letters)),
                other @ (Address::Ip(_) | Address::Unspecified | Address::Id(_)) => self.shown_in(other, WIDE),
            };
            let SourceData { stratum, poll, reach, .. } = row;
            text += &if self.csv {
                format!(
                    "{mode},{state},{name},{stratum},{poll},{reach:o},{},{:.9},{:.9},{:.9}\n",
                    row.last_sample_age_seconds, row.offset_seconds, row.measured_offset_seconds, row.error_seconds
                )
            } else {
                format!(
                    "{mode}{state} {name:<WIDE$}  {stratum:>2}  {poll:>2}   {reach:>3o}  {:>4}  {:>7}[{:>7}] +/- {:>6}\n",
                    ago(row.last_sample_age_seconds),
                    signed(row.offset_seconds),
                    signed(row.measured_offset_seconds),
                    unsigned(row.error_seconds)
                )
            };
        }
        Ok(text)
    }

    fn source_stats(&mut self, all: bool) -> Shown {
        let rows: Vec<SourceStatsData> = self.each(&requests::SOURCESTATS, all, |row: &SourceStatsData| row.address)?;
        let mut text = self.head("Name/IP Address            NP  NR  Span  Frequency  Freq Skew  Offset  Std Dev", 78);
        for row in rows {
            let name = self.shown_or_text(row.address, row.reference_id);
            let SourceStatsData { samples, runs, .. } = row;
            text += &if self.csv {
                format!(
                    "{name},{samples},{runs},{},{:.3},{:.3},{:.9},{:.9}\n",
                    row.span_seconds, row.frequency_ppm, row.skew_ppm, row.offset_seconds, row.deviation_seconds
                )
            } else {
                format!(
                    "{name:<NARROW$} {samples:>3} {runs:>3}  {:>4} {:>+10.3} {:>10.3}  {:>7}  {:>6}\n",
                    ago(row.span_seconds),
                    row.frequency_ppm,
                    row.skew_ppm,
                    signed(row.offset_seconds),
                    unsigned(row.deviation_seconds)
                )
            };
        }
        Ok(text)
    }

    fn select_data(&mut self, all: bool) -> Shown {
        let rows: Vec<SelectData> = self.each(&requests::SELECTDATA, all, |row: &SelectData| row.address)?;
        let mut text = self.head("S Name/IP Address        Auth COpts EOpts Last Score     Interval  Leap", 71);
        for row in rows {
            let name = self.shown_or_text(row.address, row.reference_id);
            let (state, auth) = (char::from(row.state), if row.authenticated == 0 { 'N' } else { 'Y' });
            let letters = |given: u16| {
                [(options::NOSELECT, 'N'), (options::PREFER, 'P'), (options::TRUST, 'T'), (options::REQUIRE, 'R')]
                    .map(|(bit, letter)| if given & bit == 0 { '-' } else { letter })
                    .into_iter()
                    .chain(['-'])
                    .collect::<Vec<char>>()
            };
            let (configured, effective) = (letters(row.configured), letters(row.effective));
            text += &if self.csv {
                let each = |letters: &[char]| letters.iter().map(char::to_string).collect::<Vec<_>>().join(",");
                format!(
                    "{state},{name},{auth},{},{},{},{:.1},{:.9},{:.9},{}\n",
                    each(&configured),
                    each(&effective),
                    row.last_sample_age_seconds,
                    row.score,
                    row.low_seconds,
                    row.high_seconds,
                    leap(row.leap.into())
                )
            } else {
                format!(
                    "{state} {name:<NARROW$} {auth} {} {} {:>4} {:>5.1} {:>7} {:>7}  {}\n",
                    configured.iter().collect::<String>(),
                    effective.iter().collect::<String>(),
                    ago(row.last_sample_age_seconds),
                    row.score,
                    signed(row.low_seconds),
                    signed(row.high_seconds),
                    ["N", "+", "-"].get(usize::from(row.leap)).unwrap_or(&"?")
                )
            };
        }
        Ok(text)
    }

    fn auth_data(&mut self, all: bool) -> Shown {
        let sources: Vec<SourceData> = self.each(&requests::SOURCE_DATA, all, |row: &SourceData| row.address)?;
        let mut text = self.head("Name/IP address             Mode KeyID Type KLen Last Atmp  NAK Cook CLen", 73);
        for source in sources {
            // A reference clock has no packets.
            if source.mode == REFERENCE_CLOCK {
                continue;
            }
            let row: AuthData = self.ask(&requests::AUTHDATA, &source.address)?;
            let name = self.shown_in(source.address, WIDE);
            let mode = ["-", "SK", "NTS"].get(usize::from(row.mode)).unwrap_or(&"?");
            let AuthData { key_id, algorithm, key_bits, attempts, naks, cookies, cookie_len, .. } = row;
            text += &if self.csv {
                format!(
                    "{name},{mode},{key_id},{algorithm},{key_bits},{},{attempts},{naks},{cookies},{cookie_len}\n",
                    row.key_age_seconds
                )
            } else {
                format!(
                    "{name:<WIDE$} {mode:>4} {key_id:>5} {algorithm:>4} {key_bits:>4} {:>4} {attempts:>4} {naks:>4} \
                     {cookies:>4} {cookie_len:>4}\n",
                    ago(row.key_age_seconds)
                )
            };
        }
        Ok(text)
    }

    fn ntp_data(&mut self, wanted: Option<&str>) -> Shown {
        let all = wanted.is_none();
        let wanted: Vec<Address> = match wanted {
            Some(text) => vec![Address::Ip(text.parse().map_err(|_| Failure::Address)?)],
            None => {
                let sources: Vec<SourceData> =
                    self.each(&requests::SOURCE_DATA, false, |row: &SourceData| row.address)?;
                sources.into_iter().filter(|row| row.mode != REFERENCE_CLOCK).map(|row| row.address).collect()
            }
        };
        let mut text = String::new();
        for ip in wanted {
            let data: NtpData = self.ask(&requests::NTPDATA, &ip)?;
            if !self.csv && all {
                text.push('\n');
            }
            text += &if self.csv { ntpdata::csv(&data) } else { ntpdata::text(&data) };
        }
        Ok(text)
    }

    fn activity(&mut self) -> Shown {
        let ActivityData { online, offline, burst_online, burst_offline, unresolved } =
            self.ask(&requests::ACTIVITY, &())?;
        Ok(if self.csv {
            format!("{online},{offline},{burst_online},{burst_offline},{unresolved}\n")
        } else {
            format!(
                "200 OK\n{online} sources online\n{offline} sources offline\n\
                 {burst_online} sources doing burst (return to online)\n\
                 {burst_offline} sources doing burst (return to offline)\n\
                 {unresolved} sources with unknown address\n"
            )
        })
    }

    fn server_stats(&mut self) -> Shown {
        let data: ServerStatsData = self.ask(&requests::SERVERSTATS, &())?;
        let lines = [
            ("NTP packets received", data.ntp_hits),
            ("NTP packets dropped", data.ntp_drops),
            ("Command packets received", data.command_hits),
            ("Command packets dropped", data.command_drops),
            ("Client log records dropped", data.log_drops),
            ("NTS-KE connections accepted", data.ke_hits),
            ("NTS-KE connections dropped", data.ke_drops),
            ("Authenticated NTP packets", data.authenticated_hits),
            ("Interleaved NTP packets", data.interleaved_hits),
            ("NTP timestamps held", data.timestamps_held),
            ("NTP timestamp span", data.timestamp_span_seconds),
            ("NTP daemon RX timestamps", data.daemon_rx),
            ("NTP daemon TX timestamps", data.daemon_tx),
            ("NTP kernel RX timestamps", data.kernel_rx),
            ("NTP kernel TX timestamps", data.kernel_tx),
            ("NTP hardware RX timestamps", data.hardware_rx),
            ("NTP hardware TX timestamps", data.hardware_tx),
        ];
        Ok(if self.csv {
            lines.map(|(_, count)| count.to_string()).join(",") + "\n"
        } else {
            lines.map(|(label, count)| format!("{label:<27}: {count}\n")).concat()
        })
    }

    fn clients(&mut self, key_exchange: bool) -> Outcome {
        let columns = if key_exchange { " NTS-KE" } else { "    Cmd" };
        let title = format!("Hostname                      NTP   Drop Int IntL Last {columns}   Drop Int  Last");
        let mut text = self.head(&title, 79);
        let mut first = 0;
        loop {
            let body = ClientsBody { first, count: 8, min_hits: 0, reset: 0 };
            let page: ClientsData = match self.ask(&requests::CLIENTS, &body) {
                Ok(page) => page,
                // The head comes before it, as with chronyc.
                Err(failure) => return Outcome::Failed(format!("{text}{failure}\n")),
            };
            for client in page.clients.iter().take(usize::try_from(page.count).unwrap_or(0)) {
                let name = if self.csv { address(client.address) } else { cut(&address(client.address), NARROW) };
                let (hits, drops, interval, age) = if key_exchange {
                    (client.ke_hits, client.ke_drops, client.ke_interval, client.ke_age_seconds)
                } else {
                    (client.command_hits, client.command_drops, client.command_interval, client.command_age_seconds)
                };
                let log = |interval: i8| if interval == i8::MAX { "-".to_owned() } else { interval.to_string() };
                text += &if self.csv {
                    format!(
                        "{name},{},{},{},{},{},{hits},{drops},{interval},{age}\n",
                        client.ntp_hits,
                        client.ntp_drops,
                        client.ntp_interval,
                        client.ntp_timeout_interval,
                        client.ntp_age_seconds
                    )
                } else {
                    format!(
                        "{name:<NARROW$}  {:>6}  {:>5}  {:>2}  {:>2}  {:>4}  {hits:>6}  {drops:>5}  {:>2}  {:>4}\n",
                        client.ntp_hits,
                        client.ntp_drops,
                        log(client.ntp_interval),
                        log(client.ntp_timeout_interval),
                        ago(client.ntp_age_seconds),
                        log(interval),
                        ago(age)
                    )
                };
            }
            if page.next <= first || page.next >= page.table_size || page.count < 8 {
                return Outcome::Text(text);
            }
            first = page.next;
        }
    }

    fn manual(&mut self) -> Shown {
        let list: client::ManualListData = self.ask(&requests::MANUAL_LIST, &())?;
        let title = "#    Date     Time(UTC)    Slewed   Original   Residual";
        let count = if self.csv { String::new() } else { format!("210 n_samples = {}\n", list.count) };
        Ok(count + &self.head(title, 55))
    }

    /// Titles and the line under them; nothing for scripts.
    fn head(&self, titles: &str, width: usize) -> String {
        if self.csv { String::new() } else { format!("{titles}\n{}\n", "=".repeat(width)) }
    }
}
