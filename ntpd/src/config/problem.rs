//! What is wrong with a configuration, and where.

use std::{cell::RefCell, fmt, path::Path, sync::Arc};

/// Most problems that are told of one configuration.
const MAX_PROBLEMS: usize = 64;

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Arc<Path>,
    /// Line and column, both counted from 1; `None` for the file as a whole.
    pub position: Option<(usize, usize)>,
}

impl Place {
    /// A file as a whole.
    pub(super) fn whole(file: &Path) -> Self {
        Self { file: file.into(), position: None }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        self.position.map_or(Ok(()), |(line, column)| write!(f, ":{line}:{column}"))
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// The key with those of its tables, such as `serve.nts.listen`; empty for what belongs to no key.
    pub key: String,
    /// What is wrong, and what would be right.
    pub wrong: Wrong,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        self.wrong.fmt(f)
    }
}

/// What is wrong with a value, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    what: String,
    accepted: String,
}

impl Wrong {
    /// A complaint that needs no list of right values.
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), accepted: String::new() }
    }

    /// Adds what would be right.
    pub(super) fn accepted(self, accepted: impl Into<String>) -> Self {
        Self { accepted: accepted.into(), ..self }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if self.accepted.is_empty() { Ok(()) } else { write!(f, "; accepted: {}", self.accepted) }
    }
}

/// Everything that is wrong with a configuration, one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Collects problems while a configuration is read.
#[derive(Debug, Default)]
pub(super) struct Report {
    errors: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
}

impl Report {
    pub(super) fn error(&self, place: &Place, key: impl Into<String>, wrong: Wrong) {
        push(&self.errors, place, key.into(), wrong);
    }

    pub(super) fn warning(&self, place: &Place, key: impl Into<String>, wrong: Wrong) {
        push(&self.warnings, place, key.into(), wrong);
    }

    /// The warnings, if there were no errors.
    pub(super) fn finish(self) -> Result<Vec<Problem>, Problems> {
        let errors = self.errors.into_inner();
        if errors.is_empty() { Ok(self.warnings.into_inner()) } else { Err(Problems(errors)) }
    }
}

fn push(list: &RefCell<Vec<Problem>>, place: &Place, key: String, wrong: Wrong) {
    let mut list = list.borrow_mut();
    if list.len() < MAX_PROBLEMS {
        list.push(Problem { place: place.clone(), key, wrong });
    }
}
