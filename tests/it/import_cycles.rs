//! No file of `src` imports itself, directly or through other files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::Visit;
use syn::{Attribute, Item, ItemMod, ItemUse, UseTree, Visibility};

/// The path of a module, from the root of the crate.
type Module = Vec<String>;

/// What a file declares, and the paths it names.
#[derive(Default)]
struct File {
    /// Modules in files of their own.
    children: BTreeSet<String>,
    /// Names that this file imports, with the paths they stand for.
    imports: BTreeMap<String, Vec<String>>,
    /// Modules whose names are all imported.
    globs: Vec<Vec<String>>,
    /// Names of the items that this file defines.
    items: BTreeSet<String>,
    /// The paths that make this file depend on another one.
    paths: Vec<Vec<String>>,
}

/// All modules of the crate that have a file.
struct Crate(BTreeMap<Module, File>);

impl Crate {
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = BTreeMap::new();
        read_module(&root.join("lib.rs"), &root, Vec::new(), &mut files);
        Crate(files)
    }

    /// Returns the absolute form of a path that `module` uses, without `crate`.
    fn absolute(&self, module: &Module, path: &[String]) -> Option<Vec<String>> {
        let file = &self.0[module];
        let (first, rest) = path.split_first()?;
        let start = match first.as_str() {
            "crate" => Vec::new(),
            "self" => module.clone(),
            "super" => {
                let parent = module.split_last()?.1.to_vec();
                return self.absolute_from(parent, rest);
            }
            name if file.children.contains(name) => [module.clone(), vec![name.into()]].concat(),
            _ => return None,
        };
        self.absolute_from(start, rest)
    }

    fn absolute_from(&self, start: Module, rest: &[String]) -> Option<Vec<String>> {
        match rest.split_first() {
            Some((first, rest)) if first == "super" => {
                let parent = start.split_last()?.1.to_vec();
                self.absolute_from(parent, rest)
            }
            _ => Some([start, rest.to_vec()].concat()),
        }
    }

    /// Returns the module whose file defines what an absolute path names. Imports are followed.
    fn defining(&self, path: &[String], depth: usize) -> Option<Module> {
        assert!(depth < 20, "imports refer to each other: {path:?}");
        let mut module = Vec::new();
        for (at, name) in path.iter().enumerate() {
            let file = &self.0[&module];
            if file.children.contains(name) {
                module.push(name.clone());
                continue;
            }
            if file.items.contains(name) {
                return Some(module);
            }
            if let Some(import) = file.imports.get(name) {
                let import = self.absolute(&module, import)?;
                return self.defining(&[import, path[at + 1..].to_vec()].concat(), depth + 1);
            }
            return file
                .globs
                .iter()
                .filter_map(|glob| self.absolute(&module, glob))
                .filter_map(|glob| {
                    let path = [glob, path[at..].to_vec()].concat();
                    self.defining(&path, depth + 1)
                })
                .next();
        }
        Some(module)
    }

    /// Returns, for each module, the modules that it depends on.
    fn edges(&self) -> BTreeMap<&Module, BTreeSet<Module>> {
        let targets = |module: &Module, file: &File| {
            file.paths
                .iter()
                .filter_map(|path| self.absolute(module, path))
                .filter_map(|path| self.defining(&path, 0))
                .filter(|target| target != module)
                .collect()
        };
        self.0
            .iter()
            .map(|(module, file)| (module, targets(module, file)))
            .collect()
    }
}

fn read_module(path: &Path, directory: &Path, module: Module, files: &mut BTreeMap<Module, File>) {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let syntax = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut file = File::default();
    file.visit_file(&syntax);
    for child in file.children.clone() {
        let (path, inner) = file_of(directory, &child);
        let module = [module.clone(), vec![child]].concat();
        read_module(&path, &inner, module, files);
    }
    files.insert(module, file);
}

/// Returns the file of a module, and the directory of its own modules.
fn file_of(directory: &Path, name: &str) -> (PathBuf, PathBuf) {
    let inner = directory.join(name);
    let plain = directory.join(format!("{name}.rs"));
    if plain.exists() {
        (plain, inner)
    } else {
        (inner.join("mod.rs"), inner)
    }
}

