//! A table while it is read: every key is asked for once, and what nobody asked for is a mistake.

use super::{
    problem::{Place, Report, Wrong},
    raw::{Data, Entry, Table, Value},
    suggest,
};

/// A value that made sense, and where it stood.
#[derive(Clone, Debug)]
pub(super) struct Found<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// A table while it is read.
pub(super) struct Section<'r> {
    path: String,
    place: Place,
    table: Table,
    known: Vec<&'static str>,
    report: &'r Report,
}

impl<'r> Section<'r> {
    /// Starts to read `table`, which stands under the key `path`.
    pub(super) const fn new(path: String, place: Place, table: Table, report: &'r Report) -> Self {
        Self { path, place, table, known: Vec::new(), report }
    }

    /// Where the table stands.
    pub(super) const fn place(&self) -> &Place {
        &self.place
    }

    /// The name of one of this table's keys with those of its tables.
    pub(super) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn entry(&mut self, key: &'static str) -> Option<Entry> {
        self.known.push(key);
        self.table.remove(key)
    }

    /// Reports a problem with `key`.
    pub(super) fn error(&self, place: &Place, key: &str, wrong: Wrong) {
        self.report.error(place, self.path_of(key), wrong);
    }

    /// Reports something doubtful about `key`.
    pub(super) fn warning(&self, place: &Place, key: &str, wrong: Wrong) {
        self.report.warning(place, self.path_of(key), wrong);
    }

    /// Reads one value. What makes no sense is reported and then treated as not given.
    pub(super) fn field<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&Data) -> Result<T, Wrong>,
    ) -> Option<Found<T>> {
        let Value { place, data } = self.entry(key)?.value;
        match parse(&data) {
            Ok(value) => Some(Found { value, place }),
            Err(wrong) => {
                self.error(&place, key, wrong);
                None
            }
        }
    }

    /// As [`field`](Self::field), for a key that must be given.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&Data) -> Result<T, Wrong>,
    ) -> Option<Found<T>> {
        if !self.table.contains_key(key) {
            self.error(&self.place, key, Wrong::new("missing"));
        }
        self.field(key, parse)
    }

    /// Reads a list of up to `most` values; a single value stands for a list of one.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        most: usize,
        parse: impl Fn(&Data) -> Result<T, Wrong>,
    ) -> Option<Vec<Found<T>>> {
        let value = self.entry(key)?.value;
        let place = value.place.clone();
        let items = value.into_items();
        if items.len() > most {
            self.error(&place, key, Wrong::new(format!("{} entries, at most {most} are possible", items.len())));
        }
        let parsed = items.into_iter().take(most).filter_map(|Value { place, data }| match parse(&data) {
            Ok(value) => Some(Found { value, place }),
            Err(wrong) => {
                self.error(&place, key, wrong);
                None
            }
        });
        Some(parsed.collect())
    }

    /// Whether a list without values is given for `key`.
    pub(super) fn is_empty_list(&self, key: &str) -> bool {
        self.table.get(key).is_some_and(|entry| matches!(&entry.value.data, Data::Array(items) if items.is_empty()))
    }

    /// Opens a table within this one. `None` if it is not given; something else in its place is reported.
    pub(super) fn section(&mut self, key: &'static str) -> Option<Self> {
        let Entry { key_place, value: Value { place, data } } = self.entry(key)?;
        if let Data::Table(table) = data {
            return Some(Self::new(self.path_of(key), key_place, table, self.report));
        }
        self.error(&place, key, Wrong::new(format!("expected a table, found {}", data.kind())));
        None
    }

    /// Opens a table that was handed out raw.
    pub(super) fn subsection(&self, key: &str, place: Place, table: Table) -> Self {
        Self::new(self.path_of(key), place, table, self.report)
    }

    /// Hands out a raw value, for those that may have several forms.
    pub(super) fn raw(&mut self, key: &'static str) -> Option<Value> {
        self.entry(key).map(|entry| entry.value)
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(self) {
        for (key, entry) in &self.table {
            let path = self.path_of(key);
            let what = suggest::suggest(key, &self.known)
                .map_or_else(|| "unknown key".to_owned(), |meant| format!("unknown key (did you mean `{meant}`?)"));
            let mut known = self.known.clone();
            known.sort_unstable();
            self.report.error(&entry.key_place, path, Wrong::new(what).accepted(known.join(", ")));
        }
    }
}
