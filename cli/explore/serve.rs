//! Requests and answers: our pages, and what is passed on to stateright's Explorer.

use super::pages::{self, Page};
use super::{SEARCHED, Shown};
use crate::check::rules;
use crate::net::audit;
use crate::replay::{range, read};
use pbft_models::browse::{Session, View};
use pbft_models::mutants::Rulebook;
use pbft_models::story::Story;
use pbft_models::trace::file::Stored;
use pbft_models::trace::replay::{replay, with_safeguard};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tiny_http::{Header, Method, Request, Response};

/// The longest that stateright's Explorer may take for an answer.
const BEHIND: Duration = Duration::from_secs(120);
/// The longest path in an address.
const MAX_STEPS: usize = 400;

/// What is answered: the status, the type, what comes with it, and the text.
struct Answer {
    status: u16,
    kind: &'static str,
    header: Option<(&'static str, String)>,
    text: Vec<u8>,
}

/// Everything that the pages are made of.
pub struct Server {
    shown: Shown,
    /// The world by each set of rules that was asked for.
    sessions: BTreeMap<&'static str, Session>,
    behind: SocketAddr,
}

impl Server {
    /// What is shown, with stateright's Explorer at an address behind.
    pub fn new(shown: Shown, behind: SocketAddr) -> Result<Self, String> {
        let session = Session::new(shown.config.clone(), shown.lenient)?;
        Ok(Server { sessions: BTreeMap::from([(shown.config.rules.name(), session)]), shown, behind })
    }

    /// The address of the first page.
    pub fn first(&self) -> String {
        pages::address(&self.shown.path, self.shown.config.rules)
            + if self.shown.path.is_empty() { "" } else { "&step=1" }
    }

    /// Answers one request after the other.
    pub fn run(mut self, listening: &tiny_http::Server) {
        for mut request in listening.incoming_requests() {
            let answer = self.answer(&mut request);
            respond(request, answer);
        }
    }

    fn answer(&mut self, request: &mut Request) -> Answer {
        let url = request.url().to_string();
        let (path, query) = url.split_once('?').unwrap_or((&url, ""));
        let is_post = *request.method() == Method::Post;
        match (is_post, path) {
            (false, "/") => see(self.first()),
            (false, "/.status") | (true, "/.runtocompletion") => self.passed_on(request.method(), path),
            (false, path) if path.starts_with("/.states") => self.passed_on(request.method(), path),
            (true, "/search") => {
                let _ = self.passed_on(&Method::Post, "/.runtocompletion");
                see("/search".into())
            }
            (false, "/attacks") => page(pages::attacks(&self.attacks())),
            (false, "/search") => page(pages::search(&self.shown, &self.status())),
            (false, path) => match path.strip_prefix("/at").or_else(|| path.strip_prefix("/file")) {
                Some(steps) => self.at(path.starts_with("/file"), steps, query),
                None => missing("there is no such page: / is the first"),
            },
            _ => missing("there is no such page: / is the first"),
        }
    }

    fn at(&mut self, as_file: bool, steps: &str, query: &str) -> Answer {
        let path: Vec<String> =
            steps.split(['/', '.']).filter(|id| !id.is_empty()).map(str::to_string).collect();
        if path.len() > MAX_STEPS {
            return missing("that is a longer path than any page shows");
        }
        let asked: BTreeMap<&str, &str> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let name = asked.get("rules").map(|name| name.replace("%2B", "+").replace("%2b", "+"));
        let by = match name.map_or(Ok(self.shown.config.rules), |name| rules(&name)) {
            Ok(by) => by,
            Err(why) => return missing(&why),
        };
        let refused = asked.contains_key("refused");
        let view = match self.session(by) {
            Ok(session) => session.view(&path, refused),
            Err(why) => return missing(&why),
        };
        if as_file {
            return file(&view);
        }
        let first = asked.get("step").and_then(|step| step.parse().ok());
        let first = first.unwrap_or(view.story.steps.len());
        page(pages::path(&Page { shown: &self.shown, rules: by, asked: &path, first, refused, view: &view }))
    }

    fn session(&mut self, by: Rulebook) -> Result<&mut Session, String> {
        let config = pbft_models::world::WorldConfig { rules: by, ..self.shown.config.clone() };
        if !self.sessions.contains_key(by.name()) {
            // What a rule lets through is what the other one refuses.
            let lenient = self.shown.lenient.or(Some(self.shown.config.rules));
            self.sessions.insert(by.name(), Session::new(config, lenient)?);
        }
        Ok(self.sessions.get_mut(by.name()).expect("it is there now"))
    }

