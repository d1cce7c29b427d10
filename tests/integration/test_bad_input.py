"""What people get who give `signs` what it cannot use: one line with the thing and the way out, and exit code 1."""

import os
import signal
import socket
import zipfile

import pytest

from infra.local import control
from pipeline.datasets import OFFICIAL_FILES

pytestmark = pytest.mark.integration


def one_line(output: str) -> str:
    lines = [line for line in output.splitlines() if line.startswith("signs: ")]
    assert len(lines) == 1, output
    assert "Traceback" not in output
    return lines[0]


def test_a_folder_that_does_not_exist(signs):
    assert "/no/such/folder does not exist" in one_line(signs("run", "--data", "/no/such/folder", code=1))


def test_an_empty_folder(signs, tmp_path):
    assert f"{tmp_path} is empty" in one_line(signs("run", "--data", str(tmp_path), code=1))


def test_a_truncated_archive(signs, tmp_path):
    name = next(iter(OFFICIAL_FILES))
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr("a", "b" * 1000)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:500])
    assert f"{name} is not a whole zip file" in one_line(signs("run", "--data", str(tmp_path), code=1))


def test_an_s3_prefix_that_holds_nothing(signs):
    assert "s3://nowhere/data holds no objects" in one_line(signs("run", "--data", "s3://nowhere/data", code=1))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("Epoch=3", "there is no parameter Epoch: expected one of"),
        ("MinimumAccuracy=1.5", "parameter MinimumAccuracy: Input should be less than or equal to 1 (got '1.5')"),
        ("Epochs=few", "parameter Epochs: Input should be a valid integer"),
        ("ModelApprovalStatus=Maybe", "parameter ModelApprovalStatus: Input should be 'PendingManualApproval'"),
        ("Epochs", "--set Epochs: expected NAME=VALUE"),
    ],
)
def test_parameters_that_cannot_be(signs, given, said):
    assert said in one_line(signs("run", "--set", given, code=1))


def test_a_port_in_use(make_signs):
    signs = make_signs("port")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = one_line(signs("local", "start", "--port", str(port), code=1))
    assert f"port {port} is in use" in said
    assert "SIGNS_PORT" in said


def test_a_state_folder_that_cannot_be_written(make_signs, tmp_path):
    signs = make_signs("readonly")
    (tmp_path / "file").write_text("in the way")
    text = signs.settings.read_text().replace(str(signs.state), str(tmp_path / "file" / "state"))
    signs.settings.write_text(text)
    assert "choose another folder for [local] state" in one_line(signs("local", "start", code=1))


def test_commands_without_a_server_say_how_to_start_one(make_signs):
    signs = make_signs("absent")
    for words in (("status",), ("models", "list"), ("predict", "a.png"), ("upsert",)):
        assert "start it with `signs local start`" in one_line(signs(*words, code=1))


def test_aws_without_credentials_is_refused_in_one_line(signs):
    assert "no AWS credentials found" in one_line(signs("upsert", "--cloud", "aws", code=1))


ANY_MODEL = [
    word
    for change in (
        "Epochs=1",
        "MinimumAccuracy=0",
        "MinimumClassRecall=0",
        "MaximumCalibrationError=1",
        "MinimumCorruptedAccuracy=0",
        "MaximumLatencyRatio=1000",
    )
    for word in ("--set", change)
]


def test_a_server_that_dies_in_the_middle_of_a_run_and_the_run_that_goes_on(make_signs):
    signs = make_signs("dies")
    signs("local", "start")
    server = control.find(signs.state)
    run = signs.start("run", *ANY_MODEL)
    # The run has begun when the server works on its first job; then the server goes, as when memory runs out.
    while not list(signs.state.glob("jobs/*")):
        assert run.poll() is None
    os.killpg(server.pid, signal.SIGKILL)
    output, errors = run.communicate(timeout=120)
    assert run.returncode == 1
    assert "no answer any more from http://127.0.0.1" in one_line(output + errors)
    assert "it did not run" in signs("local", "stop")
    signs("local", "start")
    assert "the embedded SageMaker ended while this ran" in signs("status", code=3)
    went_on = signs("retry")
    assert signs.json("status")["status"] == "Succeeded", went_on
    assert "its status is Succeeded" in one_line(signs("retry", code=1))
