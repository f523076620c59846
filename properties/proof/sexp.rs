//! S-expressions: what solvers read and write.

use std::fmt::{self, Display};

/// An atom or a list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Sexp {
    /// A symbol, a number, a keyword or a quoted string, as written.
    Atom(String),
    /// A list.
    List(Vec<Sexp>),
}

/// The longest line printed.
const WIDTH: usize = 100;

impl Sexp {
    /// An atom.
    pub fn atom(text: impl Into<String>) -> Sexp {
        Sexp::Atom(text.into())
    }

    /// A list that begins with a symbol.
    pub fn call(head: &str, rest: impl IntoIterator<Item = Sexp>) -> Sexp {
        Sexp::List([Sexp::atom(head)].into_iter().chain(rest).collect())
    }

    /// The text of an atom; none of a list.
    pub fn text(&self) -> Option<&str> {
        match self {
            Sexp::Atom(text) => Some(text),
            Sexp::List(_) => None,
        }
    }

    /// The parts of a list; none of an atom.
    pub fn parts(&self) -> &[Sexp] {
        match self {
            Sexp::Atom(_) => &[],
            Sexp::List(parts) => parts,
        }
    }

    /// Reads everything in a text; comments are left out.
    ///
    /// # Errors
    /// If parentheses do not match.
    pub fn read(text: &str) -> Result<Vec<Sexp>, String> {
        let mut open: Vec<Vec<Sexp>> = vec![Vec::new()];
        for token in tokens(text) {
            let complete = match token {
                "(" => {
                    open.push(Vec::new());
                    continue;
                }
                ")" => Sexp::List(open.pop().unwrap_or_default()),
                atom => Sexp::atom(atom),
            };
            open.last_mut().ok_or("a parenthesis is closed that was not opened")?.push(complete);
        }
        match (open.pop(), open.is_empty()) {
            (Some(all), true) => Ok(all),
            _ => Err("a parenthesis is not closed".into()),
        }
    }

    /// Prints over several lines, none longer than [`WIDTH`] where it can be broken.
    fn pretty(&self, indent: usize, out: &mut String) {
        let line = self.to_string();
        if indent + line.len() <= WIDTH || self.parts().is_empty() {
            out.push_str(&line);
            return;
        }
        // The head and what is short after it stay on its line, such as the variables of a quantifier.
        let parts = self.parts();
        let mut used = indent + 1;
        let kept = parts.iter().take_while(|part| {
            used += part.to_string().len() + 1;
            used <= WIDTH * 2 / 3
        });
        let kept = kept.count().clamp(1, 2).min(parts.len());
        out.push('(');
        for (number, part) in parts.iter().enumerate() {
            if number >= kept {
                out.push('\n');
                out.push_str(&" ".repeat(indent + 2));
            } else if number > 0 {
                out.push(' ');
            }
            part.pretty(indent + 2, out);
        }
        out.push(')');
    }

    /// The text over several lines.
    pub fn lines(&self) -> String {
        let mut out = String::new();
        self.pretty(0, &mut out);
        out
    }
}

impl Display for Sexp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sexp::Atom(text) => out.write_str(text),
            Sexp::List(parts) => {
                out.write_str("(")?;
                for (number, part) in parts.iter().enumerate() {
                    let gap = if number > 0 { " " } else { "" };
                    write!(out, "{gap}{part}")?;
                }
                out.write_str(")")
            }
        }
    }
}

/// Parentheses, quoted texts and whatever is between blanks.
fn tokens(text: &str) -> Vec<&str> {
    let mut all = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '(' | ')' => 1,
            '|' | '"' => rest[1..].find(first).map_or(rest.len(), |end| end + 2),
            ';' => rest.find('\n').unwrap_or(rest.len()),
            _ => rest.find(|c: char| c.is_whitespace() || "();".contains(c)).unwrap_or(rest.len()),
        };
        if first != ';' {
            all.push(&rest[..length]);
        }
        rest = rest[length..].trim_start();
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_back() {
        let text = "(assert (=> (p |a b| \"(\") (not q)))";
        let read = Sexp::read(&format!("; a comment (\n{text} sat")).unwrap();
        assert_eq!(read.iter().map(Sexp::to_string).collect::<Vec<_>>(), [text, "sat"]);
        assert!(Sexp::read("(a").is_err() && Sexp::read("a)").is_err());
    }

    #[test]
    fn long_lines_are_broken_and_mean_the_same() {
        let part = || Sexp::call("prepare", ["i", "v", "n", "d"].map(Sexp::atom));
        let long = Sexp::call("and", (0..9).map(|_| part()));
        let lines = long.lines();
        assert!(lines.lines().count() > 2 && lines.lines().all(|line| line.len() <= WIDTH), "{lines}");
        assert_eq!(Sexp::read(&lines).unwrap(), [long]);
    }
}
