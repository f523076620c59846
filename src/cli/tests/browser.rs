//! What `pbft explore` serves and `pbft replay --html` writes, in a real browser. Without Chromium these tests say so and
//! test nothing, unless the environment variable `PBFT_REQUIRE_BROWSER` is set.

// Helpers of tests may unwrap as tests do.
#![allow(clippy::unwrap_used)]

use headless_chrome::protocol::cdp::Page::CaptureScreenshotFormatOption;
use headless_chrome::protocol::cdp::types::Event;
use headless_chrome::{Browser, LaunchOptions, Tab};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

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

/// A browser with one page, and the script errors of that page.
struct Window {
    tab: Arc<Tab>,
    errors: Arc<Mutex<Vec<String>>>,
    _browser: Browser,
}

impl Window {
    fn open(path: PathBuf) -> Window {
        let options = LaunchOptions {
            path: Some(path),
            // Chromium refuses its sandbox to root, as which containers run it.
            sandbox: false,
            window_size: Some((1280, 800)),
            idle_browser_timeout: PATIENCE,
            args: vec![OsStr::new("--disable-dev-shm-usage"), OsStr::new("--hide-scrollbars")],
            ..LaunchOptions::default()
        };
        let browser = Browser::new(options).unwrap();
        let tab = browser.new_tab().unwrap();
        tab.set_default_timeout(PATIENCE);
        let errors: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = errors.clone();
        tab.enable_runtime().unwrap();
        let listener = move |event: &Event| {
            if let Event::RuntimeExceptionThrown(thrown) = event {
                seen.lock().unwrap().push(format!("{:?}", thrown.params.exception_details));
            }
        };
        tab.add_event_listener(Arc::new(listener)).unwrap();
        Window { tab, errors, _browser: browser }
    }

    fn number(&self, script: &str) -> u64 {
        self.tab.evaluate(script, false).unwrap().value.and_then(|value| value.as_u64()).unwrap_or_default()
    }

    fn text(&self, script: &str) -> String {
        let value = self.tab.evaluate(script, false).unwrap().value;
        value.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// Waits until a script has this value.
    fn wait_for(&self, script: &str, wanted: u64) {
        let began = Instant::now();
        while self.number(script) != wanted {
            assert!(began.elapsed() < PATIENCE, "{script} is {} and not {wanted}", self.number(script));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Saves what is seen where the environment variable `PBFT_SCREENSHOTS` says, for people to look at.
    fn look(&self, name: &str) {
        if let Some(directory) = std::env::var_os("PBFT_SCREENSHOTS") {
            let format = CaptureScreenshotFormatOption::Png;
            let picture = self.tab.capture_screenshot(format, None, None, true).unwrap();
            std::fs::write(Path::new(&directory).join(name), picture).unwrap();
        }
    }

    fn assert_no_error(&self) {
        assert_eq!(*self.errors.lock().unwrap(), Vec::<String>::new());
    }
}

/// `pbft explore`, ended with the test.
struct Served {
    process: Child,
    link: String,
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
        Served { process, link }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn counterexample(id: &str) -> String {
    format!("{}/../../counterexamples/{id}.json", env!("CARGO_MANIFEST_DIR"))
}

/// The steps in a counterexample's file, and how many of them are deliveries.
fn steps(path: &str) -> (u64, u64) {
    let file: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
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
    let window = Window::open(chromium);
    window.tab.navigate_to(&served.link).unwrap();
    window.wait_for(ARROWS, deliveries);
    window.look("explorer.png");
    // The path has a link for each step, one for the start, and one for what is before it.
    let links = "document.querySelectorAll('.path-list a').length";
    window.wait_for(links, steps + 2);
    let selected = "document.querySelector('a.is-selected-state').innerText";
    let last = window.text(selected);
    assert!(last.contains("VIEW-CHANGE v2"), "{last}");
    assert!(window.text("document.querySelector('.main-flex-right').innerText").contains("VIOLATED"));
    // Back: the step before the last; the last is a delivery.
    window
        .tab
        .evaluate(&format!("document.querySelectorAll('.path-list a')[{steps}].click()"), false)
        .unwrap();
    window.wait_for(ARROWS, deliveries - 1);
    assert_ne!(window.text(selected), last);
    window
        .tab
        .evaluate(&format!("document.querySelectorAll('.path-list a')[{}].click()", steps + 1), false)
        .unwrap();
    window.wait_for(ARROWS, deliveries);
    assert_eq!(window.text(selected), last);
    window.assert_no_error();
}

#[test]
fn a_world_can_be_browsed_from_its_start_by_choosing_steps() {
    let Some(chromium) = chromium() else { return };
    let served = Served::new(&["--world", "n4f1-byz0-v1k1r2b1", "--rules", "commit-quorum"]);
    let window = Window::open(chromium);
    window.tab.navigate_to(&served.link).unwrap();
    let links = "document.querySelectorAll('.path-list a').length";
    window.wait_for(links, 2);
    let next = "[...document.querySelectorAll('.main-flex-left a')].filter(a => a.innerText.includes('PRE-PREPARE'))";
    assert!(window.number(&format!("{next}.length")) > 0);
    window.tab.evaluate(&format!("{next}[0].click()"), false).unwrap();
    window.wait_for(links, 3);
    window.wait_for(ARROWS, 1);
    window.look("world.png");
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
    let window = Window::open(chromium);
    window.tab.navigate_to(&format!("file://{}", page.display())).unwrap();
    window.wait_for(ARROWS, deliveries);
    let chosen = "Number(document.querySelector('aside section.chosen').dataset.step)";
    window.wait_for(chosen, steps);
    window.look("page.png");
    window.tab.evaluate("document.getElementById('back').click()", false).unwrap();
    window.wait_for(chosen, steps - 1);
    window.tab.evaluate("document.getElementById('forward').click()", false).unwrap();
    window.wait_for(chosen, steps);
    let click = "document.querySelector('.step[data-step=\"5\"]').dispatchEvent(new MouseEvent('click', {bubbles: true}))";
    window.tab.evaluate(click, false).unwrap();
    window.wait_for(chosen, 5);
    assert!(window.text("document.querySelector('aside section.chosen').innerText").contains("v1 begins"));
    window.assert_no_error();
}
