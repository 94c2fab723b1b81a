//! Files that their owner alone can read, and that never replace another by accident.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file that was just written; it goes again unless it is kept.
#[derive(Debug)]
pub(super) struct NewFile {
    path: PathBuf,
    kept: bool,
}

impl NewFile {
    /// Writes a file with mode 0600. One that is there is replaced only by `force`.
    ///
    /// # Errors
    /// Why not, in words.
    pub(super) fn create(path: &Path, content: &[u8], force: bool) -> Result<Self, String> {
        let fault = |error: std::io::Error| {
            let hint = if error.kind() == std::io::ErrorKind::AlreadyExists {
                "\n    hint: it is there already; replace it by --force"
            } else {
                ""
            };
            format!("cannot write {}: {error}{hint}", path.display())
        };
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        if !force {
            let mut file = options.open(path).map_err(fault)?;
            let new = Self { path: path.to_owned(), kept: false };
            file.write_all(content).map_err(fault)?;
            return Ok(new);
        }
        // Whoever reads meanwhile gets the old file or the new one.
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}", std::process::id()));
        let mut new = Self { path: PathBuf::from(beside), kept: false };
        options.open(&new.path).map_err(fault)?.write_all(content).map_err(fault)?;
        std::fs::rename(&new.path, path).map_err(fault)?;
        path.clone_into(&mut new.path);
        Ok(new)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.kept {
            drop(std::fs::remove_file(&self.path));
        }
    }
}
