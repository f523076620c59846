//! Why something that was asked for cannot be done.

/// One sentence for people: what is wrong with what was asked for, and what to do instead.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct Problem(String);

impl From<String> for Problem {
    fn from(sentence: String) -> Self {
        Problem(sentence)
    }
}

impl From<&str> for Problem {
    fn from(sentence: &str) -> Self {
        Problem(sentence.into())
    }
}

/// For functions that pass sentences of several crates on.
impl From<Problem> for String {
    fn from(problem: Problem) -> Self {
        problem.0
    }
}