fn is_of_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Path>()
                .is_ok_and(|condition| condition.is_ident("test"))
    })
}

impl File {
    fn add_use(&mut self, prefix: &[String], tree: &UseTree, is_reexport: bool) {
        let mut path = prefix.to_vec();
        match tree {
            UseTree::Path(part) => {
                path.push(part.ident.to_string());
                self.add_use(&path, &part.tree, is_reexport);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_use(&path, tree, is_reexport);
                }
            }
            UseTree::Name(name) if name.ident == "self" => {
                let name = path.last().expect("`self` follows a path").clone();
                self.add_import(name, path, is_reexport);
            }
            UseTree::Name(name) => {
                path.push(name.ident.to_string());
                self.add_import(name.ident.to_string(), path, is_reexport);
            }
            UseTree::Rename(renamed) => {
                path.push(renamed.ident.to_string());
                self.add_import(renamed.rename.to_string(), path, is_reexport);
            }
            UseTree::Glob(_) => {
                self.globs.push(path.clone());
                if !is_reexport {
                    self.paths.push(path);
                }
            }
        }
    }

    fn add_import(&mut self, name: String, path: Vec<String>, is_reexport: bool) {
        if !is_reexport {
            self.paths.push(path.clone());
        }
        self.imports.insert(name, path);
    }
}

impl<'ast> Visit<'ast> for File {
    fn visit_item(&mut self, item: &'ast Item) {
        let name = match item {
            Item::Const(item) => Some(&item.ident),
            Item::Enum(item) => Some(&item.ident),
            Item::Fn(item) => Some(&item.sig.ident),
            Item::Static(item) => Some(&item.ident),
            Item::Struct(item) => Some(&item.ident),
            Item::Trait(item) => Some(&item.ident),
            Item::Type(item) => Some(&item.ident),
            Item::Macro(item) => item.ident.as_ref(),
            _ => None,
        };
        self.items.extend(name.map(ToString::to_string));
        let attributes = match item {
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => &Vec::new(),
        };
        if !is_of_tests(attributes) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        let name = item.ident.to_string();
        let Some((_, items)) = &item.content else {
            self.children.insert(name);
            return;
        };
        let mut inner = File::default();
        for item in items {
            inner.visit_item(item);
        }
        self.items.insert(name);
        let from_root = inner.paths.into_iter().filter(|path| path[0] == "crate");
        self.paths.extend(from_root);
    }

    /// A public `use` of something below this module is its table of contents, and no dependency.
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let is_public = !matches!(item.vis, Visibility::Inherited);
        let starts_below = match &item.tree {
            UseTree::Path(path) => path.ident != "crate" && path.ident != "super",
            _ => false,
        };
        self.add_use(&[], &item.tree, is_public && starts_below);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        if names.len() > 1 {
            self.paths.push(names);
        }
        syn::visit::visit_path(self, path);
    }
}

/// Returns what can be reached from `start`.
fn reachable<'a>(
    edges: &'a BTreeMap<&Module, BTreeSet<Module>>,
    start: &Module,
) -> BTreeSet<&'a Module> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<&Module> = edges[start].iter().collect();
    while let Some(module) = open.pop() {
        if seen.insert(module) {
            open.extend(&edges[module]);
        }
    }
    seen
}

#[test]
fn files_do_not_import_each_other_in_circles() {
    let files = Crate::read();
    let edges = files.edges();
    let count: usize = edges.values().map(BTreeSet::len).sum();
    assert!(count > 500, "only {count} dependencies were found");
    let reached: BTreeMap<&Module, BTreeSet<&Module>> = edges
        .keys()
        .map(|module| (*module, reachable(&edges, module)))
        .collect();
    let mut report = String::new();
    for (module, targets) in &edges {
        for target in targets {
            if reached[target].contains(module) {
                report += &format!("{} → {}\n", module.join("::"), target.join("::"));
            }
        }
    }
    assert!(
        report.is_empty(),
        "imports that are part of a cycle:\n{report}"
    );
}
