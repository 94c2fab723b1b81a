//! Reading settings without the parts that are wrong.
//!
//! serde ends at the first value of a wrong type. So that all of them can be told, the text is read
//! again without what was found wrong, until nothing more is found. [`Course`] knows what to leave
//! out and where a reading ended, [`Guided`] leaves it out.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;

use super::guided::Guided;
use crate::vocab::{collected, nearest};

/// What readings leave out, and where the last one ended.
#[derive(Default)]
pub(super) struct Course {
    /// With the key, for the entries of a struct.
    left_out: BTreeMap<Path, String>,
    /// Parts of the file in which values were bad that something else stands in for.
    mistaken: RefCell<BTreeSet<Path>>,
    /// The keys at the file's root, by the numbers of their entries.
    roots: RefCell<BTreeMap<usize, String>>,
    here: RefCell<Path>,
    end: RefCell<Option<(Path, String)>>,
    /// The last text that was read: after a struct's key, the name of a field.
    pub(super) word: Cell<String>,
    /// The fields of the last struct, and those that were not there.
    pub(super) absent: RefCell<(Fields, Vec<&'static str>)>,
}

/// The way to a value through the maps and lists around it.
type Path = Vec<Step>;

/// Into an entry of a map or a list, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Key(usize),
    Value(usize),
}

/// The names of a struct's fields.
pub(super) type Fields = &'static [&'static str];

/// Which parts of a file are there as they were written, without anything left out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whole {
    pub tokens: bool,
    pub routes: bool,
    /// All else at the root.
    pub rest: bool,
}

impl Whole {
    /// Nothing was left out.
    pub(super) const ALL: Self = Self { tokens: true, routes: true, rest: true };
}

/// What a reading ended at.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cause<'e> {
    /// A struct's field is not there.
    Missing(&'e str),
    /// A judgement upon a value as a whole, such as the number of its entries.
    Whole,
    /// Anything else.
    Other,
}

impl Course {
    /// Leads a new reading.
    pub(super) fn guide<D>(&self, deserializer: D) -> Guided<'_, D> {
        self.here.borrow_mut().clear();
        self.end.borrow_mut().take();
        self.lead(deserializer)
    }

    /// What comes with a deserializer follows the course as well.
    pub(super) const fn lead<T>(&self, inner: T) -> Guided<'_, T> {
        Guided::new(inner, self, &[])
    }

    /// Whether the reading ended at a mistake by itself, at no consequence of what was left out.
    pub(super) fn is_news(&self, cause: Cause<'_>) -> bool {
        match &*self.end.borrow() {
            Some((path, _)) => self.left_out.contains_key(path) || !self.explains(path, cause),
            None => !self.explains(&[], cause),
        }
    }

    /// All fields of the struct of which one is missing, and those that are.
    pub(super) fn absent(&self) -> (Fields, Vec<&'static str>) {
        self.absent.borrow().clone()
    }

    /// Leaves out where the reading ended from now on. `false` if nothing is read without it.
    pub(super) fn leave_out(&mut self) -> bool {
        let Some((path, key)) = self.end.take() else { return false };
        // What is left out already cannot be skipped either.
        self.left_out.insert(path, key).is_none()
    }

    /// Leaves out all of a token or a route of which something is wrong, and all else at the root
    /// that is, so that what remains is sound. Says what that is.
    pub(super) fn sift(&mut self) -> Whole {
        let mut whole = Whole::ALL;
        let wrong: Vec<Path> = self.left_out.keys().cloned().chain(self.mistaken.take()).collect();
        for path in wrong {
            let root = match path.first() {
                Some(Step::Value(index)) => self.roots.borrow().get(index).cloned(),
                _ => None,
            };
            let depth = match root.as_deref() {
                Some("tokens") => {
                    whole.tokens = false;
                    2
                }
                Some("routes") => {
                    whole.routes = false;
                    2
                }
                Some(_) => {
                    whole.rest = false;
                    1
                }
                // Who knows what the key was to be.
                None => {
                    whole = Whole { tokens: false, routes: false, rest: false };
                    1
                }
            };
            // What is wrong farther inside has an entry here as well.
            if path.len() >= depth {
                self.left_out.entry(path[..depth].to_vec()).or_default();
            }
        }
        whole
    }

    /// Notes the key of an entry that is about to be read.
    pub(super) fn enter(&self, index: usize, key: &str) {
        if self.here.borrow().is_empty() {
            self.roots.borrow_mut().insert(index, key.to_owned());
        }
    }

    /// Whether what was left out of the value at `path` is why it failed.
    fn explains(&self, path: &[Step], cause: Cause<'_>) -> bool {
        let mut inside = self
            .left_out
            .range(path.to_vec()..)
            .take_while(|(inner, _)| inner.starts_with(path))
            .filter(|(inner, _)| inner.len() > path.len());
        match cause {
            Cause::Missing(field) => inside.any(|(inner, key)| match inner[path.len()..] {
                [Step::Key(_)] => nearest(key, [field]).is_some(),
                [Step::Value(_)] => key == field,
                _ => false,
            }),
            Cause::Whole => inside.next().is_some(),
            Cause::Other => false,
        }
    }

    /// Reads a part of an entry; the innermost that fails is where the reading ended.
    pub(super) fn within<T, E>(
        &self,
        step: Step,
        key: &mut String,
        read: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        self.here.borrow_mut().push(step);
        let before = collected();
        let result = read();
        if collected() > before {
            self.mistaken.borrow_mut().insert(self.here.borrow().clone());
        }
        if result.is_err() && self.end.borrow().is_none() {
            let key = if let Step::Key(_) = step { self.word.take() } else { take(key) };
            self.end.replace(Some((self.here.borrow().clone(), key)));
        }
        self.here.borrow_mut().pop();
        result
    }

    /// Which part of an entry is to be left out, and so all of it.
    pub(super) fn leaves_out(&self, index: usize) -> Option<Step> {
        let mut path = self.here.borrow().clone();
        [Step::Key(index), Step::Value(index)].into_iter().find(|step| {
            path.push(*step);
            let is_left_out = self.left_out.contains_key(&path);
            path.pop();
            is_left_out
        })
    }
}
