//! Secrets: values that are never printed.

use std::io::Read;
use std::path::PathBuf;

/// A secret, given as a value or as a file that is read again at each use, so that it can be rotated. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The value itself.
    Value(String),
    /// The file that holds it; one trailing line break does not count.
    File(PathBuf),
}

impl Secret {
    /// The secret as it is now.
    ///
    /// # Errors
    /// When the file cannot be read or holds no usable text. The error names the file, never its content.
    pub fn read(&self) -> Result<String, SecretError> {
        let path = match self {
            Self::Value(value) => return Ok(value.clone()),
            Self::File(path) => path,
        };
        let unreadable = |source| SecretError::Unreadable { path: path.clone(), source };
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(unreadable)?;
        // One byte above the limit tells a file that fits from one that was cut.
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(SecretError::TooLong { path: path.clone() });
        }
        let Ok(text) = String::from_utf8(bytes) else { return Err(SecretError::NotUtf8 { path: path.clone() }) };
        let secret = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
        if secret.contains(char::is_control) {
            return Err(SecretError::ControlCharacter { path: path.clone() });
        }
        Ok(secret.to_owned())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Value(_) => "Secret(…)",
            Self::File(_) => "Secret(file …)",
        })
    }
}

/// Why a secret's file gives no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It cannot be opened or read.
    #[error("the secret's file {} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It holds something that is no text.
    #[error("the secret's file {} does not hold UTF-8 text", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
    },
    /// It is larger than any password.
    #[error("the secret's file {} holds more than {MAX_BYTES} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// It holds a second line or another control character, which neither HTTP headers nor SASL can carry.
    #[error("the secret's file {} holds a control character (a second line?)", path.display())]
    ControlCharacter {
        /// The file.
        path: PathBuf,
    },
}

const MAX_BYTES: u64 = 64 * 1024;