    /// The stored attacks, each by the paper's rules: its file, and its story or why there is none.
    fn attacks(&self) -> Vec<(PathBuf, Result<Story, String>)> {
        let directories = [self.shown.attacks.clone(), self.shown.attacks.join("stuck")];
        let entries = directories.iter().flat_map(std::fs::read_dir).flatten().flatten();
        let mut files: Vec<PathBuf> = entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .collect();
        files.sort();
        let story = |path: &PathBuf| {
            let replayed = replay(&read(path)?).map_err(|stale| stale.to_string())?;
            Ok(Story::of(&replayed, &with_safeguard(&replayed)?))
        };
        files.into_iter().map(|path| (path.clone(), story(&path))).collect()
    }

    /// What stateright's Explorer says of its search.
    fn status(&self) -> serde_json::Value {
        let answer = self.passed_on(&Method::Get, "/.status");
        serde_json::from_slice(&answer.text).unwrap_or_default()
    }

    /// The answer of stateright's Explorer.
    fn passed_on(&self, method: &Method, path: &str) -> Answer {
        let asked = || -> std::io::Result<Answer> {
            let mut stream = TcpStream::connect_timeout(&self.behind, BEHIND)?;
            stream.set_read_timeout(Some(BEHIND))?;
            let request =
                format!("{method} {path} HTTP/1.0\r\nHost: {}\r\nContent-Length: 0\r\n\r\n", self.behind);
            stream.write_all(request.as_bytes())?;
            let mut all = Vec::new();
            stream.read_to_end(&mut all)?;
            let end = all.windows(4).position(|bytes| bytes == b"\r\n\r\n").map_or(all.len(), |at| at + 4);
            let head = String::from_utf8_lossy(&all[..end]).into_owned();
            let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(502);
            Ok(Answer { status, kind: "application/json", header: None, text: all.split_off(end) })
        };
        asked().unwrap_or_else(|error| Answer {
            status: 502,
            kind: "text/plain; charset=utf-8",
            header: None,
            text: format!("stateright's Explorer does not answer: {error}").into_bytes(),
        })
    }
}

/// Serves the page of a cluster's journals: `/`, or `/?numbers=10..20`.
pub fn journals(listening: &tiny_http::Server, directory: &Path) {
    for request in listening.incoming_requests() {
        let url = request.url().to_string();
        let asked =
            url.split_once("?numbers=").map(|(_, numbers)| crate::replay::numbers(numbers)).transpose();
        let found = asked.and_then(|numbers| audit::page(directory, &range(numbers)));
        let answer = match found {
            Ok((text, _)) => page(text),
            Err(why) => missing(&why),
        };
        respond(request, answer);
    }
}

fn respond(request: Request, answer: Answer) {
    let mut response = Response::from_data(answer.text).with_status_code(answer.status);
    for (name, value) in std::iter::once(("Content-Type", answer.kind.to_string())).chain(answer.header) {
        if let Ok(header) = Header::from_bytes(name, value) {
            response.add_header(header);
        }
    }
    // Who has gone away needs no answer.
    let _ = request.respond(response);
}

/// The counterexample that a path is, to be saved.
fn file(view: &View) -> Answer {
    let Some(execution) = &view.execution else {
        return missing(
            "the last step of this path is not the first to violate something, so it is no counterexample",
        );
    };
    match Stored::new(execution, "found by hand".into()) {
        Ok(stored) => Answer {
            status: 200,
            kind: "application/json",
            header: Some(("Content-Disposition", format!("attachment; filename=\"{}.json\"", stored.rules))),
            text: stored.text().into_bytes(),
        },
        Err(why) => missing(&why.to_string()),
    }
}

fn page(text: String) -> Answer {
    Answer { status: 200, kind: "text/html; charset=utf-8", header: None, text: text.into_bytes() }
}

fn see(address: String) -> Answer {
    let header = Some(("Location", address));
    Answer { status: 303, kind: "text/plain; charset=utf-8", header, text: Vec::new() }
}

fn missing(why: &str) -> Answer {
    let text = format!("{why}\n").into_bytes();
    Answer { status: 404, kind: "text/plain; charset=utf-8", header: None, text }
}

/// Whether a search has looked at so many states that it was stopped.
pub fn is_cut(status: &serde_json::Value) -> bool {
    status["state_count"].as_u64().is_none_or(|states| states >= SEARCHED as u64)
}
