//! The file: replaced whole, never written in place, so that a process that dies at any moment
//! leaves either the old content or the new one.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Kept;

/// A larger file is not ours.
const MOST_BYTES: u64 = 64 * 1024;

/// An unfinished file that is older belongs to a process that died.
const ABANDONED: Duration = Duration::from_secs(60);

/// Why the file could not be read or written. Never holds any of its content.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It could not be read.
    #[error("cannot read the state file {path}: {source}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds something else.
    #[error("{path} is not a state file of bearerd; move it away", path = .0.display())]
    Foreign(PathBuf),
    /// It could not be written.
    #[error("cannot write the state file {path}: {source}", path = .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The place of one token's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateFile {
    path: PathBuf,
}

impl StateFile {
    /// A file that need not exist yet.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what is kept; `None` if there is no file yet.
    ///
    /// # Errors
    /// A file that cannot be read, or that is not ours.
    pub fn load(&self) -> Result<Option<Kept>, StateError> {
        let failed = |source| StateError::Read { path: self.path.clone(), source };
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut content = Vec::new();
        file.take(MOST_BYTES + 1).read_to_end(&mut content).map_err(failed)?;
        match Kept::from_json(&content) {
            Some(kept) => Ok(Some(kept)),
            None => Err(StateError::Foreign(self.path.clone())),
        }
    }

    /// Replaces the file; on return the new content survives a loss of power.
    ///
    /// # Errors
    /// A directory that cannot be written, a full disk.
    pub fn save(&self, kept: &Kept) -> Result<(), StateError> {
        let temporary = self.temporary();
        let outcome = self.replace(&temporary, &kept.to_json());
        if outcome.is_err() {
            fs::remove_file(&temporary).ok();
        }
        outcome.map_err(|source| StateError::Write { path: self.path.clone(), source })
    }

    fn replace(&self, temporary: &Path, content: &[u8]) -> io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        drop(file);
        fs::rename(temporary, &self.path)?;
        // The new name must survive too.
        File::open(self.directory())?.sync_all()
    }

    /// Removes what processes that died in the middle of writing have left.
    pub fn tidy(&self) {
        let Ok(entries) = fs::read_dir(self.directory()) else { return };
        let prefix = self.prefix();
        let ours = |name: &OsString| {
            let name = name.to_string_lossy();
            name.starts_with(&*prefix.to_string_lossy()) && name.ends_with(".new")
        };
        for entry in entries.flatten().filter(|entry| ours(&entry.file_name())) {
            let age = entry.metadata().and_then(|data| data.modified()).ok();
            if age.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > ABANDONED) {
                fs::remove_file(entry.path()).ok();
            }
        }
    }

    /// The directory that holds it.
    #[must_use]
    pub fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    /// Process ids repeat between containers that share a volume, so the name is random.
    fn temporary(&self) -> PathBuf {
        let mut name = self.prefix();
        name.push(format!("{:016x}.new", fastrand::u64(..)));
        self.directory().join(name)
    }

    fn prefix(&self) -> OsString {
        let mut name = OsString::from(".");
        name.push(self.path.file_name().unwrap_or_default());
        name.push(".");
        name
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::vocab::Secret;

    fn kept(token: &str) -> Kept {
        Kept { refresh_token: Secret::from(token), seed: Some("ab".to_owned()) }
    }

    struct Place(PathBuf);

    impl Place {
        fn new() -> Self {
            let path = std::env::temp_dir().join(format!("bearerd-state-{:x}", fastrand::u64(..)));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn file(&self) -> StateFile {
            StateFile::new(self.0.join("api.json"))
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn what_was_saved_is_loaded_and_only_the_owner_can_read_it() {
        let place = Place::new();
        let file = place.file();
        assert_eq!(file.load().unwrap(), None);
        for token in ["one", "two"] {
            file.save(&kept(token)).unwrap();
            assert_eq!(file.load().unwrap(), Some(kept(token)));
        }
        let mode = fs::metadata(file.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(&place.0).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn a_file_of_somebody_else_is_neither_believed_nor_quoted() {
        let place = Place::new();
        for content in ["", "hunter2", r#"{"version":2,"refresh_token":"hunter2"}"#] {
            fs::write(place.file().path(), content).unwrap();
            let error = place.file().load().unwrap_err();
            assert!(matches!(error, StateError::Foreign(_)));
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
    }

    #[test]
    fn only_old_leftovers_are_removed() {
        let place = Place::new();
        let (old, young, other) = (
            place.0.join(".api.json.1.new"),
            place.0.join(".api.json.2.new"),
            place.0.join("x.new"),
        );
        for path in [&old, &young, &other] {
            fs::write(path, "").unwrap();
        }
        let past = std::time::SystemTime::now() - ABANDONED * 2;
        for path in [&old, &other] {
            File::options().write(true).open(path).unwrap().set_modified(past).unwrap();
        }
        place.file().tidy();
        assert!(!old.exists() && young.exists() && other.exists());
    }
}
