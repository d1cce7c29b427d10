import importlib
from pathlib import Path

import pytest

from trafficsigns import failures

FULL = Path("/dev/full")


@pytest.fixture
def output(tmp_path, monkeypatch):
    monkeypatch.setenv("SM_OUTPUT_DIR", str(tmp_path))
    return tmp_path


def failing_with(error: BaseException):
    def body() -> None:
        raise error

    return body


def test_a_body_that_returns_leaves_nothing_behind(output, capsys):
    assert failures.run(lambda: None) == 0
    assert capsys.readouterr().err == ""
    assert list(output.iterdir()) == []


def test_an_expected_failure_is_one_line_for_people_and_one_text_for_sagemaker(output, capsys):
    assert failures.run(failing_with(failures.StepError("shard 3:\n  truncated"))) == 1
    assert capsys.readouterr().err == "shard 3: truncated\n"
    assert {path.name: path.read_text() for path in output.iterdir()} == {
        "failure": "shard 3: truncated",
        "message": "shard 3: truncated",
    }


def test_a_missing_file_is_named(output, capsys):
    assert failures.run(lambda: (output / "absent").read_text() and None) == 1
    assert capsys.readouterr().err == f"{output}/absent: No such file or directory\n"


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_a_disk_that_is_full_is_no_defect_though_its_error_names_no_file(output, capsys):
    def body() -> None:
        FULL.write_text("more than nothing")

    assert failures.run(body) == 1
    assert capsys.readouterr().err == "the disk: No space left on device\n"


@pytest.mark.parametrize(
    "defect", [KeyError("x"), OSError("without a file"), BrokenPipeError(32, "Broken pipe")], ids=repr
)
def test_a_defect_keeps_its_traceback(output, defect):
    with pytest.raises(type(defect)):
        failures.run(failing_with(defect))
    assert list(output.iterdir()) == []


def test_a_long_reason_is_cut_for_sagemaker_only(output, capsys):
    failures.run(failing_with(failures.StepError("ä" * 2000)))
    assert len((output / "failure").read_bytes()) == 1024
    assert capsys.readouterr().err == "ä" * 2000 + "\n"


def test_outside_a_job_no_file_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("SM_OUTPUT_DIR", str(tmp_path / "absent"))
    assert failures.run(failing_with(failures.StepError("reason"))) == 1
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_folder_does_not_replace_the_reason(output, capsys):
    (output / "failure").mkdir()
    assert failures.run(failing_with(failures.StepError("reason"))) == 1
    assert capsys.readouterr().err.startswith("reason\n")
    assert (output / "message").read_text() == "reason"


@pytest.mark.parametrize("step", ["deploy", "describe", "evaluate", "preprocess", "train", "validate"])
def test_a_job_whose_arguments_are_refused_tells_sagemaker_which(output, capsys, step):
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(step).main(["--no-such-option=1"])
    assert ended.value.code == 2
    reason = (output / "message").read_text()
    assert f"error: {reason}" in capsys.readouterr().err
    assert reason.startswith(("unrecognized arguments: --no-such", "the following arguments are required: "))
