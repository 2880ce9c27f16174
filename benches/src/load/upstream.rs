//! What stands behind the gateways: an nginx that answers every request from a file and keeps its connections; and behind that a model server,
//! for answers that come event by event.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use penstock_harness::model_server::{ModelServer, Options};
use penstock_harness::port::Port;
use serde_json::json;

use crate::streams::event;

/// Events of the answer that is a file.
const EVENTS: u32 = 50;
/// How long nginx may take until it listens.
const START_MAX: Duration = Duration::from_secs(30);

/// It ends when dropped.
pub struct Upstream {
    child: Child,
    port: Port,
    folder: PathBuf,
    _model_server: ModelServer,
}

impl Upstream {
    /// Starts both.
    pub async fn start() -> Result<Self, String> {
        let program = find("nginx").ok_or("nginx is not installed; on Debian: apt-get install nginx-light")?;
        let options = Options { ttft_ms: 0, inter_token_ms: 1, ..Options::default() };
        let model_server = ModelServer::start(options).await.map_err(|error| error.to_string())?;
        let port = Port::reserve().map_err(|error| format!("no free port: {error}"))?;
        let folder = std::env::temp_dir().join(format!("penstock-load-{}", std::process::id()));
        let write = |name: &str, text: &str| {
            fs::write(folder.join(name), text).map_err(|error| format!("{}: {name}: {error}", folder.display()))
        };
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        write("answer.json", &answer())?;
        write("answer.sse", &streamed_answer())?;
        write("nginx.conf", &configuration(port.address(), model_server.address()))?;
        let child = Command::new(&program)
            .arg("-p")
            .arg(&folder)
            .args(["-e", "error.log", "-c", "nginx.conf"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let mut upstream = Self { child, port, folder, _model_server: model_server };
        upstream.wait()?;
        Ok(upstream)
    }

    fn wait(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START_MAX;
        while TcpStream::connect(self.address()).is_err() {
            let has_ended = self.child.try_wait().is_ok_and(|status| status.is_some());
            if has_ended || Instant::now() > deadline {
                let log = fs::read_to_string(self.folder.join("error.log")).unwrap_or_default();
                return Err(format!("nginx does not listen on {}: {log}", self.address()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Where nginx listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // Nothing can be done about a process that is already gone, and a directory that stays behind harms nobody.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A program in PATH, or where Debian has the servers, which is in nobody's PATH but root's.
pub fn find(name: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&paths).chain([Path::new("/usr/sbin").to_owned()]);
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// One process, so that it ends with its id. A POST is answered as a GET of the file that `x-answer` names: a file itself takes none.
fn configuration(address: SocketAddr, model_server: SocketAddr) -> String {
    format!(
        "daemon off;
master_process off;
pid nginx.pid;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  types {{ application/json json; text/event-stream sse; }}
  keepalive_timeout 1h;
  keepalive_requests 1000000000;
  client_max_body_size 0;
  open_file_cache max=16;
  map $http_x_answer $answer {{ default /answer.json; events /answer.sse; }}
  server {{
    listen {address};
    root .;
    proxy_http_version 1.1;
    proxy_buffering off;
    proxy_set_header Connection \"\";
    location / {{
      if ($http_x_answer = streamed) {{ proxy_pass http://{model_server}; break; }}
      error_page 405 =200 $answer;
      return 405;
    }}
    location = /answer.json {{ internal; }}
    location = /answer.sse {{ internal; }}
  }}
}}
"
    )
}

fn answer() -> String {
    json!({
        "id": "chatcmpl-5a0c8ad2b1f94d0c",
        "object": "chat.completion",
        "created": 1_767_225_600,
        "model": "llama",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "The water turns the wheel."}}],
        "usage": {"prompt_tokens": 400, "completion_tokens": 7, "total_tokens": 407},
    })
    .to_string()
}

fn streamed_answer() -> String {
    let usage = r#"data: {"choices":[],"usage":{"prompt_tokens":400,"completion_tokens":50}}"#;
    (0..EVENTS).map(event).chain([format!("{usage}\n\ndata: [DONE]\n\n")]).collect()
}
