//! What the demo is asked for.

/// What the demo is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Seconds of traffic.
    pub seconds: u64,
    /// Print nothing but one JSON object at the end.
    pub json: bool,
    /// Run the filters in the sandbox even where there is an Envoy.
    pub sandbox: bool,
}
