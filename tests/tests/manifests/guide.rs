//! What `docs/autoscale.md` tells people to write: the chart takes the values, KEDA's definitions the resources, and the queries ask for series that
//! there are. Blocks say behind `yaml` what they are.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::render::{printed, resources};
use super::set::{Document, SETS, Set, parse_text, root};
use super::{checks, helm, schemas};

/// The documents of the page's blocks of a sort.
fn blocks(sort: &str) -> Vec<Value> {
    let page = fs::read_to_string(root().join("../docs/autoscale.md")).unwrap();
    let begin = format!("```yaml {sort}\n");
    let texts = page.split(&begin).skip(1).map(|rest| rest.split("```").next().unwrap_or(""));
    let documents: Vec<_> = texts.flat_map(|text| parse_text(text, "docs/autoscale.md")).collect();
    assert!(!documents.is_empty(), "no block is marked `yaml {sort}`");
    documents
}

#[test]
fn the_chart_takes_the_values_of_the_guide() {
    let Some(helm) = helm("the_chart_takes_the_values_of_the_guide") else { return };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guide");
    fs::create_dir_all(&folder).unwrap();
    let example = root().join("chart/examples/two-models.yaml");
    for (i, values) in blocks("values").iter().enumerate() {
        let file = folder.join(format!("values-{i}.yaml"));
        // JSON is YAML.
        fs::write(&file, values.to_string()).unwrap();
        let set = Set::of(resources(&printed(&helm.template(&[example.clone(), file], &[]))));
        assert!(set.of_kind("ScaledObject").next().is_some());
    }
}

#[test]
fn queries_of_the_guide_ask_for_what_there_is() {
    let triggers = blocks("trigger");
    let document = |trigger: &Value| {
        let value = json!({
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "metadata": {"name": "guide", "namespace": "llm"},
            "spec": {"scaleTargetRef": {"name": "guide"}, "triggers": [trigger]},
        });
        Document { path: PathBuf::from("docs/autoscale.md"), value }
    };
    let mut set = Set::load(SETS[0]);
    set.documents.extend(triggers.iter().map(document));
    assert_eq!(checks::series(&set), [""; 0]);
    let Some(schemas) = schemas("queries_of_the_guide_ask_for_what_there_is") else { return };
    for resource in blocks("keda")
        .iter()
        .chain(triggers.iter().map(document).map(|document| document.value).collect::<Vec<_>>().iter())
    {
        assert_eq!(schemas.problems(resource), [""; 0]);
    }
}
