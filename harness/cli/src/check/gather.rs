//! From what was named on the command line to documents: files, folders, kustomizations, standard input.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use penstock_document::at::At;
use penstock_document::yaml::{self, Trouble};

use super::document::{Document, documents};
use super::finding::Findings;

/// The longest file that is read.
const BYTES_MAX: u64 = 8 << 20;
/// How many files are read in all.
const FILES_MAX: usize = 5_000;
/// How deep folders are looked through, and kustomizations followed.
const FOLDERS_MAX: usize = 20;

/// What a kustomization may be called.
const KUSTOMIZATIONS: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
/// What of it is not done here.
const TRANSFORMERS: [&str; 7] =
    ["patches", "patchesStrategicMerge", "patchesJson6902", "replacements", "helmCharts", "transformers", "images"];

/// What was found.
#[derive(Default)]
pub struct Gathered {
    /// What is applied in any case.
    pub common: Vec<Document>,
    /// Kustomizations below a folder that each bring a plugin: one of them is applied, with what is common.
    pub alternatives: Vec<Vec<Document>>,
    /// What is wrong with the files themselves.
    pub findings: Findings,
    files: BTreeSet<PathBuf>,
}

/// Reads everything that was named.
pub fn gather(named: &[PathBuf]) -> Gathered {
    let mut all = Gathered::default();
    for path in named {
        if path.as_os_str() == "-" {
            let text = bounded(io::stdin().lock());
            let found = all.text("-", text, true);
            all.common.extend(found);
        } else if let Some(file) = kustomization(path) {
            let found = all.kustomize(&file, 0);
            all.common.extend(found);
        } else if path.is_dir() {
            all.folder(path);
        } else {
            let found = all.file(path, true);
            all.common.extend(found);
        }
    }
    all
}

/// The kustomization that a path is, or that the folder has.
fn kustomization(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        return KUSTOMIZATIONS.iter().map(|name| path.join(name)).find(|file| file.is_file());
    }
    let is_one = path.file_name().is_some_and(|name| KUSTOMIZATIONS.iter().any(|known| name == *known));
    (is_one && path.is_file()).then(|| path.to_owned())
}

impl Gathered {
    /// A folder without a kustomization of its own: all that is in it.
    fn folder(&mut self, folder: &Path) {
        let (mut files, mut roots) = (Vec::new(), Vec::new());
        walk(folder, 0, &mut files, &mut roots);
        let mut reached = BTreeSet::new();
        for root in &roots {
            let mut own = BTreeSet::new();
            reaches(root, 0, &mut own);
            own.remove(&canonical(root));
            reached.extend(own);
        }
        let mut plugins = Vec::new();
        for root in roots.iter().filter(|root| !reached.contains(&canonical(root))) {
            let found = self.kustomize(root, 0);
            if found.iter().any(Document::is_plugin) {
                plugins.push(found);
            } else {
                self.common.extend(found);
            }
        }
        match plugins.len() {
            1 => self.common.extend(plugins.into_iter().flatten()),
            _ => self.alternatives.extend(plugins),
        }
        for file in files.iter().filter(|file| !reached.contains(&canonical(file))) {
            let found = self.file(file, false);
            self.common.extend(found);
        }
    }

    /// What a kustomization makes, as far as its lists, namespaces and prefixes go.
    fn kustomize(&mut self, file: &Path, depth: usize) -> Vec<Document> {
        let Some(root) = self.read(file, true).into_iter().next() else { return Vec::new() };
        let folder = file.parent().unwrap_or(Path::new(""));
        let mut found = Vec::new();
        for key in ["resources", "bases", "components"] {
            for item in root.get(key).items() {
                let name = item.words();
                if name.contains("://") || name.contains("?ref=") || name.starts_with("github.com/") {
                    continue;
                }
                let path = folder.join(name);
                if depth >= FOLDERS_MAX {
                    self.findings.say("PS005", &item, &[("what", &"kustomizations in a row"), ("max", &FOLDERS_MAX)]);
                } else if let Some(next) = kustomization(&path) {
                    // A circle ends at the same bound as a long row.
                    found.extend(self.kustomize(&next, depth + 1));
                } else if path.is_file() {
                    found.extend(self.file(&path, true));
                } else {
                    self.findings.say("PS007", &item, &[("name", &name)]);
                }
            }
        }
        for key in TRANSFORMERS {
            let at = root.get(key);
            if at.exists() {
                self.findings.say("PS008", &at, &[("key", &key), ("folder", &folder.display())]);
            }
        }
        let (namespace, prefix, suffix) = (root.get("namespace"), root.get("namePrefix"), root.get("nameSuffix"));
        for document in &mut found {
            if let Some(namespace) = namespace.text() {
                document.namespace = namespace.to_owned();
            }
            document.name = format!("{}{}{}", prefix.words(), document.name, suffix.words());
        }
        found
    }

    fn file(&mut self, file: &Path, is_named: bool) -> Vec<Document> {
        self.read(file, is_named).into_iter().flat_map(documents).collect()
    }

