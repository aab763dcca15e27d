//! Whole volfiles: those of `fixtures/volfiles/`, good and broken, and made-up ones.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

fn fixtures(folder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/volfiles").join(folder);
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "vol"));
    files.sort();
    files
        .iter()
        .map(|file| (file.file_name().unwrap().to_string_lossy().into_owned(), fs::read(file).unwrap()))
        .collect()
}

/// `top(child(leaf, leaf))` with types instead of names.
fn shape(graph: &Graph) -> String {
    fn of(graph: &Graph, name: &str) -> String {
        let volume = graph.volume(name).unwrap();
        let children: Vec<String> = volume.subvolumes.iter().map(|child| of(graph, child)).collect();
        let kind = volume.kind.canonical.rsplit('/').next().unwrap();
        if children.is_empty() { kind.into() } else { format!("{kind}({})", children.join(" ")) }
    }
    of(graph, &graph.top().unwrap().name)
}

/// `errors.txt` holds the error of every broken volfile, as it is printed.
#[test]
fn broken_volfiles_are_refused_with_place_and_remedy() {
    let files = fixtures("broken");
    let expected = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/volfiles/broken/errors.txt");
    let expected = fs::read_to_string(expected).unwrap();
    assert_eq!(files.len(), expected.lines().count(), "one line for each file");
    for ((name, text), expected) in files.iter().zip(expected.lines()) {
        let error = load(name, text, &Selection::default()).map(|_| name).map_err(|error| error.to_string());
        assert_eq!(error, Err(expected.to_owned()));
    }
}

#[test]
fn old_style_volfiles_are_read() {
    for (name, text) in fixtures("old") {
        let expected = match &*name {
            "glusterfs-distribute.vol" => "io-cache(write-behind(distribute(client client)))",
            "glusterfs-replicate.vol" => "io-cache(write-behind(replicate(client client)))",
            "glusterfs-one-line.vol" => "client",
            "glusterfs-2.0.vol" => {
                "quick-read(io-cache(read-ahead(write-behind(md-cache(distribute(replicate(client client) \
                 replicate(client client)))))))"
            }
            "glusterfs-nufa.vol" => "nufa(client client)",
            _ if name.starts_with("glusterfsd") => {
                let error = parse(&text).unwrap_err().to_string();
                assert!(error.contains("this is a brick volfile"), "{name}: {error}");
                continue;
            }
            _ => panic!("{name} is in no test"),
        };
        let graph = parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(shape(&graph), expected, "{name}");
        assert_eq!(parse(graph.to_text().as_bytes()).map(|again| again.to_text()), Ok(graph.to_text()), "{name}");
    }
}

/// `shapes.txt` holds the tree of every volfile that a real glusterd (10.3) made.
#[test]
fn the_volfiles_of_glusterd_are_read() {
    let files = fixtures("glusterd");
    let expected = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/volfiles/glusterd/shapes.txt");
    let expected = fs::read_to_string(expected).unwrap();
    assert_eq!(files.len(), expected.lines().count(), "one line for each file");
    for ((name, text), expected) in files.iter().zip(expected.lines()) {
        let graph = parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(format!("{name}: {}", shape(&graph)), expected);
        assert_eq!(content(&parse(graph.to_text().as_bytes()).unwrap()), content(&graph), "{name}");
    }
}

const TWO: &str = "volume a\n type protocol/client\n option password hush\nend-volume\n\
                   volume b\n type protocol/client\n option x 1\nend-volume\n\
                   volume d\n type cluster/dht\n subvolumes a b\nend-volume\n";

#[test]
fn the_command_line_selects_and_sets() {
    let selection = |name: &str| Selection { volume_name: Some(name.into()), overrides: Vec::new() };
    let graph = load("f", TWO.as_bytes(), &selection("b")).unwrap();
    assert_eq!(shape(&graph), "client");
    assert_eq!(
        load("f", TWO.as_bytes(), &selection("c")).unwrap_err().to_string(),
        "f:12:11: there is no volume named c (line: end-volume); give --volume-name one of the names in the file"
    );
    let overrides = vec!["?.x=2".parse().unwrap(), "nobody.x=3".parse().unwrap()];
    let graph = load("f", TWO.as_bytes(), &Selection { volume_name: None, overrides }).unwrap();
    assert!(graph.volumes.iter().all(|volume| volume.options.text("x") == Some("2")));
}

#[test]
fn what_is_not_selected_is_not_judged() {
    let text = format!(
        "{TWO}volume s\n type cluster/stripe\n subvolumes d\nend-volume\nvolume t\n type what/ever\nend-volume\n"
    );
    assert!(parse(text.as_bytes()).is_err());
    let selection = Selection { volume_name: Some("d".into()), overrides: Vec::new() };
    assert_eq!(shape(&load("f", text.as_bytes(), &selection).unwrap()), "distribute(client client)");
}

