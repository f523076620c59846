//! `docs/THREATS.md` says which test shows what is promised: whatever it names exists.

use std::fs;
use std::path::Path;

/// What stands between backquotes and has a `::` in it.
fn named(page: &str) -> Vec<&str> {
    page.split('`').skip(1).step_by(2).filter(|code| code.contains("::")).collect()
}

/// Where a module is, as a file.
fn source(module: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = match module.strip_prefix("runtime::") {
        Some(rest) => root.join(format!("src/runtime/{}.rs", rest.replace("::", "/"))),
        None if module == "backup" => root.join("tests/backup.rs"),
        None => {
            let of = |target: &str| root.join(format!("cli/tests/{target}/{module}.rs"));
            Some(of("hostile")).filter(|file| file.exists()).unwrap_or_else(|| of("processes"))
        }
    };
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{module}: {}: {error}", file.display()))
}

#[test]
fn every_test_that_the_page_names_exists() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/THREATS.md");
    let page = fs::read_to_string(path).expect("the page is there");
    let all = named(&page);
    assert!(all.len() >= 8, "{all:?}");
    for name in all {
        let (module, test) = name.rsplit_once("::").expect("it has two parts");
        // Of these a module is named, and all of its tests.
        if module == "runtime::sessions::tests" {
            assert!(source(name).contains("#[test]"), "{name}");
        } else if test == "*" {
            assert!(source(module).contains("#[test]"), "{name}");
        } else {
            assert!(source(module).contains(&format!("fn {test}()")), "{name}");
        }
    }
}
