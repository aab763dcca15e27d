//! Sections to a graph in which every name means something: children exist, are below their parents, and are as many
//! as the type wants; the types are those of a client; there is one top.
//!
//! A cycle cannot be written, because a child must be defined above its parent.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::error::{Error, Problem};
use super::grammar::{self, Section};
use super::lexer::Lexer;
use super::options::Place;
use super::{Graph, Kind, Options, Position, Volume, kinds, limits};

/// Reads and checks a volfile. With `top`, the subtree of that volume is the graph, and the rest is forgotten.
pub(super) fn graph(origin: &Arc<str>, text: &[u8], top: Option<&str>) -> Result<Graph, Error> {
    let mut lexer = Lexer::new(origin, text)?;
    let mut checker = Checker::default();
    while let Some(section) = grammar::section(&mut lexer)? {
        checker.add(&lexer, section)?;
    }
    checker.finish(&lexer, top)
}

#[derive(Default)]
struct Checker {
    drafts: Vec<Draft>,
    names: HashMap<Arc<str>, usize>,
}

/// A volume whose type may still turn out to be unfit, should it be a part of the graph.
struct Draft {
    name: Arc<str>,
    written: Arc<str>,
    verdict: Result<(&'static str, kinds::Children), Problem>,
    options: Options,
    children: Vec<usize>,
    offset: usize,
    position: Position,
    kind_offset: usize,
    depth: usize,
    has_parent: bool,
}

impl Checker {
    fn add(&mut self, lexer: &Lexer<'_>, section: Section<'_>) -> Result<(), Error> {
        let Section { name, kind, options, subvolumes } = section;
        if let Some(first) = self.names.get(&*name.text) {
            let first = self.drafts[*first].position.line;
            return Err(lexer.error(name.offset, Problem::DuplicateVolume { name: name.text.into(), first }));
        }
        if self.drafts.len() == limits::VOLUMES {
            return Err(lexer.error(name.offset, Problem::TooMany { what: "volumes", limit: limits::VOLUMES }));
        }
        let (mut children, mut seen) = (Vec::with_capacity(subvolumes.len()), HashSet::new());
        for child in &subvolumes {
            let names = || (name.text.to_string(), child.text.to_string());
            let Some(&index) = self.names.get(&*child.text) else {
                let (parent, child_name) = names();
                let problem = if parent == child_name {
                    Problem::OwnSubvolume { parent }
                } else {
                    Problem::UnknownSubvolume { parent, child: child_name }
                };
                return Err(lexer.error(child.offset, problem));
            };
            if !seen.insert(index) {
                let (parent, child_name) = names();
                return Err(lexer.error(child.offset, Problem::RepeatedSubvolume { parent, child: child_name }));
            }
            children.push(index);
        }
        let depth = 1 + children.iter().map(|child| self.drafts[*child].depth).max().unwrap_or(0);
        if depth > limits::DEPTH {
            return Err(lexer.error(name.offset, Problem::TooDeep { volume: name.text.into() }));
        }
        for child in &children {
            self.drafts[*child].has_parent = true;
        }
        let label: Arc<str> = name.text.as_ref().into();
        let mut checked = Options::new(&label);
        for (key, value) in options {
            checked.set(&key.text, &value.text, Place::Volfile(key.position));
        }
        self.names.insert(label.clone(), self.drafts.len());
        self.drafts.push(Draft {
            verdict: kinds::find(&label, &kind.text),
            name: label,
            written: kind.text.as_ref().into(),
            options: checked,
            children,
            offset: name.offset,
            position: name.position,
            kind_offset: kind.offset,
            depth,
            has_parent: false,
        });
        Ok(())
    }

    fn finish(self, lexer: &Lexer<'_>, top: Option<&str>) -> Result<Graph, Error> {
        let top_index = match top {
            None => self.drafts.len().checked_sub(1).ok_or_else(|| lexer.error(lexer.end(), Problem::NoVolume))?,
            Some(name) => *self
                .names
                .get(name)
                .ok_or_else(|| lexer.error(lexer.end(), Problem::NoSuchVolume { name: name.into() }))?,
        };
        let part_of_graph = match top {
            None => vec![true; self.drafts.len()],
            Some(_) => self.subtree(top_index),
        };
        for (_, draft) in self.drafts.iter().enumerate().filter(|(index, _)| part_of_graph[*index]) {
            draft.check_kind(lexer)?;
        }
        if top.is_none()
            && let Some(other) = self.drafts[..top_index].iter().find(|draft| !draft.has_parent)
        {
            let problem =
                Problem::TwoTops { other: other.name.to_string(), top: self.drafts[top_index].name.to_string() };
            return Err(lexer.error(other.offset, problem));
        }
        let names: Vec<Arc<str>> = self.drafts.iter().map(|draft| draft.name.clone()).collect();
        let kept = self.drafts.into_iter().zip(part_of_graph).filter(|(_, kept)| *kept);
        let volumes = kept.filter_map(|(draft, _)| draft.into_volume(&names)).map(Arc::new).collect();
        Ok(Graph { origin: lexer.origin().clone(), volumes })
    }

    /// Which volumes the one at `top` is made of, itself among them.
    fn subtree(&self, top: usize) -> Vec<bool> {
        let mut within = vec![false; self.drafts.len()];
        within[top] = true;
        // Children stand above their parents: one pass upwards meets every parent before its children.
        for index in (0..=top).rev().filter(|index| *index < self.drafts.len()) {
            if within[index] {
                for child in &self.drafts[index].children {
                    within[*child] = true;
                }
            }
        }
        within
    }
}

impl Draft {
    fn check_kind(&self, lexer: &Lexer<'_>) -> Result<(), Error> {
        match &self.verdict {
            Err(problem) => Err(lexer.error(self.kind_offset, problem.clone())),
            Ok((_, children)) if !children.allow(self.children.len()) => {
                let problem = Problem::SubvolumeCount {
                    volume: self.name.to_string(),
                    kind: self.written.to_string(),
                    needed: children.needed(),
                    found: self.children.len(),
                };
                Err(lexer.error(self.offset, problem))
            }
            Ok(_) => Ok(()),
        }
    }

    fn into_volume(self, names: &[Arc<str>]) -> Option<Volume> {
        let (canonical, _) = self.verdict.ok()?;
        Some(Volume {
            name: self.name,
            kind: Kind { canonical, written: self.written },
            options: self.options,
            subvolumes: self.children.iter().map(|child| names[*child].clone()).collect(),
            position: self.position,
        })
    }
}
