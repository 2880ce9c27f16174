//! What is logged, and where: on stderr, by `env_logger`.

use clap::ArgAction;
use log::LevelFilter;

/// How much is logged. Without either flag: warnings and errors.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Log more: -v for information, -vv for debugging, -vvv for everything.
    #[arg(long, short, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// Log less: -q for errors only, -qq for nothing.
    #[arg(long, short, global = true, action = ArgAction::Count, conflicts_with = "verbose")]
    quiet: u8,
}

impl Arguments {
    fn level(&self) -> LevelFilter {
        const LEVELS: [LevelFilter; 6] = [
            LevelFilter::Off,
            LevelFilter::Error,
            LevelFilter::Warn,
            LevelFilter::Info,
            LevelFilter::Debug,
            LevelFilter::Trace,
        ];
        const DEFAULT: usize = 2;
        let place = (DEFAULT + usize::from(self.verbose)).saturating_sub(usize::from(self.quiet));
        LEVELS[place.min(LEVELS.len() - 1)]
    }
}

/// Starts logging.
pub fn start(arguments: &Arguments) {
    env_logger::Builder::new().filter_level(arguments.level()).format_timestamp(None).init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_moves_the_level_by_one_and_no_further_than_the_ends() {
        for (verbose, quiet, level) in [
            (0, 0, LevelFilter::Warn),
            (1, 0, LevelFilter::Info),
            (2, 0, LevelFilter::Debug),
            (3, 0, LevelFilter::Trace),
            (255, 0, LevelFilter::Trace),
            (0, 1, LevelFilter::Error),
            (0, 2, LevelFilter::Off),
            (0, 255, LevelFilter::Off),
        ] {
            assert_eq!(Arguments { verbose, quiet }.level(), level, "{verbose} {quiet}");
        }
    }
}
