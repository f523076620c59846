//! What `pbft explore` serves and `pbft replay --html` writes, in a real browser. Without Chromium these tests say so and
//! test nothing, unless the environment variable `PBFT_REQUIRE_BROWSER` is set.

// Helpers of tests may unwrap as tests do.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use tungstenite::{Message, WebSocket};

const PATIENCE: Duration = Duration::from_secs(60);

fn chromium() -> Option<PathBuf> {
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
struct Window {
    process: Child,
    socket: WebSocket<TcpStream>,
    session: Option<String>,
    calls: u64,
    /// The script errors of the page.
    errors: Vec<String>,
}

impl Window {
    fn open(chromium: PathBuf, name: &str) -> Window {
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
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
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
    fn call(&mut self, method: &str, params: Value) -> Value {
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
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    fn go(&mut self, url: &str) {
        self.call("Page.navigate", json!({"url": url}));
    }

    /// The value of a script; null if it throws, as while the page loads.
    fn value(&mut self, script: &str) -> Value {
        let result = self.call("Runtime.evaluate", json!({"expression": script, "returnByValue": true}));
        result["result"]["value"].clone()
    }

    fn run(&mut self, script: &str) {
        let result = self.call("Runtime.evaluate", json!({"expression": script}));
        assert!(result.get("exceptionDetails").is_none(), "{script}: {result}");
    }

    fn text(&mut self, script: &str) -> String {
        self.value(script).as_str().unwrap_or_default().to_owned()
    }

    /// Waits until a script has this value.
    fn wait_for(&mut self, script: &str, wanted: u64) {
        let began = Instant::now();
        loop {
            let value = self.value(script);
            if value.as_f64() == Some(wanted as f64) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{script} is {value} and not {wanted}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn assert_no_error(&mut self) {
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
struct Served {
    process: Child,
    link: String,
    /// Open until the end: who finds nobody to tell anything stops.
    _lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Served {
    fn new(arguments: &[&str]) -> Served {
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

fn counterexample(id: &str) -> String {
    format!("{}/../counterexamples/{id}.json", env!("CARGO_MANIFEST_DIR"))
}

/// The steps in a counterexample's file, and how many of them are deliveries.
fn steps(path: &str) -> (u64, u64) {
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let steps = file["steps"].as_array().unwrap();
    let deliveries = steps.iter().filter(|step| step["what"].get("deliver").is_some()).count();
    (steps.len() as u64, deliveries as u64)
}

const ARROWS: &str = "document.querySelectorAll('svg.d .delivery').length";

#[test]
fn the_explorer_lands_at_the_end_of_a_trace_and_goes_back_and_forward() {
    let Some(chromium) = chromium() else { return };
    let path = counterexample("highest-view-wins");
    let (steps, deliveries) = steps(&path);
    let served = Served::new(&[&path]);
    let mut window = Window::open(chromium, "explorer");
    window.go(&served.link);
    window.wait_for(ARROWS, deliveries);
    // The path has a link for each step, one for the start, and one for what is before it.
    let links = "document.querySelectorAll('.path-list a').length";
    window.wait_for(links, steps + 2);
    let selected = "document.querySelector('a.is-selected-state').innerText";
    let last = window.text(selected);
    assert!(last.contains("VIEW-CHANGE v2"), "{last}");
    assert!(window.text("document.querySelector('.main-flex-right').innerText").contains("VIOLATED"));
    // Back: the step before the last; the last is a delivery.
    window.run(&format!("document.querySelectorAll('.path-list a')[{steps}].click()"));
    window.wait_for(ARROWS, deliveries - 1);
    assert_ne!(window.text(selected), last);
    window.run(&format!("document.querySelectorAll('.path-list a')[{}].click()", steps + 1));
    window.wait_for(ARROWS, deliveries);
    assert_eq!(window.text(selected), last);
    window.assert_no_error();
}

#[test]
fn a_world_can_be_browsed_from_its_start_by_choosing_steps() {
    let Some(chromium) = chromium() else { return };
    let served = Served::new(&["--world", "n4f1-byz0-v1k1r2b1", "--rules", "commit-quorum"]);
    let mut window = Window::open(chromium, "world");
    window.go(&served.link);
    let links = "document.querySelectorAll('.path-list a').length";
    window.wait_for(links, 2);
    let next = "[...document.querySelectorAll('.main-flex-left a')].filter(a => a.innerText.includes('PRE-PREPARE'))";
    assert!(window.value(&format!("{next}.length")).as_u64() > Some(0));
    window.run(&format!("{next}[0].click()"));
    window.wait_for(links, 3);
    window.wait_for(ARROWS, 1);
    window.assert_no_error();
}

#[test]
fn the_page_of_a_counterexample_shows_every_delivery_and_what_each_step_changes() {
    let Some(chromium) = chromium() else { return };
    let path = counterexample("highest-view-wins");
    let (steps, deliveries) = steps(&path);
    let page = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("page.html");
    let written =
        Command::new(env!("CARGO_BIN_EXE_pbft")).args(["replay", &path, "--html"]).arg(&page).status();
    assert!(written.unwrap().success());
    let mut window = Window::open(chromium, "page");
    window.go(&format!("file://{}", page.display()));
    window.wait_for(ARROWS, deliveries);
    let chosen = "Number(document.querySelector('aside section.chosen').dataset.step)";
    window.wait_for(chosen, steps);
    window.run("document.getElementById('back').click()");
    window.wait_for(chosen, steps - 1);
    window.run("document.getElementById('forward').click()");
    window.wait_for(chosen, steps);
    let click = "document.querySelector('.step[data-step=\"5\"]').dispatchEvent(new MouseEvent('click', {bubbles: true}))";
    window.run(click);
    window.wait_for(chosen, 5);
    assert!(window.text("document.querySelector('aside section.chosen').innerText").contains("v1 begins"));
    window.assert_no_error();
}