#[test]
fn passwords_are_not_shown() {
    let graph = parse(TWO.as_bytes()).unwrap();
    for shown in [format!("{graph}"), format!("{graph:?}"), format!("{:?}", graph.volumes[0])] {
        assert!(!shown.contains("hush"), "{shown}");
    }
    assert!(graph.to_text().contains("hush"));
    // Nor in errors, wherever the place is.
    for cut in 0..TWO.len() {
        for addition in ["x", "\"", " volume ", "`"] {
            let broken = format!("{}{addition}{}", &TWO[..cut], &TWO[cut..]);
            if let Err(error) = parse(broken.as_bytes()) {
                let word_password_is_broken = (40..47).contains(&cut);
                assert!(word_password_is_broken || !error.to_string().contains("hush"), "{cut} {addition}: {error}");
            }
        }
    }
}

#[test]
fn a_long_text_takes_one_pass() {
    let mut text = String::new();
    for volume in 0..200 {
        text.push_str(&format!("volume v{volume} type cluster/distribute\n"));
        for option in 0..1000 {
            text.push_str(&format!("option key{option} value\n"));
        }
        text.push_str(if volume == 0 { "end-volume\n" } else { "subvolumes v0\nend-volume\n" });
    }
    let text = text.replacen("cluster/distribute", "protocol/client", 1);
    // The last line of so many is at its place.
    let error = parse(format!("{text}x").as_bytes()).unwrap_err();
    assert_eq!(error.position, Position { line: 200 * 1003, column: 1 });
    let too_long = vec![b'#'; (16 << 20) + 1];
    assert_eq!(parse(&too_long).unwrap_err().problem, Problem::TooLong);
}

/// Names with everything that a word can hold.
fn word() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z][a-z0-9-]{0,8}", "[ -~]{1,12}", "[ \t\r\"\\\\`#a-zé]{1,6}", Just("volume".to_string())]
}

/// A graph of unique names in which every parent is below its children and only the last volume has none above it.
fn graph() -> impl Strategy<Value = Graph> {
    let options = prop::collection::vec((word(), word()), 0..4);
    prop::collection::vec((word(), options), 1..6).prop_map(|drafts| {
        let mut volumes: Vec<Arc<Volume>> = Vec::new();
        let count = drafts.len();
        for (index, (name, options)) in drafts.into_iter().enumerate() {
            let name: Arc<str> = format!("{name}{index}").into();
            let is_top = index + 1 == count && index > 0;
            let (canonical, subvolumes) = if is_top {
                ("cluster/distribute", volumes.iter().map(|volume| volume.name.clone()).collect())
            } else {
                ("protocol/client", Vec::new())
            };
            let mut checked = Options::new(&name);
            for (key, value) in options {
                checked.set(&key, &value, Place::CommandLine);
            }
            let kind = Kind { canonical, written: canonical.into() };
            volumes.push(Arc::new(Volume { name, kind, options: checked, subvolumes, position: Position::default() }));
        }
        Graph { origin: "generated".into(), volumes }
    })
}

/// What counts in a graph, without the places.
fn content(graph: &Graph) -> Vec<String> {
    let line = |volume: &Arc<Volume>| {
        let options: Vec<_> = volume.options.iter().collect();
        format!("{:?} {:?} {options:?} {:?}", volume.name, volume.kind, volume.subvolumes)
    };
    graph.volumes.iter().map(line).collect()
}

proptest! {
    #[test]
    fn a_printed_graph_reads_back_the_same(graph in graph()) {
        let text = graph.to_text();
        let again = parse(text.as_bytes());
        prop_assert!(again.is_ok(), "{text}\n{again:?}");
        prop_assert_eq!(content(&again.unwrap()), content(&graph));
    }

    #[test]
    fn random_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes).map_err(|error| error.to_string());
    }

    #[test]
    fn a_damaged_volfile_does_not_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 1..8),
    ) {
        let mut text = TWO.as_bytes().to_vec();
        for (index, byte, change) in changes {
            let at = index.index(text.len());
            match change {
                0 => text[at] = byte,
                1 => text.insert(at, byte),
                _ => { text.remove(at); }
            }
        }
        match parse(&text) {
            Err(error) => prop_assert!(!error.to_string().contains(|letter: char| letter.is_control())),
            Ok(graph) => prop_assert_eq!(content(&parse(graph.to_text().as_bytes()).unwrap()), content(&graph)),
        }
    }

    #[test]
    fn random_words_do_not_panic(words in prop::collection::vec(
        prop_oneof![
            Just("volume"), Just("type"), Just("option"), Just("subvolumes"), Just("end-volume"), Just("\n"), Just("\""),
            Just("a"), Just("b"), Just("protocol/client"), Just("cluster/afr"), Just("\\"), Just("#"), Just("password"),
        ],
        0..60,
    )) {
        for separator in [" ", "", "\n"] {
            let _ = parse(words.join(separator).as_bytes()).map_err(|error| error.to_string());
        }
    }
}
