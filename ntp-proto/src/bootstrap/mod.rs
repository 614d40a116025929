//! Authenticated time with no time: whom to believe while nobody knows how late it is.

mod chain;

pub use chain::{Chain, Judgement, MAX_SIGNED, Window};
