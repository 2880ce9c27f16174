//! The plugin `canary-router`: one stage of Penstock by itself.

penstock_guest::plugin!(Some(penstock_guest::Plugin::CanaryRouter));
