//! The plugin `token-counter`: one stage of Penstock by itself.

penstock_guest::plugin!(Some(penstock_guest::Plugin::TokenCounter));
