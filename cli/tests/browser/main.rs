//! What `pbft explore` serves and `pbft replay --html` writes, in a real browser. Without Chromium these
//! tests say so and test nothing, unless the environment variable `PBFT_REQUIRE_BROWSER` is set.

// Helpers of tests may unwrap as tests do.
#![allow(clippy::unwrap_used)]

mod window;

use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use window::{Served, Window, chromium};

const TEST_DEADLINE: Duration = Duration::from_secs(60);

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

/// Arrows that can be seen: of two diagrams a page shows one.
const ARROWS: &str =
    "[...document.querySelectorAll('svg.d .delivery')].filter(e => e.getClientRects().length).length";
const CHOSEN: &str = "Number((document.querySelector('ol.steps li.chosen') || {dataset: {}}).dataset.step)";
const SHOWN: &str =
    "[...document.querySelectorAll('ol.steps>li')].filter(e => e.getClientRects().length).length";

fn text_of(window: &mut Window, selector: &str) -> String {
    window.text(&format!("(document.querySelector({selector:?}) || {{innerText: ''}}).innerText"))
}

/// Waits until the page says this there.
fn wait_for_text(window: &mut Window, selector: &str, words: &str) {
    let began = Instant::now();
    while !text_of(window, selector).contains(words) {
        let text = text_of(window, selector);
        assert!(began.elapsed() < TEST_DEADLINE, "{selector} says {text:?} and not {words:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_explorer_says_which_rule_is_off_and_that_this_state_violates_what_it_violates() {
    let Some(chromium) = chromium() else { return };
    let path = counterexample("highest-view-wins");
    let (steps, deliveries) = steps(&path);
    let served = Served::new(&[&path]);
    let mut window = Window::open(chromium, "explorer");
    window.go(&served.link);
    window.wait_for(ARROWS, deliveries);
    window.wait_for(CHOSEN, 1);
    let head = text_of(&mut window, "header");
    assert!(head.contains("highest-view-wins.json") && head.contains("without highest-view-wins"), "{head}");
    assert!(head.contains("r0 is Byzantine; views 0 to 2"), "{head}");
    // The keys lead to the lies, to the step that the rule makes another, and to the violation.
    let targets =
        "[...document.querySelectorAll('.jump')].map(e => e.dataset.key + e.dataset.steps).join(' ')";
    assert_eq!(window.text(targets), format!("l4 15 d{steps} v{steps}"));
    let properties = text_of(&mut window, "#properties");
    assert!(
        properties.starts_with(&format!("After step {steps}: 1 of 11 properties violated")),
        "{properties}"
    );
    assert_eq!(properties.matches("VIOLATED").count(), 1, "{properties}");
    assert!(properties.contains("new-view-preserves-committed\tVIOLATED: r1 committed A"), "{properties}");
    // Undone, the state before it violates nothing, and says that this is about this state alone.
    window.run("[...document.querySelectorAll('nav a')].find(a => a.innerText.includes('undo')).click()");
    wait_for_text(&mut window, "#properties", &format!("After step {}: every property holds", steps - 1));
    assert!(text_of(&mut window, "#properties").contains("Other states were not looked at"));
    window.assert_no_error();
}

#[test]
fn a_search_that_was_cut_short_is_called_unknown_and_every_attack_is_stopped_by_somebody() {
    let Some(chromium) = chromium() else { return };
    let attacks = format!("{}/../counterexamples", env!("CARGO_MANIFEST_DIR"));
    let served = Served::new(&[&counterexample("highest-view-wins"), "--attacks", &attacks]);
    let mut window = Window::open(chromium, "search");
    let host = served.link.split("/at/").next().unwrap().to_string();
    window.go(&format!("{host}/search"));
    wait_for_text(&mut window, "#covered", "Nothing has been searched yet");
    assert!(!text_of(&mut window, "body").contains("holds"));
    window.run("document.querySelector('form button').click()");
    let began = Instant::now();
    while !text_of(&mut window, "#covered").contains("cut short") {
        assert!(began.elapsed() < TEST_DEADLINE, "{}", text_of(&mut window, "#covered"));
        std::thread::sleep(Duration::from_millis(200));
        window.go(&format!("{host}/search"));
        window.wait_for("document.querySelectorAll('#covered').length", 1);
    }
    let said = text_of(&mut window, "body");
    assert!(
        said.contains("not exhausted") && said.matches("unknown: the search was cut short").count() == 11,
        "{said}"
    );
    assert!(!said.contains("holds in every state"), "{said}");
    window.go(&format!("{host}/attacks"));
    window.wait_for("document.querySelectorAll('table tr').length", 55);
    let said = text_of(&mut window, "table");
    assert_eq!(said.matches("Nothing is violated.").count(), 46);
    assert_eq!(said.matches("every client has its result within ").count(), 9);
    window.assert_no_error();
}

#[test]
fn a_world_can_be_browsed_by_choosing_steps_and_the_rules_can_be_switched_on_the_page() {
    let Some(chromium) = chromium() else { return };
    let served = Served::new(&["--world", "n4f1-byz0-v1k1r2b1", "--rules", "commit-quorum"]);
    let mut window = Window::open(chromium, "world");
    window.go(&served.link);
    wait_for_text(&mut window, "#properties", "At the start: every property holds");
    let next =
        "[...document.querySelectorAll('.choices a')].filter(a => a.innerText.includes('PRE-PREPARE'))";
    assert!(window.value(&format!("{next}.length")).as_u64() > Some(0));
    window.run(&format!("{next}[0].click()"));
    window.wait_for(ARROWS, 1);
    // What is typed narrows the list.
    let shown = "[...document.querySelectorAll('.choices a')].filter(a => !a.hidden).length";
    // The diagram is there before the list is.
    window.wait_for(&format!("{shown} > 0 ? 1 : 0"), 1);
    let all = window.value(shown).as_u64().unwrap();
    window.run("const f = document.getElementById('find'); f.value = 'r2 commit'; f.dispatchEvent(new Event('input'))");
    window.wait_for(&format!("(n => n > 0 && n < {all} ? 1 : 0)({shown})"), 1);
    // What would change nothing is listed with its reasons when it is asked for.
    window.run("document.querySelector('#refused a').click()");
    window.wait_for("document.querySelectorAll('#refused li').length > 5 ? 1 : 0", 1);
    // Another rule, the same path.
    window.run(
        "const s = document.getElementById('rules'); s.value = 'pbft'; s.dispatchEvent(new Event('change'))",
    );
    wait_for_text(&mut window, "header", "Rules: the paper's rules.");
    window.wait_for(ARROWS, 1);
    window.assert_no_error();
}

#[test]
fn the_page_of_a_counterexample_opens_at_its_first_step_and_is_read_by_mouse_keyboard_and_address() {
    let Some(chromium) = chromium() else { return };
    let path = counterexample("highest-view-wins");
    let (steps, deliveries) = steps(&path);
    let page = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("page.html");
    let written =
        Command::new(env!("CARGO_BIN_EXE_pbft")).args(["replay", &path, "--html"]).arg(&page).status();
    assert!(written.unwrap().success());
    let mut window = Window::open(chromium, "page");
    let url = format!("file://{}", page.display());
    window.go(&url);
    window.wait_for(ARROWS, deliveries);
    window.wait_for(CHOSEN, 1);
    window.wait_for(SHOWN, 1);
    window.run("document.getElementById('forward').click()");
    window.wait_for(CHOSEN, 2);
    let key = |name: &str| format!("document.dispatchEvent(new KeyboardEvent('keydown', {{key: '{name}'}}))");
    window.run(&key("ArrowRight"));
    window.wait_for(CHOSEN, 3);
    window.run(&key("ArrowLeft"));
    window.wait_for(CHOSEN, 2);
    let click = "[...document.querySelectorAll('.step[data-step=\"5\"]')].find(e => e.getClientRects().length)\
        .dispatchEvent(new MouseEvent('click', {bubbles: true}))";
    window.run(click);
    window.wait_for(CHOSEN, 5);
    assert!(text_of(&mut window, "ol.steps li.chosen").contains("v1 begins: 3/3 VIEW-CHANGEs"));
    assert_eq!(window.text("location.hash"), "#step-5");
    // A quorum lights the arrows of its votes.
    window.run("document.querySelector('li.chosen .tally').click()");
    window.wait_for("document.querySelectorAll('.diagram .lit').length > 0 ? 1 : 0", 1);
    window.go(&format!("{url}#step-{steps}"));
    window.wait_for(CHOSEN, steps);
    // Links and keys lead to the steps that matter.
    window.run("document.querySelector('.jump[data-key=l]').click()");
    window.wait_for(CHOSEN, 4);
    assert_eq!(window.text("location.hash"), "#step-4");
    window.run(&key("d"));
    window.wait_for(CHOSEN, steps);
    window.run(&key("ArrowLeft"));
    window.run(&key("v"));
    window.wait_for(CHOSEN, steps);
    window.run(&key("l"));
    window.wait_for(CHOSEN, 4);
    window.go(&url);
    window.wait_for(CHOSEN, 1);
    window.go(&format!("{url}#step-{steps}"));
    window.wait_for(CHOSEN, steps);
    // A page of another step is another step after a reload too.
    window.call("Page.reload", json!({}));
    window.wait_for(CHOSEN, steps);
    window.run("document.getElementById('all').click()");
    window.wait_for(SHOWN, steps);
    window.assert_no_error();
}

#[test]
fn every_page_of_the_gallery_is_whole_at_400_pixels_in_the_dark_and_on_paper() {
    let Some(chromium) = chromium() else { return };
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("gallery-site");
    let counterexamples = format!("{}/../counterexamples", env!("CARGO_MANIFEST_DIR"));
    let written = Command::new(env!("CARGO_BIN_EXE_pbft"))
        .args(["gallery", "--counterexamples", &counterexamples])
        .arg(&directory)
        .stdout(Stdio::null())
        .status();
    assert!(written.unwrap().success());
    let mut window = Window::open(chromium, "gallery");
    let (mut pages, mut stuck) = (0, 0);
    for entry in std::fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        let url = format!("file://{}", path.display());
        window.call(
            "Emulation.setDeviceMetricsOverride",
            json!({"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": true}),
        );
        window.call(
            "Emulation.setEmulatedMedia",
            json!({"media": "screen", "features": [{"name": "prefers-color-scheme", "value": "dark"}]}),
        );
        window.go(&url);
        window
            .wait_for(&format!("location.href === {url:?} && document.readyState === 'complete' ? 1 : 0"), 1);
        let wide = window.value("document.documentElement.scrollWidth").as_u64().unwrap();
        assert!(wide <= 400, "{}: {wide} pixels wide", path.display());
        let dark = window.text("getComputedStyle(document.body).backgroundColor");
        assert_eq!(dark, "rgb(3, 7, 18)", "{}", path.display());
        if path.ends_with("index.html") {
            continue;
        }
        pages += 1;
        // The diagram is as wide as the page, and its text is of a size that can be read.
        let narrow = "[...document.querySelectorAll('svg.d')].find(e => e.getClientRects().length)";
        let scale = window
            .value(&format!("(s => s.getBoundingClientRect().width / s.viewBox.baseVal.width)({narrow})"));
        assert!(scale.as_f64().unwrap() > 0.8, "{}: {scale}", path.display());
        // No text of the diagram is printed over another, nor runs out of it.
        let over = format!(
            "(s => {{ const box = s.getBoundingClientRect(); \
             const all = [...s.querySelectorAll('text.label, text.head')].map(e => e.getBoundingClientRect()); \
             return all.filter((a, i) => a.left < box.left - 1 || a.right > box.right + 1 || all.some((b, j) => i < j && \
             a.left < b.right - 2 && b.left < a.right - 2 && a.top < b.bottom - 3 && b.top < a.bottom - 3)).length }})({narrow})"
        );
        window.wait_for(&over, 0);
        let items = window.value("document.querySelectorAll('ol.steps>li').length").as_u64().unwrap();
        window.call("Emulation.setEmulatedMedia", json!({"media": "print"}));
        window.wait_for(SHOWN, items);
        let ink = window.text("getComputedStyle(document.body).backgroundColor");
        assert_eq!(ink, "rgb(255, 255, 255)", "{}", path.display());
        // Without the diagram everything is still said: a list of as many steps, in an order, each named.
        let named = "[...document.querySelectorAll('ol.steps>li>h3')].filter((e, i) => e.innerText.startsWith(`Step ${i + 1}:`)).length";
        window.wait_for(named, items);
        // Why a request never executes is an ordered list too, printed as well.
        let lasting = "document.querySelectorAll('#then').length";
        let whys =
            "[...document.querySelectorAll('#then ol.why>li')].filter(e => e.getClientRects().length).length";
        let is_stuck = window.value(lasting).as_u64().unwrap();
        window.wait_for(&format!("{whys} > 0 ? 1 : 0"), is_stuck);
        stuck += is_stuck;
        // At the width of a screen nothing in the diagram overlaps either.
        window.call("Emulation.setEmulatedMedia", json!({"media": "screen"}));
        window.call(
            "Emulation.setDeviceMetricsOverride",
            json!({"width": 1280, "height": 800, "deviceScaleFactor": 1, "mobile": false}),
        );
        window.wait_for(&over, 0);
        // The diagram begins on the first screen, and none of its notes runs out of it.
        if items > 0 {
            let first = "[...document.querySelectorAll('svg.d .step')].find(e => e.getClientRects().length)";
            window.wait_for(&format!("scrollY + {first}.getBoundingClientRect().bottom <= 800 ? 1 : 0"), 1);
        }
        let out = "[...document.querySelectorAll('.wide svg.d text')].filter(e => e.getBoundingClientRect().right > \
            e.ownerSVGElement.getBoundingClientRect().right).length";
        window.wait_for(out, 0);
    }
    // Of 46 counterexamples, of what the first violation leads to in six of them, of nine in which a request never
    // executes, and of what the proof refutes.
    assert_eq!((pages, stuck), (62, 9));
    window.assert_no_error();
}

#[test]
fn every_picture_of_what_the_proof_refutes_is_whole_at_400_pixels_and_on_a_screen() {
    let Some(chromium) = chromium() else { return };
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("refuted-site");
    let counterexamples = format!("{}/../counterexamples", env!("CARGO_MANIFEST_DIR"));
    let written = Command::new(env!("CARGO_BIN_EXE_pbft"))
        .args(["gallery", "--counterexamples", &counterexamples])
        .arg(&directory)
        .stdout(Stdio::null())
        .status();
    assert!(written.unwrap().success());
    let mut window = Window::open(chromium, "refuted");
    let url = format!("file://{}", directory.join("refuted.html").display());
    for width in [400, 1280] {
        window.call(
            "Emulation.setDeviceMetricsOverride",
            json!({"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width == 400}),
        );
        window.go(&url);
        let shown = "[...document.querySelectorAll('svg.d')].filter(e => e.getClientRects().length)";
        window.wait_for(
            &format!("location.href === {url:?} && document.readyState === 'complete' ? {shown}.length : 0"),
            39,
        );
        assert!(window.value("document.documentElement.scrollWidth").as_u64().unwrap() <= width);
        // In each, no text over another, nor out of the picture.
        let over = format!(
            "{shown}.flatMap(s => {{ const box = s.getBoundingClientRect(); \
             const all = [...s.querySelectorAll('text')].map(e => e.getBoundingClientRect()); \
             return all.filter((a, i) => a.left < box.left - 1 || a.right > box.right + 1 || a.bottom > box.bottom + 1 || \
             all.some((b, j) => i < j && a.left < b.right - 2 && b.left < a.right - 2 && a.top < b.bottom - 3 && \
             b.top < a.bottom - 3)) }}).length"
        );
        window.wait_for(&over, 0);
    }
    window.assert_no_error();
}

#[test]
fn the_explorer_says_where_a_request_never_executes_and_what_becomes_of_it_with_the_rule() {
    let Some(chromium) = chromium() else { return };
    // One with steps, and one that is stuck from the start.
    for id in ["stuck/reply-cached", "stuck/timer-on-request"] {
        let path = counterexample(id);
        let (steps, _) = steps(&path);
        let served = Served::new(&[&path]);
        let mut window = Window::open(chromium.clone(), &id.replace('/', "-"));
        window.go(&served.link);
        wait_for_text(&mut window, "#properties", "a request never executes from here");
        wait_for_text(&mut window, "#then", "A request never executes: ");
        assert!(window.value("document.querySelectorAll('#then ol.why>li').length").as_u64() > Some(0));
        let said = text_of(&mut window, "body");
        assert!(!said.contains("every property holds") && !said.contains("holds here"), "{said}");
        assert!(said.contains("On this page nothing is ever lost"), "{said}");
        if steps > 0 {
            // On the way there nothing is said of progress.
            window.run(
                "[...document.querySelectorAll('nav a')].find(a => a.innerText.includes('undo')).click()",
            );
            wait_for_text(
                &mut window,
                "#properties",
                &format!("After step {}: no property of safety", steps - 1),
            );
            assert!(text_of(&mut window, "#properties").contains("progress\tnot judged here"));
            assert_eq!(text_of(&mut window, "#then"), "");
            window.go(&served.link);
            wait_for_text(&mut window, "#properties", "a request never executes from here");
        }
        window.run(
            "const s = document.getElementById('rules'); s.value = 'pbft'; s.dispatchEvent(new Event('change'))",
        );
        // The page before says so too, of the rule.
        wait_for_text(&mut window, "#then h2", "How it goes on with the rule");
        wait_for_text(&mut window, "#properties", "no property of safety is violated in this state");
        assert!(text_of(&mut window, "#then").contains("every client has its result within "));
        assert!(!text_of(&mut window, "body").contains("never executes from here"));
        window.assert_no_error();
    }
}

#[test]
fn thirty_steps_among_seven_replicas_are_shown_at_once() {
    let Some(chromium) = chromium() else { return };
    let served = Served::new(&["--world", "n7f2-byz01-v1k1r2b1"]);
    let mut window = Window::open(chromium, "seven");
    window.go(&served.link);
    wait_for_text(&mut window, "#properties", "At the start");
    // Always the last choice, which leads on and on.
    for step in 1..=30 {
        window.run("[...document.querySelectorAll('.choices a')].pop().click()");
        wait_for_text(&mut window, "#properties", &format!("After step {step}:"));
    }
    let url = window.text("location.href");
    let script = format!(
        "new Promise(done => {{ const began = performance.now(); fetch({url:?}).then(r => r.text()).then(t => \
         done([performance.now() - began, t.length])) }})"
    );
    let result = window
        .call("Runtime.evaluate", json!({"expression": script, "awaitPromise": true, "returnByValue": true}));
    let value = &result["result"]["value"];
    println!("{} ms, {} bytes", value[0], value[1]);
    assert!(value[1].as_u64().unwrap() < 300_000, "{value}");
    assert!(value[0].as_f64().unwrap() < 200.0 * f64::from(PATIENCE_OF_A_BUSY_MACHINE), "{value}");
    window.assert_no_error();
}

/// How many times slower than on an idle machine this may be while other tests run.
const PATIENCE_OF_A_BUSY_MACHINE: u32 = 5;
