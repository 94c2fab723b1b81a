//! The words of the domain: small values that are valid by construction.
//!
//! Everything else imports from here and this imports from nobody. No I/O happens here, except
//! [`SecretRef::read`], the clocks behind [`Moment`] and [`Wall`], and the look at a limit behind
//! [`descriptors`].

mod at;
mod choice;
mod clock;
pub mod descriptors;
mod field_name;
mod name;
mod period;
mod pointer;
mod positive;
mod problem;
mod secret;
#[cfg(test)]
pub(crate) mod seeds;
mod size;
mod text;
mod url;

pub use at::At;
pub(crate) use choice::choices;
pub use choice::{Choice, choice};
pub use clock::{Moment, Wall};
pub use field_name::{FieldName, by_field_name};
pub use name::{Name, RouteName, TokenName};
pub use period::Period;
pub use pointer::Pointer;
pub use positive::{positive, positive_period, positive_size};
pub use problem::{Mistake, Place, Problem, Problems, collecting, nearest};
pub use secret::{Exposure, Secret, SecretError, SecretRef};
pub use size::Size;
pub use text::{Placeholder, Text, expand_env, judged, raw_scalar, scalar, variable};
pub use url::{HttpUrl, Scheme};
