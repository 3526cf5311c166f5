//! From one variable to one value; every fault is kept.

use std::ffi::OsString;

use super::variables::{DefaultValue, Entry, Exposure, Variable};
use super::{NamedFile, Secret, SecretError};

/// Where values come from: the environment in production, a map in tests.
pub type Source<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Everything that is wrong with the configuration.
#[derive(Debug)]
pub struct ConfigError {
    /// The faults; never empty.
    pub faults: Vec<Fault>,
}

impl std::error::Error for ConfigError {}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plural = if self.faults.len() == 1 { "fault" } else { "faults" };
        write!(f, "{} {plural} in the configuration", self.faults.len())?;
        self.faults.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

/// One fault. Its text is one line and never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A value that the variable's parser does not take.
    #[error("{name}={shown} {problem}; allowed: {allowed}")]
    Value {
        /// The variable.
        name: &'static str,
        /// Its value, quoted and without secrets.
        shown: String,
        /// What is wrong with it.
        problem: String,
        /// What would be right.
        allowed: &'static str,
    },
    /// A value that is no Unicode text.
    #[error("{name} is not valid UTF-8")]
    NotUnicode {
        /// The variable.
        name: String,
    },
    /// A secret given both as a value and as a file.
    #[error("{name} and {name}_FILE are both set; set one of them")]
    GivenTwice {
        /// The variable without `_FILE`.
        name: &'static str,
    },
    /// A secret's file that cannot be used.
    #[error("{name}_FILE: {source}")]
    SecretFile {
        /// The variable without `_FILE`.
        name: &'static str,
        /// Why.
        source: SecretError,
    },
    /// A variable that another one calls for.
    #[error("{name} is not set, but {because}; allowed: {allowed}")]
    Missing {
        /// The variable.
        name: &'static str,
        /// What calls for it.
        because: &'static str,
        /// What would be right.
        allowed: &'static str,
    },
    /// Values that are right alone and wrong together.
    #[error("{0}")]
    Together(String),
}

/// The fault was recorded in the reader.
#[derive(Debug, Clone, Copy)]
pub(super) struct Faulty;

