//! The plugin `penstock`: all stages in one, or the one that `root_id` names.

penstock_guest::plugin!(None);
