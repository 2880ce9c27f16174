//! What is published of a plugin: an image with its module, and a list of what is in the module.
//!
//! Both depend on the module and on Cargo.lock alone: there is no time in them, no name of a user or of a machine, and no path. So whoever
//! builds the same sources with the same compiler can see that an image is what it says it is.

pub mod image;
pub mod places;
pub mod sbom;
