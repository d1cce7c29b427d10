"""The evaluation step from its command line to its files, on a model whose every answer is painted into its images.

The tiny model reads an image's first pixel: red is the class it answers, green the probability it gives it (of 255),
and any blue makes it answer NaN. So each test knows by hand what must come out.
"""

import io
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image

import evaluate
import validate
from trafficsigns import archive as archives
from trafficsigns import gate, records, validation
from trafficsigns.expectations import Finding

NAMES = ("Stop", "Give way", "No entry", "Priority road", "Roundabout", "Wild animals")
WRITTEN = {
    "evaluation.json", "report.html", "model-card.json", "model-card.md", "package-card.json",
    "golden", "samples", "model-quality", "explainability",
}  # fmt: skip
BOUNDS = {
    "--minimum-accuracy": "0.5",
    "--minimum-class-recall": "0.5",
    "--maximum-calibration-error": "0.3",
    "--minimum-corrupted-accuracy": "0",
    "--maximum-latency-ratio": "1000",
    "--maximum-archive-megabytes": "25",
    "--champion-significance": "0.05",
}


class Painted(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serve(self, image_bytes):
        pixels = tf.map_fn(
            lambda png: tf.io.decode_png(png, channels=3)[0, 0], image_bytes, fn_output_signature=tf.uint8
        )
        answer = tf.one_hot(tf.cast(pixels[:, 0], tf.int32), len(NAMES))
        given = tf.cast(pixels[:, 1:2], tf.float32) / 255
        probabilities = answer * given + (1 - answer) * (1 - given) / (len(NAMES) - 1)
        probabilities = tf.where(pixels[:, 2:] > 0, float("nan"), probabilities)
        best, ids = tf.math.top_k(probabilities, 5)
        names = tf.gather(tf.constant(NAMES), ids)
        return {
            "probabilities": probabilities,
            "class_id": tf.cast(ids[:, 0], tf.int64),
            "class_name": names[:, 0],
            "probability": best[:, 0],
            "top_class_ids": tf.cast(ids, tf.int64),
            "top_class_names": names,
            "top_probabilities": best,
        }


def painted(answer: int, probability: float = 0.8, poison: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (answer, round(probability * 255), poison)).save(buffer, format="PNG")
    return buffer.getvalue()


def write_training(archive: Path, content: object) -> None:
    path = archive / "1" / "assets.extra" / "training.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def write_test_set(directory: Path, rows: list[tuple[bytes, int]]) -> None:
    records.write((records.example(png, label, "", f"{n:05d}.ppm") for n, (png, label) in enumerate(rows)), directory)


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("saved") / "1"
    module = Painted()
    tf.saved_model.save(module, str(directory), signatures={"serving_default": module.serve})
    return directory


@pytest.fixture
def archive(tmp_path, saved_model) -> Path:
    root = tmp_path / "archive"
    shutil.copytree(saved_model, root / "1")
    history = [{"epoch": 1, "loss": 1.5, "accuracy": 0.6, "validation_loss": 1.4, "validation_accuracy": 0.65}]
    write_training(root, {"architecture": "painted", "classes": NAMES, "selected_epoch": 1, "history": history})
    return root


@pytest.fixture
def model_dir(tmp_path, archive) -> Path:
    directory = tmp_path / "model"
    directory.mkdir()
    with tarfile.open(directory / "model.tar.gz", "w:gz") as packed:
        packed.add(archive, arcname=".")
    return directory


@pytest.fixture
def test_dir(tmp_path) -> Path:
    """Four images of each of five classes, one of the last answered wrongly; none of "Wild animals"."""
    rows = [(painted(label, 0.8 + 0.01 * copy), label) for copy in range(4) for label in range(5)]
    rows[4] = (painted(0, 0.99), 4)
    write_test_set(tmp_path / "test", rows)
    return tmp_path / "test"


@pytest.fixture
def run(tmp_path, model_dir, test_dir, monkeypatch):
    (tmp_path / "job").mkdir()
    monkeypatch.setenv("SM_OUTPUT_DIR", str(tmp_path / "job"))

    def run(*more: str, model: Path = model_dir, test: Path = test_dir, **bounds: str) -> int:
        options = {"--model-dir": model, "--test-dir": test, "--output-dir": tmp_path / "out", **BOUNDS}
        options |= {f"--{name.replace('_', '-')}": value for name, value in bounds.items()}
        return evaluate.main([str(word) for pair in options.items() for word in pair] + list(more))

    return run


def read_strictly(path: Path):
    def refuse(constant: str):
        raise AssertionError(f"{path} holds {constant}, which is no JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_the_evaluation_says_what_the_images_say(run, tmp_path):
    assert run("--lineage", "commit=3f9a2c1", "--lineage", "seed=7") == 0
    evaluation = read_strictly(tmp_path / "out" / "evaluation.json")

    metrics = evaluation["metrics"]
    assert (metrics["images"], metrics["accuracy"], metrics["worst_class_recall"]) == (20, 0.95, 0.75)
    assert metrics["accuracy_lower"] < 0.95 < metrics["accuracy_upper"]
    assert evaluation["confusion_matrix"][4] == [1, 0, 0, 0, 3, 0]
    assert evaluation["classes"][0] == {
        "class_id": 0, "class_name": "Stop", "support": 4, "precision": 0.8, "recall": 1.0, "f1": pytest.approx(8 / 9)
    }  # fmt: skip
    assert evaluation["classes"][5]["recall"] is None
    assert sum(group["count"] for group in evaluation["reliability"]) == 20
    assert evaluation["gate"]["passed"] is True
    assert evaluation["training"]["architecture"] == "painted"
    assert evaluation["lineage"] == {"commit": "3f9a2c1", "seed": "7"}


def test_sagemaker_studio_finds_its_schema(run, tmp_path):
    run()
    evaluation = read_strictly(tmp_path / "out" / "evaluation.json")
    quality = evaluation["multiclass_classification_metrics"]
    assert quality["accuracy"] == {"value": 0.95, "standard_deviation": "NaN"}
    assert quality["weighted_recall"]["value"] == pytest.approx(0.95)
    assert {"weighted_precision", "weighted_f1"} <= set(quality)
    assert quality["confusion_matrix"]["4"] == {"0": 1, "1": 0, "2": 0, "3": 0, "4": 3, "5": 0}


def test_a_failed_gate_is_a_verdict_not_a_failure(run, tmp_path, capsys):
    assert run(minimum_class_recall="0.76") == 0
    gate = read_strictly(tmp_path / "out" / "evaluation.json")["gate"]
    assert gate["passed"] is False
    assert [bound["passed"] for bound in gate["bounds"]] == [True, False, True, True, True, True, True]
    assert gate["bounds"][1]["bound"] == 0.76
    assert capsys.readouterr().err == ""


def test_each_bound_is_logged(run, caplog):
    caplog.set_level("INFO")
    run(minimum_class_recall="0.76")
    lines = [record.getMessage() for record in caplog.records]
    assert "MinimumClassRecall: worst_class_recall is 0.7500, must be at least 0.7600: NOT passed" in lines
    assert sum(": passed" in line for line in lines) == len(BOUNDS) - 1


def test_samples_are_test_images_with_the_truth_whatever_the_model_says(run, tmp_path, saved_model, test_dir):
    assert run() == 0
    samples = tmp_path / "out" / "samples"
    truth = {
        Path(name.decode()).stem: (image, int(label))
        for image, label, name in records.encoded(test_dir).as_numpy_iterator()
    }
    rows = read_strictly(samples / "samples.json")
    assert len(rows) == min(12, len(truth))
    for row in rows:
        image, label = truth[Path(row["file"]).stem]
        assert (samples / row["file"]).read_bytes() == image
        assert (row["class_id"], row["class_name"]) == (label, NAMES[label])


def test_golden_images_are_test_images_with_the_models_own_answers(run, tmp_path, saved_model, test_dir):
    run()
    golden = tmp_path / "out" / "golden"
    rows = read_strictly(golden / "golden.json")
    originals = {png for png, _, _ in records.encoded(test_dir).as_numpy_iterator()}
    loaded = tf.saved_model.load(str(saved_model))

    assert [row["class_id"] for row in rows] == [0, 1, 2, 3, 4]
    assert {path.name for path in golden.iterdir()} == {"golden.json", *(row["file"] for row in rows)}
    for row in rows:
        png = (golden / row["file"]).read_bytes()
        answer = loaded.signatures["serving_default"](image_bytes=tf.constant([png]))
        assert png in originals
        assert answer["class_id"].numpy()[0] == row["class_id"]
        assert answer["class_name"].numpy()[0].decode() == row["class_name"] == NAMES[row["class_id"]]
        assert answer["probability"].numpy()[0] == pytest.approx(row["probability"], abs=1e-6)
        assert row["probability"] == pytest.approx(0.83, abs=0.01)


def test_an_unpacked_archive_gives_the_same_files_and_nothing_else_is_left(run, tmp_path, archive):
    def files() -> dict[str, bytes]:
        found = (path for path in (tmp_path / "out").rglob("*.*") if path.parent != tmp_path / "out")
        return {str(path.relative_to(tmp_path)): path.read_bytes() for path in found}

    def evaluation() -> dict:
        content = read_strictly(tmp_path / "out" / "evaluation.json")
        # Time never repeats itself, and an archive that is not packed is larger.
        del content["latency"], content["gate"]
        measured = ("latency_p50_milliseconds", "latency_p99_milliseconds", "latency_ratio", "archive_megabytes")
        return {**content, "metrics": {k: v for k, v in content["metrics"].items() if k not in measured}}

    run()
    packed, judged = files(), evaluation()
    run(model=archive)
    assert files() == packed
    assert evaluation() == judged
    assert {path.name for path in (tmp_path / "out").iterdir()} == WRITTEN


def test_a_report_is_written_beside(run, tmp_path):
    run()
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "of 20 images" in text
    assert "Wild animals (5)" in text


def no_archive(model, archive, test):
    (model / "model.tar.gz").unlink()


def truncated_archive(model, archive, test):
    content = (model / "model.tar.gz").read_bytes()
    (model / "model.tar.gz").write_bytes(content[: len(content) // 2])


def archive_of_something_else(model, archive, test):
    with tarfile.open(model / "model.tar.gz", "w:gz") as packed:
        packed.add(archive / "1", arcname="model")


def archive_reaching_outside(model, archive, test):
    with tarfile.open(model / "model.tar.gz", "w:gz") as packed:
        packed.add(archive / "1", arcname="../1")


def no_saved_model(model, archive, test):
    (archive / "1" / "saved_model.pb").unlink()


def other_signature(model, archive, test):
    module = Painted()
    tf.saved_model.save(module, str(archive / "1"), signatures={"other": module.serve})


def other_outputs(model, archive, test):
    module = tf.Module()
    module.serve = tf.function(lambda image_bytes: {"probabilities": image_bytes}).get_concrete_function(
        tf.TensorSpec([None], tf.string, name="image_bytes")
    )
    tf.saved_model.save(module, str(archive / "1"), signatures={"serving_default": module.serve})


def other_input(model, archive, test):
    module = Painted()
    spec = tf.TensorSpec([None], tf.string, name="pictures")
    renamed = tf.function(lambda pictures: module.serve(pictures), input_signature=[spec])
    tf.saved_model.save(module, str(archive / "1"), signatures={"serving_default": renamed})


def decoded_input(model, archive, test):
    module = Painted()
    spec = tf.TensorSpec([None, 32, 32, 3], tf.float32, name="image_bytes")
    taking_pixels = tf.function(lambda image_bytes: module.serve(tf.fill(tf.shape(image_bytes)[:1], "")), [spec])
    tf.saved_model.save(module, str(archive / "1"), signatures={"serving_default": taking_pixels})


def no_training_notes(model, archive, test):
    (archive / "1" / "assets.extra" / "training.json").unlink()


def training_notes_without_classes(model, archive, test):
    write_training(archive, {"architecture": "painted"})


def one_class_less(model, archive, test):
    write_training(archive, {"classes": NAMES[:-1]})


def names_in_another_order(model, archive, test):
    write_training(archive, {"classes": NAMES[::-1]})


def no_test_split(model, archive, test):
    shutil.rmtree(test)


def empty_test_split(model, archive, test):
    shutil.rmtree(test)
    test.mkdir()
    (test / "00000.tfrecord").touch()


def damaged_shard(model, archive, test):
    (shard,) = test.glob("*.tfrecord")
    shard.write_bytes(shard.read_bytes()[:-7])


def label_outside(model, archive, test):
    write_test_set(test, [(painted(0), 6)])


def poisoned_image(model, archive, test):
    write_test_set(test, [(painted(0), 0), (painted(0, poison=1), 0)])


def no_image(model, archive, test):
    write_test_set(test, [(b"not a PNG", 0)])


PACKED = [
    (no_archive, "model", "holds neither model.tar.gz nor an unpacked archive's folder 1/"),
    (truncated_archive, "model.tar.gz", "could not be extracted"),
    (archive_of_something_else, "model.tar.gz", "has no folder 1/ at its root"),
    (archive_reaching_outside, "model.tar.gz", "could not be extracted"),
    (no_test_split, "test", "no .tfrecord shard"),
    (empty_test_split, "test", "hold no record"),
    (damaged_shard, "test", "damaged"),
    (label_outside, "test", "label 6 lies outside the model's 6 classes"),
    (poisoned_image, "model", "1 of 2 answers hold a probability that is not a finite number"),
    (no_image, "test", "images 0 to 0: the model refuses one of them"),
]
UNPACKED = [
    (no_saved_model, "archive/1", "not a readable SavedModel"),
    (other_signature, "archive/1", "has no signature serving_default"),
    (other_input, "archive/1", "must take image_bytes, strings (None,), alone (it takes pictures: string (None,))"),
    (decoded_input, "archive/1", "alone (it takes image_bytes: float32 (None, 32, 32, 3))"),
    (other_outputs, "archive/1", "lacks the outputs: class_id, class_name, probability, top_class_ids"),
    (no_training_notes, "archive/1/assets.extra/training.json", "missing"),
    (training_notes_without_classes, "archive/1/assets.extra/training.json", "'classes'"),
    (one_class_less, "archive", "6 probabilities, but training.json names 5 classes"),
    (names_in_another_order, "archive", "contradicts itself"),
]


@pytest.mark.parametrize(
    ("damage", "place", "reason", "packed"),
    [(*case, True) for case in PACKED] + [(*case, False) for case in UNPACKED],
    ids=[case[0].__name__ for case in PACKED + UNPACKED],
)
def test_bad_input_is_one_line_and_no_output(
    damage, place, reason, packed, run, tmp_path, model_dir, archive, test_dir, capsys
):
    damage(model_dir, archive, test_dir)
    capsys.readouterr()
    assert run(model=model_dir if packed else archive) == 1
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert place in line
    assert reason in line
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "job" / "failure").read_text() == (tmp_path / "job" / "message").read_text() == line[:-1][:1024]


def test_the_script_runs_by_hand_and_fails_with_one_line(tmp_path):
    command = [
        sys.executable,
        evaluate.__file__,
        *(word for pair in {**BOUNDS, "--minimum-accuracy": "2"}.items() for word in pair),
    ]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "MinimumAccuracy is 2.0: a bound lies between 0 and 1\n"


@pytest.mark.parametrize("option", BOUNDS)
@pytest.mark.parametrize("bound", ["-0.1", "5001.0", "nan"])
def test_a_bound_out_of_its_range_is_refused_by_name(run, capsys, option, bound):
    assert run(**{option[2:].replace("-", "_"): bound}) == 1
    name = "".join(word.capitalize() for word in option[2:].split("-"))
    (criterion,) = (each for each in gate.CRITERIA if each.name == name)
    assert capsys.readouterr().err == f"{name} is {bound}: a bound lies between 0 and {criterion.highest:g}\n"


@pytest.fixture
def champion(tmp_path, model_dir) -> Path:
    """The model itself, in the champion's place."""
    folder = tmp_path / "champion"
    shutil.copytree(model_dir, folder)
    return folder


def test_a_champion_answers_the_same_images(run, tmp_path, champion):
    assert run("--champion-dir", str(champion)) == 0
    evaluation = read_strictly(tmp_path / "out" / "evaluation.json")
    assert evaluation["champion"]["p_value"] == evaluation["metrics"]["champion_p_value"] == 1.0
    assert evaluation["champion"]["champion_accuracy"] == evaluation["metrics"]["accuracy"]
    assert "McNemar" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_a_worse_model_than_the_champion_does_not_pass(run, tmp_path, champion, test_dir):
    """Another test set, of images that this model gets wrong and a champion with other class names gets right."""
    root = tmp_path / "renamed"
    with tarfile.open(champion / "model.tar.gz") as packed:
        packed.extractall(root, filter="data")
    rows = [(painted(answer), (answer + 1) % 2) for answer in (0, 1) for _ in range(6)]
    write_test_set(tmp_path / "swapped", rows)
    swapped = ("Give way", "Stop", *NAMES[2:])
    renamed = Painted()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], "NAMES", swapped)
        tf.saved_model.save(renamed, str(tmp_path / "model2" / "1"), signatures={"serving_default": renamed.serve})
    write_training(tmp_path / "model2", {"architecture": "painted", "classes": swapped})
    assert run("--champion-dir", str(tmp_path / "model2"), test=tmp_path / "swapped") == 0
    evaluation = read_strictly(tmp_path / "out" / "evaluation.json")
    assert (evaluation["champion"]["only_champion"], evaluation["champion"]["only_challenger"]) == (12, 0)
    assert evaluation["metrics"]["champion_p_value"] == pytest.approx(0.5**12)
    assert evaluation["gate"]["bounds"][-1]["passed"] is False


def test_that_there_is_no_champion_is_a_file(run, tmp_path):
    (tmp_path / "champion").mkdir()
    (tmp_path / "champion" / "none.json").write_text("{}")
    assert run("--champion-dir", str(tmp_path / "champion")) == 0
    evaluation = read_strictly(tmp_path / "out" / "evaluation.json")
    assert (evaluation["champion"], evaluation["metrics"]["champion_p_value"]) == (None, 1.0)
    assert "No model was approved before this one" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("content", [None, b"", b"no archive"], ids=["nothing", "empty", "text"])
def test_a_champion_that_cannot_be_opened_is_a_failure(run, tmp_path, capsys, content):
    (tmp_path / "champion").mkdir()
    if content is not None:
        (tmp_path / "champion" / "model.tar.gz").write_bytes(content)
    assert run("--champion-dir", str(tmp_path / "champion")) == 1
    error = capsys.readouterr().err
    assert error.startswith("the champion cannot be compared with: ")
    assert str(tmp_path / "champion") in error
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_bound_is_never_assumed(capsys):
    with pytest.raises(SystemExit) as stopped:
        evaluate.main(["--minimum-accuracy", "0.9"])
    assert stopped.value.code == 2
    assert "--minimum-class-recall" in capsys.readouterr().err


def test_lineage_without_a_value_is_refused(run, capsys):
    with pytest.raises(SystemExit):
        run("--lineage", "commit")
    assert "not of the form KEY=VALUE" in capsys.readouterr().err


def test_a_failure_while_writing_leaves_the_earlier_evaluation(run, tmp_path, monkeypatch):
    run()
    before = (tmp_path / "out" / "evaluation.json").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device", "report.html")

    monkeypatch.setattr(evaluate, "write_report", full)
    assert run(minimum_accuracy="0.1") == 1
    assert (tmp_path / "out" / "evaluation.json").read_bytes() == before
    assert {path.name for path in (tmp_path / "out").iterdir()} == WRITTEN


def test_help_comes_from_anywhere_without_loading_tensorflow(tmp_path):
    script = Path(evaluate.__file__)
    code = f"import runpy, sys; sys.argv = ['evaluate.py', '--help']; sys.path.insert(0, {str(script.parent)!r})\n"
    code += f"try: runpy.run_path({str(script)!r}, run_name='__main__')\n"
    code += "finally: assert 'tensorflow' not in sys.modules"
    shown = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    for option in ("--model-dir", "/opt/ml/processing/input/test", "--lineage", *BOUNDS):
        assert option in shown.stdout


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


def test_without_validations_folder_the_report_says_so(run, tmp_path):
    assert run("--validation-dir", str(tmp_path / "absent")) == 0
    assert read_strictly(tmp_path / "out" / "evaluation.json")["data"] is None


def cut_short(path):
    path.write_text(path.read_text()[:-40])


def emptied(path):
    path.write_text("{}")


@pytest.mark.parametrize("damage", [Path.unlink, cut_short, emptied])
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
        return archives.Model(tmp_path / name, {}, None).weights_digest()

    assert digest("a", 1.0) == digest("b", 1.0) != digest("c", 1.0000001)