    /// The documents of a file. What is wrong with one that nobody named is said only where it may be Penstock's.
    fn read(&mut self, file: &Path, is_named: bool) -> Vec<At> {
        self.files.insert(canonical(file));
        if self.files.len() > FILES_MAX {
            self.findings.say(
                "PS005",
                &At::file(display(file).into()),
                &[("what", &"files before it"), ("max", &FILES_MAX)],
            );
            return Vec::new();
        }
        let text = match fs::metadata(file) {
            // What is named may be a pipe: <(helm template …).
            Ok(data) if data.is_file() || is_named && !data.is_dir() => File::open(file).and_then(bounded),
            Ok(_) => Err(io::Error::other("neither a file nor a folder")),
            Err(error) => Err(error),
        };
        self.roots(&display(file), text, is_named)
    }

    fn text(&mut self, name: &str, text: io::Result<Vec<u8>>, is_named: bool) -> Vec<Document> {
        self.roots(name, text, is_named).into_iter().flat_map(documents).collect()
    }

    fn roots(&mut self, name: &str, bytes: io::Result<Vec<u8>>, is_named: bool) -> Vec<At> {
        let file: std::rc::Rc<str> = name.into();
        let whole = At::file(file.clone());
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => {
                self.findings.say("PS001", &whole, &[("why", &error)]);
                return Vec::new();
            }
        };
        if bytes.len() as u64 > BYTES_MAX {
            self.findings.say("PS005", &whole, &[("what", &"bytes"), ("max", &BYTES_MAX)]);
            return Vec::new();
        }
        let is_ours = is_named || bytes.windows(8).any(|word| word.eq_ignore_ascii_case(b"penstock"));
        let Some(text) = std::str::from_utf8(&bytes).ok().filter(|text| !text.contains('\0')) else {
            if is_ours {
                self.findings.say("PS002", &whole, &[("why", &"not a text in UTF-8")]);
            }
            return Vec::new();
        };
        let read = yaml::read(text.strip_prefix('\u{feff}').unwrap_or(text), &|line| line);
        let is_template =
            text.contains("{{") && read.troubles.iter().any(|(_, trouble)| matches!(trouble, Trouble::Syntax(_)));
        for (line, trouble) in read.troubles.iter().filter(|_| is_ours) {
            match trouble {
                Trouble::Syntax(_) if is_template => self.findings.say_in_line("PS009", &whole, *line, &[]),
                Trouble::Syntax(why) => self.findings.say_in_line("PS002", &whole, *line, &[("why", why)]),
                Trouble::Duplicate(key, first) => {
                    self.findings.say_in_line("PS003", &whole, *line, &[("key", key), ("first", first)]);
                }
                Trouble::TooMuch(what, max) => {
                    self.findings.say_in_line("PS005", &whole, *line, &[("what", what), ("max", max)]);
                }
            }
        }
        if is_named && read.documents.is_empty() && read.troubles.is_empty() {
            self.findings.say("PS004", &whole, &[]);
        }
        read.documents.into_iter().map(|node| At::root(file.clone(), node)).collect()
    }
}

/// One byte more than is allowed at most.
fn bounded(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(BYTES_MAX + 1).read_to_end(&mut bytes).map(|_| bytes)
}

/// As it was named, without detours: `mesh/base/x.yaml` and not `mesh/overlay/../base/x.yaml`.
fn display(path: &Path) -> String {
    let mut short = PathBuf::new();
    for part in path.components() {
        let has_name = matches!(short.components().next_back(), Some(Component::Normal(_)));
        if part == Component::ParentDir && has_name {
            short.pop();
        } else if part != Component::CurDir {
            short.push(part);
        }
    }
    short.display().to_string()
}

fn canonical(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// Files that may be manifests, and kustomizations. Links to folders are not followed, hidden ones and charts' templates left out.
fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>, roots: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let is_chart = folder.join("Chart.yaml").is_file();
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') || files.len() + roots.len() > FILES_MAX {
            continue;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let is_other =
                matches!(&*name, "node_modules" | "target") || is_chart && matches!(&*name, "templates" | "charts");
            if depth < FOLDERS_MAX && !is_other {
                walk(&path, depth + 1, files, roots);
            }
        } else if KUSTOMIZATIONS.contains(&&*name) {
            roots.push(path);
        } else if [".yaml", ".yml", ".json"].iter().any(|ending| name.ends_with(ending)) {
            files.push(path);
        }
    }
}

/// All files that a kustomization reads, itself among them.
fn reaches(file: &Path, depth: usize, found: &mut BTreeSet<PathBuf>) {
    if !found.insert(canonical(file)) || depth > FOLDERS_MAX {
        return;
    }
    let Ok(bytes) = File::open(file).and_then(bounded) else { return };
    let text = String::from_utf8_lossy(&bytes);
    let folder = file.parent().unwrap_or(Path::new(""));
    for node in yaml::read(&text, &|line| line).documents.into_iter().take(1) {
        let root = At::root("".into(), node);
        for item in ["resources", "bases", "components"].iter().flat_map(|key| root.get(key).items()) {
            let path = folder.join(item.words());
            match kustomization(&path) {
                Some(next) => reaches(&next, depth + 1, found),
                None => {
                    found.insert(canonical(&path));
                }
            }
        }
        for generator in ["configMapGenerator", "secretGenerator"].iter().flat_map(|key| root.get(key).items()) {
            for file in generator.get("files").items() {
                let name = file.words();
                found.insert(canonical(&folder.join(name.split_once('=').map_or(name, |(_, name)| name))));
            }
        }
    }
}
