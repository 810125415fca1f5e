//! `images --tree` and `--viz`: which image stands on which, as a tree of lines, and as a graph for Graphviz (F021).

use crate::image::tree::{Node, Subject, walk};
use crate::output::terminal::clean;
use crate::output::units;
use std::fmt::Write as _;

fn id(subject: Subject, short: bool) -> String {
    match (subject, short) {
        (Subject::Image(id), true) => id.short(),
        (Subject::Image(id), false) => id.to_string(),
        (Subject::Layer(id), true) => id.hex()[..12].to_owned(),
        (Subject::Layer(id), false) => id.to_string(),
    }
}

/// `└─0123456789ab Size: 1.5MB (virtual 7MB) Tags: debian:12`; a layer that is no image has no tags and says so.
pub(crate) fn tree(nodes: &[Node], short: bool) -> String {
    let mut text = String::new();
    for (more, node) in walk(nodes) {
        let Some((more_here, above)) = more.split_last() else {
            continue;
        };
        for more_above in above {
            text.push_str(if *more_above { "│ " } else { "  " });
        }
        text.push_str(if *more_here { "├─" } else { "└─" });
        let (own, whole) = (units::size(node.own), units::size(node.size));
        let _ = write!(text, "{} Size: {own} (virtual {whole})", id(node.subject, short));
        if matches!(node.subject, Subject::Layer(_)) {
            text.push_str(" (layer)");
        }
        if !node.names.is_empty() {
            let _ = write!(text, " Tags: {}", clean(&node.names.join(", ")));
        }
        text.push('\n');
    }
    text
}

/// In Graphviz' language: `barge images --viz | dot -Tpng -o images.png`.
pub(crate) fn graph(nodes: &[Node], short: bool) -> String {
    let mut text = String::from("digraph images {\n");
    for node in nodes {
        let name = id(node.subject, short);
        match node.parent {
            Some(parent) => _ = writeln!(text, " \"{}\" -> \"{name}\"", id(parent, short)),
            None => _ = writeln!(text, " base -> \"{name}\" [style=invis]"),
        }
        if !node.names.is_empty() {
            let names = node.names.join("\\n").replace('"', "\\\"");
            let _ = writeln!(
                text,
                " \"{name}\" [label=\"{name}\\n{names}\",shape=box,fillcolor=\"paleturquoise\",style=\"filled,rounded\"];"
            );
        }
    }
    text.push_str(" base [style=invisible]\n}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::digest::Digest;
    use crate::model::id::{ChainId, ImageId};

    fn nodes() -> Vec<Node> {
        let (base, layer) = (
            Subject::Image(ImageId(Digest::of(b"a"))),
            Subject::Layer(ChainId(Digest::of(b"b"))),
        );
        let node = |subject, parent, names: &[&str], own, size| Node {
            subject,
            parent,
            names: names.iter().map(|n| (*n).to_owned()).collect(),
            own,
            size,
        };
        vec![
            node(base, None, &["base:1", "base:latest"], 1000, 1000),
            node(layer, Some(base), &[], 500, 1500),
            node(
                Subject::Image(ImageId(Digest::of(b"c"))),
                Some(layer),
                &["x:1"],
                1,
                1501,
            ),
            node(Subject::Image(ImageId(Digest::of(b"d"))), Some(base), &[], 0, 1000),
        ]
    }

    #[test]
    fn a_tree_of_lines() {
        let expected = "└─ca978112ca1b Size: 1kB (virtual 1kB) Tags: base:1, base:latest\n  \
                        ├─3e23e8160039 Size: 500B (virtual 1.5kB) (layer)\n  \
                        │ └─2e7d2c03a950 Size: 1B (virtual 1.5kB) Tags: x:1\n  \
                        └─18ac3e7343f0 Size: 0B (virtual 1kB)\n";
        assert_eq!(tree(&nodes(), true), expected);
    }

    #[test]
    fn a_graph() {
        let text = graph(&nodes(), true);
        for line in [
            "digraph images {\n",
            " base -> \"ca978112ca1b\" [style=invis]\n",
            " \"ca978112ca1b\" -> \"3e23e8160039\"\n",
            " \"ca978112ca1b\" [label=\"ca978112ca1b\\nbase:1\\nbase:latest\",shape=box,",
            " base [style=invisible]\n}\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
