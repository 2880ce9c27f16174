//! A model server that can end as a process does.

use std::io;

use tokio::runtime::Runtime;

use super::{ModelServer, Options};

/// A model server in a runtime of its own, with which all of its connections end.
#[derive(Debug)]
pub struct Alone {
    /// What it was asked; also once it has ended.
    pub server: ModelServer,
    runtime: Option<Runtime>,
}

impl Alone {
    /// Starts it.
    ///
    /// # Errors
    /// When it finds no port, or there can be no runtime.
    pub async fn start(options: Options) -> io::Result<Self> {
        let runtime = Runtime::new()?;
        let server = runtime.spawn(ModelServer::start(options)).await.map_err(io::Error::other)??;
        Ok(Self { server, runtime: Some(runtime) })
    }

    /// Ends it as SIGKILL does; what it knew stays.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.kill();
    }
}
