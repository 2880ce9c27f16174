//! Demand that failed for want of capacity.

/// Why demand failed for want of capacity. What a limit, a suspension or an identity refuses is none, whatever it costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// The model had no room, by its ceiling or by the proxy's circuit breakers.
    Room,
    /// The proxy had no host for it, or none that takes connections.
    Backend,
}

impl Want {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Room, Self::Backend];

    /// As a label value.
    pub fn label(self) -> &'static str {
        match self {
            Self::Room => "shed",
            Self::Backend => "no_backend",
        }
    }

    /// What Envoy's details of a response of its own say (`source/common/stream_info/utility.h` and the router's `onUpstreamReset`); of
    /// others than these, nothing. A route that is not there is a mistake, and no want.
    pub fn of(details: &[u8]) -> Option<Self> {
        const RESET: &[u8] = b"upstream_reset_before_response_started{";
        match details {
            b"no_healthy_upstream" | b"cluster_not_found" => Some(Self::Backend),
            _ => {
                let why = details.strip_prefix(RESET)?;
                let is = |what: &[u8]| why.starts_with(what);
                if is(b"overflow") {
                    Some(Self::Room)
                } else {
                    let fails: [&[u8]; 4] = [
                        b"remote_connection_failure",
                        b"local_connection_failure",
                        b"connection_failure",
                        b"connection_timeout",
                    ];
                    fails.into_iter().any(is).then_some(Self::Backend)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_had_no_host_or_no_room_is_a_want() {
        let reset = "upstream_reset_before_response_started";
        for (details, want) in [
            ("no_healthy_upstream".to_owned(), Some(Want::Backend)),
            ("cluster_not_found".to_owned(), Some(Want::Backend)),
            (
                format!("{reset}{{remote_connection_failure|delayed_connect_error:_Connection_refused}}"),
                Some(Want::Backend),
            ),
            (format!("{reset}{{connection_timeout}}"), Some(Want::Backend)),
            (format!("{reset}{{overflow}}"), Some(Want::Room)),
            (format!("{reset}{{connection_termination}}"), None),
            (format!("{reset}{{protocol_error}}"), None),
            ("route_not_found".to_owned(), None),
            ("response_timeout".to_owned(), None),
            ("via_upstream".to_owned(), None),
            ("downstream_remote_disconnect".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(Want::of(details.as_bytes()), want, "{details}");
        }
    }
}