/// Reads variables and collects what is wrong with them.
pub(super) struct Reader<'a> {
    source: Source<'a>,
    faults: Vec<Fault>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: Source<'a>) -> Self {
        Self { source, faults: Vec::new() }
    }

    /// Records a fault.
    pub(super) fn fault(&mut self, fault: Fault) -> Faulty {
        self.faults.push(fault);
        Faulty
    }

    /// The faults so far.
    pub(super) fn finish(self) -> Vec<Fault> {
        self.faults
    }

    /// A value that another variable calls for.
    pub(super) fn needed<T, V>(
        &mut self,
        variable: &Variable<V>,
        value: Result<Option<T>, Faulty>,
        because: &'static str,
    ) -> Result<T, Faulty> {
        let Entry { name, allowed, .. } = variable.entry;
        value?.ok_or_else(|| self.fault(Fault::Missing { name, because, allowed }))
    }

    /// The value of a variable that has a default.
    pub(super) fn value<T>(&mut self, variable: &Variable<T>) -> Result<T, Faulty> {
        let value = self.optional(variable);
        self.needed(variable, value, "it has no default")
    }

    /// The value of a variable, or none where it is unset and has no default of its own.
    pub(super) fn optional<T>(&mut self, variable: &Variable<T>) -> Result<Option<T>, Faulty> {
        let entry = &variable.entry;
        let raw = match (self.raw(entry.name)?, entry.default) {
            (Some(raw), _) => raw,
            (None, DefaultValue::Value(text)) => text.to_owned(),
            (None, DefaultValue::Unset | DefaultValue::Derived(_)) => return Ok(None),
        };
        self.parse(variable, raw.trim()).map(Some)
    }

    /// A name, whose blanks are its own: it names something else without them.
    pub(super) fn name(&mut self, variable: &Variable<String>) -> Result<String, Faulty> {
        match self.raw(variable.entry.name)? {
            Some(raw) => self.parse(variable, &raw),
            None => self.value(variable),
        }
    }

    /// A value that an empty text switches off (`Some(None)`); `None` where it is unset.
    pub(super) fn switchable<T>(&mut self, variable: &Variable<T>) -> Result<Option<Option<T>>, Faulty> {
        match self.text(variable.entry.name)? {
            None => Ok(None),
            Some(text) if text.trim().is_empty() => Ok(Some(None)),
            Some(text) => self.parse(variable, text.trim()).map(|value| Some(Some(value))),
        }
    }

    /// A file that must be readable now.
    pub(super) fn file(&mut self, variable: &Variable<std::path::PathBuf>) -> Result<Option<NamedFile>, Faulty> {
        let path = self.optional(variable)?;
        Ok(path.map(|path| NamedFile { variable: variable.entry.name, path }))
    }

    /// A secret: `NAME`, or the file that `NAME_FILE` names. An empty `NAME` beside a file counts as unset; else an
    /// empty `NAME` is an empty secret where it takes the place of a default, and unset where there is none.
    pub(super) fn secret(&mut self, variable: &Variable<String>) -> Result<Option<Secret>, Faulty> {
        let entry = &variable.entry;
        let file = self.raw(&format!("{}_FILE", entry.name));
        let value = self.text(entry.name)?;
        match (value, file?) {
            (Some(value), Some(_)) if !value.is_empty() => Err(self.fault(Fault::GivenTwice { name: entry.name })),
            (_, Some(path)) => {
                let secret = Secret::File(path.into());
                match secret.read() {
                    Ok(_) => Ok(Some(secret)),
                    Err(source) => Err(self.fault(Fault::SecretFile { name: entry.name, source })),
                }
            }
            (Some(value), None) if value.is_empty() && entry.default == DefaultValue::Unset => Ok(None),
            (Some(value), None) => self.parse(variable, &value).map(|value| Some(Secret::Value(value))),
            (None, None) => match entry.default {
                DefaultValue::Value(text) => Ok(Some(Secret::Value(text.to_owned()))),
                DefaultValue::Unset | DefaultValue::Derived(_) => Ok(None),
            },
        }
    }

    /// The text of a variable; blank counts as unset.
    fn raw(&mut self, name: &str) -> Result<Option<String>, Faulty> {
        Ok(self.text(name)?.filter(|text| !text.trim().is_empty()))
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, Faulty> {
        match (self.source)(name).map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text)),
            Some(Err(_)) => Err(self.fault(Fault::NotUnicode { name: name.to_owned() })),
        }
    }

    fn parse<T>(&mut self, variable: &Variable<T>, text: &str) -> Result<T, Faulty> {
        let entry = &variable.entry;
        (variable.parse)(text).map_err(|problem| {
            let shown = shown(entry, text);
            self.fault(Fault::Value { name: entry.name, shown, problem, allowed: entry.allowed })
        })
    }
}

/// A value as an error may show it: quoted, short, without secrets.
fn shown(entry: &Entry, text: &str) -> String {
    let open = match entry.exposure {
        Exposure::Secret => return "…".to_owned(),
        Exposure::Open => text.to_owned(),
        // Everything before the last `@` may be a user and a password, everything after `?` parameters with them.
        Exposure::Address => {
            let host = text.rsplit_once('@').map_or_else(|| text.to_owned(), |(_, host)| format!("…@{host}"));
            match host.split_once('?') {
                Some((address, _)) => format!("{address}?…"),
                None => host,
            }
        }
    };
    if open.chars().count() > SHOWN_CHARS {
        format!("{:?}…", open.chars().take(SHOWN_CHARS).collect::<String>())
    } else {
        format!("{open:?}")
    }
}

const SHOWN_CHARS: usize = 200;
