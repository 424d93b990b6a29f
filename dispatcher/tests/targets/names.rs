//! A name service of a test's own.

use dispatcher::resolver::Names;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The answers each name gets, one after the other; the last one stays.
#[derive(Default)]
pub struct Book {
    answers: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
    lookups: AtomicUsize,
}

impl Book {
    /// A book with these names.
    pub fn of(entries: &[(&str, &[&[&str]])]) -> Self {
        let book = Self::default();
        for (name, answers) in entries {
            let parse = |answer: &&[&str]| answer.iter().map(|text| text.parse().unwrap()).collect();
            book.set(name, answers.iter().map(parse).collect());
        }
        book
    }

    /// From now on the name has these answers.
    pub fn set(&self, name: &str, answers: Vec<Vec<IpAddr>>) {
        self.answers.lock().unwrap().insert(name.to_owned(), answers);
    }

    /// How often anything was looked up.
    pub fn lookups(&self) -> usize {
        self.lookups.load(Ordering::SeqCst)
    }
}

impl Names for Book {
    fn lookup(&self, name: &str) -> std::io::Result<Vec<IpAddr>> {
        self.lookups.fetch_add(1, Ordering::SeqCst);
        let mut all = self.answers.lock().unwrap();
        let Some(answers) = all.get_mut(name.trim_end_matches('.')) else {
            return Ok(Vec::new());
        };
        Ok(if answers.len() > 1 {
            answers.remove(0)
        } else {
            answers.first().cloned().unwrap_or_default()
        })
    }
}

/// Knows one address for everything.
pub struct Always(pub IpAddr);

impl Names for Always {
    fn lookup(&self, _: &str) -> std::io::Result<Vec<IpAddr>> {
        Ok(vec![self.0])
    }
}
