//! A page that links to a file of the repository links to one that is there.

use super::{File, Finding};

pub(super) fn check(files: &[File]) -> Vec<Finding> {
    let exists = |path: &str| files.iter().any(|file| file.path == path || file.path.starts_with(&format!("{path}/")));
    let mut found = Vec::new();
    for page in files.iter().filter(|file| file.path.ends_with(".md")) {
        for (n, line) in (1..).zip(page.text.lines()) {
            for target in targets(line) {
                let path = resolve(&page.path, target);
                if !path.is_empty() && !exists(&path) {
                    found.push(Finding::error(
                        format!("{}:{n}", page.path),
                        format!("links to {path}, which is not there"),
                    ));
                }
            }
        }
    }
    found
}

/// What stands in the round brackets of `[text](target)`, without addresses of the web and places within the page.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    let after = line.split("](").skip(1);
    let inside = after.filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
    inside.filter(|target| !target.contains("://") && !target.starts_with('#') && !target.starts_with("mailto:"))
}

/// The path from the root that a link on `page` means.
fn resolve(page: &str, target: &str) -> String {
    let target = target.split('#').next().unwrap_or_default();
    let folder = page.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed() {
        let file = |path: &str, text: &str| File { path: path.into(), text: text.into() };
        let page =
            "[a](a.md#x) [root](../README.md) [web](https://example.org) [here](#y)\n[folder](../ops) [b](b.md)\n";
        let files = [file("docs/page.md", page), file("docs/a.md", ""), file("README.md", ""), file("ops/x.conf", "")];
        let found: Vec<String> = check(&files).into_iter().map(|finding| finding.place + " " + &finding.what).collect();
        assert_eq!(found, ["docs/page.md:2 links to docs/b.md, which is not there"]);
    }
}
