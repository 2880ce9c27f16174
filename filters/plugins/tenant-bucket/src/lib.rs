//! The plugin `tenant-bucket`: one stage of Penstock by itself.

penstock_guest::plugin!(Some(penstock_guest::Plugin::TenantBucket));
