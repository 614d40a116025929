//! What the files say, before anybody asks whether it makes sense.

use std::{collections::BTreeMap, ops::Range, path::Path, sync::Arc};

use toml::de::{DeTable, DeValue};

use super::problem::{Place, Report, Wrong};

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) place: Place,
    pub(super) data: Data,
}

impl Value {
    /// The values of a list; any other value stands for a list of one.
    pub(super) fn into_items(self) -> Vec<Self> {
        if let Data::Array(items) = self.data { items } else { vec![self] }
    }
}

/// What a value is.
#[derive(Clone, Debug)]
pub(super) enum Data {
    String(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Datetime,
    Array(Vec<Value>),
    Table(Table),
}

impl Data {
    /// The type with its article, for messages.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::String(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a number",
            Self::Boolean(_) => "a boolean",
            Self::Datetime => "a date or time",
            Self::Array(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// A key of a table with its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key_place: Place,
    pub(super) value: Value,
}

/// A table; the order of its keys means nothing.
pub(super) type Table = BTreeMap<String, Entry>;

/// Keys whose values add up over files, with the key that names an entry.
const ACCUMULATING: [(&str, &str); 4] =
    [("pool", "name"), ("server", "address"), ("refclock", "refid"), ("refclock", "device")];

/// The key that takes entries of earlier files out.
const REMOVE: &str = "remove";

/// Turns byte offsets into lines and columns.
struct Places<'t> {
    file: Arc<Path>,
    text: &'t str,
    line_starts: Vec<usize>,
}

impl<'t> Places<'t> {
    fn new(file: &Path, text: &'t str) -> Self {
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { file: file.into(), text, line_starts }
    }

    fn at(&self, span: &Range<usize>) -> Place {
        let line = self.line_starts.partition_point(|&start| start <= span.start).max(1);
        let start = self.line_starts.get(line - 1).copied().unwrap_or_default();
        let column = self.text.get(start..span.start).map_or(1, |before| before.chars().count() + 1);
        Place { file: Arc::clone(&self.file), position: Some((line, column)) }
    }
}

/// Reads one file; what is no TOML is reported and left out.
pub(super) fn parse(file: &Path, text: &str, report: &Report) -> Table {
    let places = Places::new(file, text);
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let place = error.span().map_or_else(|| Place::whole(file), |span| places.at(&span));
        report.error(&place, "", Wrong::new(error.message()));
    }
    // What the parser made of a broken file would only raise false complaints.
    if errors.is_empty() { convert_table(table.get_ref(), &places, report) } else { Table::new() }
}

fn convert_table(table: &DeTable<'_>, places: &Places<'_>, report: &Report) -> Table {
    let mut converted = Table::new();
    for (key, value) in table {
        let entry =
            Entry { key_place: places.at(&key.span()), value: convert(value.get_ref(), &value.span(), places, report) };
        converted.insert(key.get_ref().clone().into_owned(), entry);
    }
    converted
}

fn convert(value: &DeValue<'_>, span: &Range<usize>, places: &Places<'_>, report: &Report) -> Value {
    let place = places.at(span);
    let data = match value {
        DeValue::String(text) => Data::String(text.clone().into_owned()),
        DeValue::Integer(digits) => i64::from_str_radix(digits.as_str(), digits.radix()).map_or_else(
            |_| {
                report.error(&place, "", Wrong::new("integer of more than 64 bits"));
                Data::Integer(0)
            },
            Data::Integer,
        ),
        DeValue::Float(digits) => Data::Float(digits.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(value) => Data::Boolean(*value),
        DeValue::Datetime(_) => Data::Datetime,
        DeValue::Array(items) => {
            Data::Array(items.iter().map(|item| convert(item.get_ref(), &item.span(), places, report)).collect())
        }
        DeValue::Table(table) => Data::Table(convert_table(table, places, report)),
    };
    Value { place, data }
}

/// Adds a later file to what earlier ones said: keys of tables replace, sources accumulate, `remove` takes out.
pub(super) fn merge(base: &mut Table, mut later: Table, report: &Report) {
    if let Some(Entry { value, .. }) = later.remove(REMOVE) {
        remove(base, &value, report);
    }
    for (key, _) in ACCUMULATING {
        if let Some(entry) = later.remove(key) {
            accumulate(base, key, entry);
        }
    }
    overlay(base, later);
}

fn overlay(base: &mut Table, later: Table) {
    for (key, entry) in later {
        if let (Some(Entry { value: Value { data: Data::Table(old), .. }, .. }), Data::Table(_)) =
            (base.get_mut(&key), &entry.value.data)
        {
            if let Data::Table(new) = entry.value.data {
                overlay(old, new);
            }
            continue;
        }
        base.insert(key, entry);
    }
}

/// Appends the sources of `entry`, a single one or a list, to those of `base`.
fn accumulate(base: &mut Table, key: &str, entry: Entry) {
    let Entry { key_place, value } = entry;
    let place = value.place.clone();
    let new = value.into_items();
    let list = base
        .entry(key.to_owned())
        .or_insert_with(|| Entry { key_place, value: Value { place, data: Data::Array(Vec::new()) } });
    if let Data::Array(items) = &mut list.value.data {
        items.extend(new);
    }
}

fn remove(base: &mut Table, names: &Value, report: &Report) {
    const ACCEPTED: &str = "a list of names of pools, addresses of servers, and devices or refids of reference clocks";
    let Data::Array(names) = &names.data else {
        let wrong = Wrong::new(format!("expected a list, found {}", names.data.kind())).accepted(ACCEPTED);
        return report.error(&names.place, REMOVE, wrong);
    };
    for name in names {
        let Data::String(text) = &name.data else {
            let wrong = Wrong::new(format!("expected a string, found {}", name.data.kind())).accepted(ACCEPTED);
            report.error(&name.place, REMOVE, wrong);
            continue;
        };
        if !remove_named(base, text) {
            let wrong = Wrong::new(format!("no earlier file has a pool, server or refclock `{text}`"));
            report.warning(&name.place, REMOVE, wrong);
        }
    }
}

fn remove_named(base: &mut Table, name: &str) -> bool {
    let canonical = |text: &str| text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let mut found = false;
    for (key, naming) in ACCUMULATING {
        let Some(Entry { value: Value { data: Data::Array(items), .. }, .. }) = base.get_mut(key) else { continue };
        let before = items.len();
        items.retain(|item| source_name(item, naming).is_none_or(|own| canonical(own) != canonical(name)));
        found |= items.len() < before;
    }
    found
}

/// The name of a source in either of its forms.
fn source_name<'v>(item: &'v Value, naming: &str) -> Option<&'v str> {
    let named = if let Data::Table(table) = &item.data { &table.get(naming)?.value.data } else { &item.data };
    if let Data::String(name) = named { Some(name) } else { None }
}
