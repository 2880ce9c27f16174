//! The plugin `pending-gauge`: one stage of Penstock by itself.

penstock_guest::plugin!(Some(penstock_guest::Plugin::PendingGauge));
