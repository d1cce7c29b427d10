"""The evaluation step from its command line to its verdict, on a model that is painted into its images."""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import painted_model
import pytest
import tensorflow as tf
from painted_model import BOUNDS, NAMES, WRITTEN, Painted, painted, read_strictly, write_test_set, write_training

import evaluate
from trafficsigns import gate, records
from trafficsigns.testset import TestSet

pytest_plugins = ["painted_model"]


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


def test_samples_whose_files_have_one_name_are_kept_apart(tmp_path):
    """As in a folder a class, each with frames from 0 on."""
    images = tuple(f"picture {number}".encode() for number in range(20))
    names = tuple(f"{folder}/{number:03d}.png" for folder in ("Stop", "Yield") for number in range(10))
    test = TestSet(images, np.repeat([0, 1], 10), names)
    evaluate.write_samples(tmp_path / "samples", test, ["Stop", "Yield"])
    rows = read_strictly(tmp_path / "samples" / "samples.json")
    shown = [int((tmp_path / "samples" / row["file"]).read_text().split()[1]) for row in rows]
    assert len(set(shown)) == len(rows) == 12
    assert [row["class_name"] for row in rows] == [("Stop", "Yield")[number // 10] for number in shown]
    assert all(Path(names[number]).stem in row["file"] for number, row in zip(shown, rows, strict=True))


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
        patch.setattr(painted_model, "NAMES", swapped)
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
        raise OSError(28, "No space left on device")

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
