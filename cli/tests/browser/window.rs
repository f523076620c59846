//! A real browser, and what it is shown.

use super::TEST_DEADLINE;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use tungstenite::{Message, WebSocket};

pub fn chromium() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths)
        .flat_map(|directory| names.map(|name| directory.join(name)))
        .find(|path| path.is_file());
    let required = std::env::var_os("PBFT_REQUIRE_BROWSER").is_some();
    assert!(found.is_some() || !required, "PBFT_REQUIRE_BROWSER is set, and there is no Chromium");
    if found.is_none() {
        println!("no Chromium: nothing was tested");
    }
    found
}

/// A browser with one page, spoken to by the Chrome DevTools Protocol.
pub struct Window {
    process: Child,
    socket: WebSocket<TcpStream>,
    session: Option<String>,
    calls: u64,
    /// The script errors of the page.
    errors: Vec<String>,
}

impl Window {
    pub fn open(chromium: PathBuf, name: &str) -> Window {
        let profile = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let mut process = Command::new(chromium)
            // Chromium refuses its sandbox to root, as which containers run it.
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--remote-debugging-port=0", "--window-size=1280,800", "about:blank"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let url =
            lines.find_map(|line| line.unwrap().strip_prefix("DevTools listening on ").map(str::to_owned));
        let url = url.unwrap();
        // Somebody has to read what else it says, or it stops.
        std::thread::spawn(move || lines.for_each(drop));
        let host = url.strip_prefix("ws://").unwrap().split('/').next().unwrap();
        let stream = TcpStream::connect(host).unwrap();
        stream.set_read_timeout(Some(TEST_DEADLINE)).unwrap();
        let (socket, _) = tungstenite::client(&url, stream).unwrap();
        let mut window = Window { process, socket, session: None, calls: 0, errors: Vec::new() };
        let target = window.call("Target.createTarget", json!({"url": "about:blank"}));
        let target = json!({"targetId": target["targetId"], "flatten": true});
        let session = window.call("Target.attachToTarget", target)["sessionId"].as_str().map(str::to_owned);
        window.session = session;
        window.call("Runtime.enable", json!({}));
        window
    }

    /// Calls a method of the protocol, and waits for its result; events before it are looked at.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let id = self.calls;
        let mut call = json!({"id": id, "method": method, "params": params});
        if let Some(session) = &self.session {
            call["sessionId"] = session.as_str().into();
        }
        self.socket.send(Message::text(call.to_string())).unwrap();
        loop {
            let Message::Text(text) = self.socket.read().unwrap() else { continue };
            let answer: Value = serde_json::from_str(&text).unwrap();
            if answer["method"] == "Runtime.exceptionThrown" {
                self.errors.push(answer["params"]["exceptionDetails"].to_string());
            }
            if answer["id"] == id {
                // A page that is being left answers nothing.
                if method == "Runtime.evaluate" && answer["error"]["code"] == -32000 {
                    return Value::Null;
                }
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    pub fn go(&mut self, url: &str) {
        self.call("Page.navigate", json!({"url": url}));
    }

    /// The value of a script; null if it throws, as while the page loads.
    pub fn value(&mut self, script: &str) -> Value {
        let result = self.call("Runtime.evaluate", json!({"expression": script, "returnByValue": true}));
        result["result"]["value"].clone()
    }

    /// Runs a script soon: one that leads to another page would not be answered any more. What it throws is an error
    /// of the page.
    pub fn run(&mut self, script: &str) {
        let soon = format!("setTimeout(() => {{ {script} }}, 0)");
        let result = self.call("Runtime.evaluate", json!({"expression": soon}));
        assert!(result.get("exceptionDetails").is_none(), "{script}: {result}");
    }

    pub fn text(&mut self, script: &str) -> String {
        self.value(script).as_str().unwrap_or_default().to_owned()
    }

    /// Waits until a script has this value.
    pub fn wait_for(&mut self, script: &str, wanted: u64) {
        let began = Instant::now();
        loop {
            let value = self.value(script);
            if value.as_f64() == Some(wanted as f64) {
                return;
            }
            assert!(began.elapsed() < TEST_DEADLINE, "{script} is {value} and not {wanted}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn assert_no_error(&mut self) {
        self.value("0");
        assert_eq!(self.errors, Vec::<String>::new());
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `pbft explore`, ended with the test.
pub struct Served {
    process: Child,
    pub link: String,
    /// Open until the end: who finds nobody to tell anything stops.
    _lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Served {
    pub fn new(arguments: &[&str]) -> Served {
        let mut process = Command::new(env!("CARGO_BIN_EXE_pbft"))
            .args(["explore", "--address", "127.0.0.1:0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let link = lines.next().unwrap().unwrap();
        Served { process, link, _lines: lines }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
