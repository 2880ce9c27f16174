//! Limits: all of a request's or none, and settlement under the limits that admitted it.
//!
//! Each kind of limit is one file, with what it takes and how it settles. Beside them stand what they share ([`books`]), how all of a
//! request's limits are charged together ([`all`]), the rate limit service's protocol
//! ([`rls`]), what they would have admitted of demand that came to nothing ([`demand`]), and what is shown of their state ([`shown`]).

pub mod all;
pub mod books;
pub mod concurrency;
pub mod demand;
pub mod mesh;
pub mod rate;
pub mod rls;
pub mod session;
pub mod shown;

pub use all::{Admitted, Charge, charge, hold, look, settle};
pub use books::{Applicant, Books, Permits, RateLimitStatus, Refused};
