"""What the evaluation step writes beside its verdict: what is known of data and origin, and baselines."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from painted_model import NAMES, painted, read_strictly, write_test_set
from report_page import Page, disagreeing

import validate
from trafficsigns import archive as archives
from trafficsigns import gate, validation
from trafficsigns.expectations import Finding

pytest_plugins = ["painted_model"]


@pytest.fixture
def validation_dir(tmp_path) -> Path:
    """What validation says of a set of these classes, written by the step's own code from a manifest."""
    rows = pd.DataFrame(
        {
            "split": np.repeat(["train", "validation", "test"], [60, 12, 24]),
            "class_id": np.tile(range(6), 16),
            "brightness": np.linspace(0.1, 0.9, 96),
            "contrast": np.linspace(0.3, 0.1, 96),
            "width": 30,
            "height": np.tile([30, 40], 48),
        }
    )
    folder = tmp_path / "validation"
    folder.mkdir()
    validate.write_baselines(folder, rows)
    finding = Finding("images show something", "warning", "1 of 96 images", ("grey.ppm",))
    notes = {"class_names": list(NAMES)}
    outcome = validate.outcome(rows, notes, [finding], expectations=20)
    (folder / "validation.json").write_text(json.dumps(outcome))
    return folder


def test_what_validation_found_is_told_too(run, tmp_path, validation_dir):
    assert run("--validation-dir", str(validation_dir)) == 0
    data = read_strictly(tmp_path / "out" / "evaluation.json")["data"]
    assert data["splits"] == {"train": 60, "validation": 12, "test": 24}
    assert data["training_images"] == {str(class_id): 10 for class_id in range(6)}
    assert [measure["name"] for measure in data["measures"]] == ["brightness", "contrast", "width", "height"]
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "grey.ppm" in text
    assert "images show something" in (tmp_path / "out" / "model-card.md").read_text(encoding="utf-8")


def test_the_reports_figures_are_the_evaluations(run, tmp_path, validation_dir):
    run("--validation-dir", str(validation_dir))
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert disagreeing(page, read_strictly(tmp_path / "out" / "evaluation.json")) == {}


def test_without_validations_folder_the_report_says_so(run, tmp_path):
    assert run("--validation-dir", str(tmp_path / "absent")) == 0
    assert read_strictly(tmp_path / "out" / "evaluation.json")["data"] is None


def cut_short(path):
    path.write_text(path.read_text()[:-40])


def emptied(path):
    path.write_text("{}")


def no_json_object(path):
    path.write_text("[1, 2]")


def other_members(path):
    """What is looked for is there, and is something else."""
    content = json.loads(path.read_text())
    path.write_text(
        json.dumps({key: {"train": 1} if isinstance(value, dict) else [3] for key, value in content.items()})
    )


@pytest.mark.parametrize("damage", [Path.unlink, cut_short, emptied, no_json_object, other_members])
@pytest.mark.parametrize("name", [validation.OUTCOME, validation.STATISTICS])
def test_a_validation_that_cannot_be_read_is_a_failure(run, tmp_path, validation_dir, capsys, damage, name):
    damage(validation_dir / name)
    assert run("--validation-dir", str(validation_dir)) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{validation_dir / name}: not what steps/validate.py writes" in error
    assert not (tmp_path / "out").exists()


def test_a_model_of_other_classes_than_the_data_is_a_failure(run, tmp_path, validation_dir, capsys):
    outcome = json.loads((validation_dir / "validation.json").read_text())
    outcome["class_names"][2:4] = ["Priority road", "No entry"]
    (validation_dir / "validation.json").write_text(json.dumps(outcome))
    assert run("--validation-dir", str(validation_dir)) == 1
    error = capsys.readouterr().err
    assert "class 2 is 'No entry' in its training.json and 'Priority road' in" in error
    assert str(validation_dir / "validation.json") in error
    assert not (tmp_path / "out").exists()


def test_the_baselines_say_what_the_evaluation_says(run, tmp_path):
    run()
    out = tmp_path / "out"
    evaluation = read_strictly(out / "evaluation.json")
    statistics = read_strictly(out / "model-quality" / "statistics.json")
    assert statistics["multiclass_classification_metrics"] == evaluation["multiclass_classification_metrics"]
    assert statistics["dataset"]["item_count"] == evaluation["metrics"]["images"]
    thresholds = read_strictly(out / "model-quality" / "constraints.json")["multiclass_classification_constraints"]
    assert 0.75 < thresholds["accuracy"]["threshold"] < evaluation["metrics"]["accuracy"]
    (label,) = read_strictly(out / "explainability" / "analysis.json")["explanations"]["kernel_shap"].values()
    parts = {part["name"]: part["mean_absolute"] for part in evaluation["explanation"]["parts"]}
    assert label == {"global_shap_values": parts, "expected_value": evaluation["explanation"]["covered"]}


def test_parameters_are_told_with_the_bounds(run, tmp_path):
    assert run("--parameter", "Seed=7", "--parameter", "InputData=s3://b/k=v") == 0
    parameters = read_strictly(tmp_path / "out" / "evaluation.json")["parameters"]
    assert {"Seed": "7", "InputData": "s3://b/k=v", "MinimumAccuracy": "0.5"}.items() <= parameters.items()
    assert {criterion.name for criterion in gate.CRITERIA} <= set(parameters)


def test_digests_tell_other_images_and_nothing_else(run, tmp_path, model_dir, archive):
    def digests() -> dict:
        return read_strictly(tmp_path / "out" / "evaluation.json")["digests"]

    run()
    first = digests()
    with tarfile.open(model_dir / "model.tar.gz", "w:gz") as packed:  # other time stamps, and the same model
        packed.add(archive, arcname=".")
    run()
    assert digests() == first
    write_test_set(tmp_path / "other", [(painted(label), label) for label in range(6)])
    run(test=tmp_path / "other")
    assert digests()["test split"] != first["test split"]
    assert digests()["weights"] == first["weights"]


def test_other_weights_have_another_digest(tmp_path):
    def digest(name: str, value: float) -> str:
        module = tf.Module()
        module.weight = tf.Variable([value, 1.0])
        module.serve = tf.function(lambda: module.weight + 0.0, input_signature=[])
        tf.saved_model.save(module, str(tmp_path / name / "1"))
        return archives.Model(tmp_path / name, {}, None, tmp_path / name).weights_digest()

    assert digest("a", 1.0) == digest("b", 1.0) != digest("c", 1.0000001)
