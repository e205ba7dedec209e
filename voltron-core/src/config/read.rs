//! From text to a [`Config`]: finds every problem of a file, not only the first.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Fault, Problem};
use super::schema::{Config, Key, Range64, sections};
use super::value::Value;
use super::{check, schema};

/// Reads the text; `Err` holds every problem.
pub(super) fn read(text: &str) -> Result<Config, Vec<Problem>> {
    let mut problems = Problems { text, found: Vec::new() };
    let root = match DeTable::parse(text) {
        Ok(root) => root.into_inner(),
        Err(error) => {
            problems.add(error.span().as_ref(), Fault::Syntax(one_line(error.message())));
            return Err(problems.found);
        }
    };
    let mut config = Config::default();
    for (name, value) in &root {
        match value.get_ref() {
            DeValue::Table(table) => match sections().iter().find(|section| section.name == name.get_ref().as_ref()) {
                Some(section) => {
                    let reader = Reader { section: section.name, table, problems: &mut problems };
                    schema::read_section(&mut config, reader);
                }
                None => {
                    let near = nearest(name.get_ref(), sections().iter().map(|section| section.name));
                    let name_text = name.get_ref().to_string();
                    problems.add(Some(&name.span()), Fault::UnknownSection { name: name_text, near });
                }
            },
            _ => {
                let near = home_of(name.get_ref());
                let key = name.get_ref().to_string();
                problems.add(Some(&name.span()), Fault::OutsideSections { key, near });
            }
        }
    }
    for section in sections() {
        for key in &section.keys {
            let Some(help) = key.required else { continue };
            let table = root.get(section.name).and_then(|value| value.get_ref().as_table());
            if table.is_none_or(|table| !table.contains_key(key.name)) {
                problems.add(None, Fault::Missing { section: section.name, key: key.name, help });
            }
        }
    }
    // Values are held against each other only once each is good alone: else one typing error is told twice.
    if problems.found.is_empty() {
        for (section, key, text) in check::together(&config) {
            let span = root
                .get(section)
                .and_then(|value| value.get_ref().as_table())
                .and_then(|table| table.get(key))
                .map(Spanned::span);
            problems.add(span.as_ref(), Fault::Together(text));
        }
    }
    if problems.found.is_empty() { Ok(config) } else { Err(problems.found) }
}

/// One section's table while it is read.
pub(super) struct Reader<'a, 't, 'i> {
    pub(super) section: &'static str,
    table: &'a DeTable<'i>,
    problems: &'a mut Problems<'t>,
}

impl Reader<'_, '_, '_> {
    /// Reads one key into `place`, which keeps its default if the key is absent or bad. A key that nothing reads may have
    /// no other value than its default: a file must not seem to change what it does not.
    pub(super) fn key<T: Value>(
        &mut self,
        key: &'static str,
        range: Option<&Range64>,
        unread: Option<&'static str>,
        place: &mut T,
    ) {
        let Some(value) = self.table.get(key) else { return };
        let section = self.section;
        let read = T::read(value.get_ref());
        let read = match (value.get_ref(), range) {
            // Also a number that does not fit the type is told the range of the key, not that of the type.
            (DeValue::Integer(written), Some(range))
                if !read.as_ref().is_ok_and(|read| read.number().is_none_or(|number| range.contains(&number))) =>
            {
                Err(format!("{written} is out of range: expected {} to {}", range.start(), range.end()))
            }
            _ => read,
        };
        let read = match (read, unread) {
            (Ok(read), Some(why)) if read.toml() != place.toml() => {
                let default =
                    place.toml().map_or_else(|| "leave it out".into(), |default| format!("only {default} is true"));
                drop(read);
                Err(format!("it has no effect, for {why}: {default}"))
            }
            (read, _) => read,
        };
        match read {
            Ok(read) => *place = read,
            Err(why) => self.problems.add(Some(&value.span()), Fault::Value { section, key, why }),
        }
    }

    /// Refuses every key that is not in `known`.
    pub(super) fn finish(self, known: &[Key]) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if known.iter().any(|known| known.name == name) {
                continue;
            }
            let near = nearest(name, known.iter().map(|known| known.name)).map(str::to_owned).or_else(|| home_of(name));
            let fault = Fault::UnknownKey { section: self.section, key: name.to_owned(), near };
            self.problems.add(Some(&key.span()), fault);
        }
    }
}

/// Collects problems and turns byte offsets into places.
pub(super) struct Problems<'t> {
    text: &'t str,
    found: Vec<Problem>,
}

impl Problems<'_> {
    fn add(&mut self, span: Option<&Range<usize>>, fault: Fault) {
        self.found.push(Problem { place: span.map(|span| self.place(span.start)), fault });
    }

    /// Line and column of a byte offset, both from 1; an offset inside a character or past the end counts as its nearest
    /// boundary below.
    fn place(&self, offset: usize) -> (usize, usize) {
        let end = self.text.floor_char_boundary(offset.min(self.text.len()));
        let before = &self.text[..end];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        (line, column)
    }
}

/// The nearest of `known`, if it is near enough to be meant.
fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    // strsim is quadratic: no known name is longer than 40 characters, so a longer one is near none of them.
    if name.chars().count() > 40 {
        return None;
    }
    known
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(score, _)| *score >= 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

/// `section.key` for a key that exists elsewhere.
fn home_of(name: &str) -> Option<String> {
    sections()
        .iter()
        .find(|section| section.keys.iter().any(|key| key.name == name))
        .map(|section| format!("{}.{name}", section.name))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
