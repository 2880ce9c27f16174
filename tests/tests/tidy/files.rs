//! Which file of a crate leans on which other, and where that goes round in a circle.
//!
//! A file leans on another when it names something that stands there: by a `use`, by a path in the code, or by one in an attribute. A name
//! is followed through what hands it on (`pub use`, and a parent's imports) to the file that defines it. So a `lib.rs` or `mod.rs` that
//! declares modules and hands on their names leans on nothing, and nothing leans on it.
//!
//! What this does not see: a method that an `impl` in another file than the type's adds, as calls of methods name no file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::source::{Child, Import, Module, parse};

/// How often a name may be handed on before it is given up.
const HANDED_ON_MAX: usize = 16;

/// The files of one crate.
pub struct Files {
    files: Vec<PathBuf>,
    modules: Vec<Node>,
}

struct Node {
    file: usize,
    parent: Option<usize>,
    children: BTreeMap<String, usize>,
    module: Module,
}

/// Why one file leans on another: what is named, and in which lines.
pub type Edges = BTreeMap<(PathBuf, PathBuf), BTreeSet<(usize, String)>>;

impl Files {
    /// Follows the `mod`s from the root of a crate. `read` gives a file's text, if there is such a file.
    ///
    /// # Errors
    /// When a file is missing or is no Rust.
    pub fn load(root: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Result<Self, String> {
        let mut files = Self { files: Vec::new(), modules: Vec::new() };
        let directory = root.parent().unwrap_or(Path::new("")).to_owned();
        files.add_file(root, &directory, None, read)?;
        Ok(files)
    }

    fn add_file(
        &mut self,
        file: &Path,
        directory: &Path,
        parent: Option<usize>,
        read: &dyn Fn(&Path) -> Option<String>,
    ) -> Result<usize, String> {
        let text = read(file).ok_or_else(|| format!("{}: there is no such file", file.display()))?;
        let module = parse(&text).map_err(|error| format!("{}: {error}", file.display()))?;
        self.files.push(file.to_owned());
        self.add(module, self.files.len() - 1, directory, parent, read)
    }

    /// `directory` is where the module's children are.
    fn add(
        &mut self,
        mut module: Module,
        file: usize,
        directory: &Path,
        parent: Option<usize>,
        read: &dyn Fn(&Path) -> Option<String>,
    ) -> Result<usize, String> {
        let children = std::mem::take(&mut module.children);
        let index = self.modules.len();
        self.modules.push(Node { file, parent, children: BTreeMap::new(), module });
        for (name, child) in children {
            let below = directory.join(&name);
            let child = match child {
                Child::Inside(module) => self.add(module, file, &below, Some(index), read)?,
                Child::File(Some(path)) => {
                    let path = self.files[file].parent().unwrap_or(Path::new("")).join(path);
                    let below = path.parent().unwrap_or(Path::new("")).to_owned();
                    self.add_file(&path, &below, Some(index), read)?
                }
                Child::File(None) => {
                    let (flat, nested) = (below.with_extension("rs"), below.join("mod.rs"));
                    let path = if read(&flat).is_some() { flat } else { nested };
                    self.add_file(&path, &below, Some(index), read)?
                }
            };
            self.modules[index].children.insert(name, child);
        }
        Ok(index)
    }

    /// Every reason why a file leans on another.
    pub fn edges(&self) -> Edges {
        let mut edges = Edges::new();
        for (from, node) in self.modules.iter().enumerate() {
            // A name that is only handed on is not used here.
            let used = |import: &&Import| !import.handed_on || node.module.words.contains(&import.name);
            let imports = node.module.imports.iter().filter(used).map(|import| (&import.path, import.line));
            let paths = node.module.paths.iter().map(|named| (&named.path, named.line));
            for (path, line) in imports.chain(paths) {
                let Some(to) = self.resolve(from, path, 0) else { continue };
                let (from, to) = (node.file, self.modules[to].file);
                if from != to {
                    let edge = (self.files[from].clone(), self.files[to].clone());
                    edges.entry(edge).or_default().insert((line, path.join("::")));
                }
            }
        }
        edges
    }

    /// The module in which that is defined which a path names; `None` for what is not of this crate.
    fn resolve(&self, from: usize, path: &[String], handed_on: usize) -> Option<usize> {
        if handed_on > HANDED_ON_MAX {
            return None;
        }
        let (head, rest) = path.split_first()?;
        match head.as_str() {
            "crate" => self.walk(0, rest, handed_on),
            "self" => self.walk(from, rest, handed_on),
            "super" => self.walk(self.modules[from].parent?, rest, handed_on),
            _ => self.find(from, path, handed_on),
        }
    }

    fn walk(&self, at: usize, path: &[String], handed_on: usize) -> Option<usize> {
        match path.split_first() {
            None => Some(at),
            Some((head, rest)) if head == "super" => self.walk(self.modules[at].parent?, rest, handed_on),
            // What is not found came out of a macro, and from outside the crate if it came by a name that is.
            Some((head, _)) => {
                let from_outside = self.modules[at].module.imports.iter().any(|import| import.name == *head);
                self.find(at, path, handed_on).or((!from_outside).then_some(at))
            }
        }
    }

    /// As [`Files::walk`], for what can be found.
    fn find(&self, at: usize, path: &[String], handed_on: usize) -> Option<usize> {
        let (head, rest) = path.split_first()?;
        let node = &self.modules[at];
        if let Some(child) = node.children.get(head) {
            return self.walk(*child, rest, handed_on);
        }
        if node.module.items.contains(head) {
            return Some(at);
        }
        let imports = || node.module.imports.iter();
        if let Some(import) = imports().find(|import| import.name == *head && import.path.first() != Some(head)) {
            return self.resolve(at, &[&import.path, rest].concat(), handed_on + 1);
        }
        let everything = imports().filter(|import| import.name == "*");
        everything.filter_map(|import| self.resolve(at, &import.path, handed_on + 1)).find_map(|other| {
            if other == at || handed_on > HANDED_ON_MAX { None } else { self.find(other, path, handed_on + 1) }
        })
    }
}

/// The circles: sets of more than one file each of which leans on every other, if only by way of the rest.
pub fn circles(edges: &Edges) -> Vec<BTreeSet<PathBuf>> {
    let reach = |start: &PathBuf| {
        let mut seen = BTreeSet::new();
        let mut open = vec![start];
        while let Some(file) = open.pop() {
            let next = edges.keys().filter(|(from, _)| from == file).map(|(_, to)| to);
            open.extend(next.filter(|to| seen.insert((*to).clone())));
        }
        seen
    };
    let files: BTreeSet<&PathBuf> = edges.keys().flat_map(|(from, to)| [from, to]).collect();
    let reached: BTreeMap<&PathBuf, BTreeSet<PathBuf>> = files.iter().map(|file| (*file, reach(file))).collect();
    let mutual = |file: &PathBuf| {
        let both = reached[file].iter().filter(|other| reached[other].contains(file));
        both.cloned().collect::<BTreeSet<PathBuf>>()
    };
    let circles: BTreeSet<BTreeSet<PathBuf>> = files.into_iter().map(mutual).filter(|set| set.len() > 1).collect();
    circles.into_iter().collect()
}

/// A circle in words: every edge of it, with the first names that make it.
pub fn describe(circle: &BTreeSet<PathBuf>, edges: &Edges) -> String {
    const NAMES_MAX: usize = 3;
    let inside = edges.iter().filter(|((from, to), _)| circle.contains(from) && circle.contains(to));
    let lines = inside.map(|((from, to), names)| {
        let shown = names.iter().take(NAMES_MAX).map(|(line, name)| format!("`{name}` in line {line}"));
        let shown = shown.collect::<Vec<_>>().join(", ");
        let more = names.len().checked_sub(NAMES_MAX).filter(|more| *more > 0);
        let more = more.map(|more| format!(" and {more} more")).unwrap_or_default();
        format!("    {} leans on {}: {shown}{more}", from.display(), to.display())
    });
    format!("a circle of {} files:\n{}", circle.len(), lines.collect::<Vec<_>>().join("\n"))
}
