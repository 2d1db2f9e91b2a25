//! What was looked at, one line each.

use serde::Serialize;

/// How bad it is. In the order in which rows are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// `pathflow run` would not work.
    Fail,
    /// It would work, with the consequence that is given.
    Warn,
    /// As it should be.
    Ok,
}

impl Status {
    /// As it is shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fail => "FAIL",
            Self::Warn => "warn",
            Self::Ok => "ok",
        }
    }
}

/// One thing that pathflow depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// How bad it is.
    pub status: Status,
    /// Interface, if it is about one.
    pub interface: Option<String>,
    /// What was looked at.
    pub item: &'static str,
    /// As it is.
    pub found: String,
    /// As it should be.
    pub wanted: String,
    /// What follows from the difference; empty where there is none.
    pub consequence: String,
    /// What to do about it; empty where nothing is to be done.
    pub remedy: String,
}

impl Row {
    /// As it should be.
    pub(super) fn ok(item: &'static str, found: impl Into<String>, wanted: impl Into<String>) -> Self {
        let (found, wanted) = (found.into(), wanted.into());
        let (consequence, remedy) = (String::new(), String::new());
        Self { status: Status::Ok, interface: None, item, found, wanted, consequence, remedy }
    }

    /// The same, but worse.
    pub(super) fn but(
        self,
        status: Status,
        consequence: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { status, consequence: consequence.into(), remedy: remedy.into(), ..self }
    }

    /// It works, but.
    pub(super) fn warn(self, consequence: impl Into<String>, remedy: impl Into<String>) -> Self {
        self.but(Status::Warn, consequence, remedy)
    }

    /// It does not work.
    pub(super) fn fail(self, consequence: impl Into<String>, remedy: impl Into<String>) -> Self {
        self.but(Status::Fail, consequence, remedy)
    }

    /// It is about this interface.
    pub(super) fn of(self, interface: &str) -> Self {
        Self { interface: Some(interface.to_owned()), ..self }
    }
}
