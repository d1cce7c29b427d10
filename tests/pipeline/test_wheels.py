"""Wheels: downloaded by hash for AWS's machines, laid into the bucket once, asked for before a definition is sent."""

import hashlib
import os
import re
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline import clouds, definitions, settings, wheels
from pipeline.cli import app
from pipeline.code import STEPS
from pipeline.settings import DEFAULT_FILE

OFFLINE = {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def wheel(folder: Path, tag: str) -> Path:
    """Write a wheel with nothing in it, for Python 3.12 on Linux or another system."""
    path = folder / f"tiny_need-1.0-cp312-cp312-{tag}.whl"
    info = "tiny_need-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-need\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp312-cp312-{tag}\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder of wheels in place of an index, and a lock of one step that names one of them."""
    folder = tmp_path / "index"
    folder.mkdir()
    path = wheel(folder, "manylinux_2_28_x86_64")
    wheel(folder, "macosx_11_0_arm64")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    locks = tmp_path / "requirements"
    locks.mkdir()
    # As `make lock` writes them: a version for each Python, of which this machine's is not asked.
    (locks / "validate.txt").write_text(
        f"tiny-need==0.9 ; python_full_version < '3.12' \\\n    --hash=sha256:{'0' * 64}\n"
        f"tiny-need==1.0 ; python_full_version >= '3.12' \\\n    --hash=sha256:{digest}\n"
    )
    monkeypatch.setattr(wheels, "_lock", lambda step: locks / f"{step}.txt")
    for name, value in {**OFFLINE, "PIP_FIND_LINKS": str(folder)}.items():
        monkeypatch.setenv(name, value)
    return folder


def test_the_wheel_is_the_one_for_awss_machines_whatever_this_one_is(index, tmp_path):
    found = wheels.download("validate", "py312", tmp_path / "kept", os.environ)
    assert [path.name for path in found] == ["tiny_need-1.0-cp312-cp312-manylinux_2_28_x86_64.whl"]


@pytest.mark.parametrize("lock", sorted((STEPS / "requirements").glob("*.txt")), ids=lambda lock: lock.stem)
@pytest.mark.parametrize("version", ["3.11", "3.12"])
def test_each_lock_names_one_version_of_each_package_for_a_python(lock, version):
    lines = wheels.for_python(lock.read_text(), version).splitlines()
    names = [re.split(r"[=\[ ]", line)[0] for line in lines]
    assert len(set(names)) == len(names)
    assert set(re.findall(r"^([A-Za-z0-9._-]+)==\S+ \\$", lock.read_text(), re.M)) <= set(names)
    assert all(" --hash=sha256:" in line and ";" not in line for line in lines)


def test_a_wheel_that_is_another_one_is_refused_with_pips_words(index, tmp_path):
    path = next(index.glob("*manylinux*"))
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(wheels.WheelsError, match=r"validate\.txt cannot be had"):
        wheels.download("validate", "py312", tmp_path / "kept", os.environ)
    with pytest.raises(wheels.WheelsError, match=r"validate\.txt cannot be had"):
        wheels.download("validate", "py311", tmp_path / "other", os.environ)


def test_signs_wheels_brings_them_once_and_upsert_asks_for_them(index, tmp_path, embedded, monkeypatch):
    text = DEFAULT_FILE.read_text().replace("isolated = false", "isolated = true")
    text = text.replace('state = ".signs"', f'state = "{embedded.state}"')
    file = tmp_path / "settings.toml"
    file.write_text(text)
    loaded = settings.load(file)
    cloud = clouds.connect("local", loaded)
    built = definitions.build(loaded, cloud)
    (place,) = (each for each in built.staging.expected if "/validate/" in each)
    with pytest.raises(wheels.WheelsError, match=r"validate/.*there are none: run `signs wheels`"):
        definitions.send(built, loaded, cloud)
    run = CliRunner()
    for new in (1, 0):
        said = run.invoke(app, ["wheels", "--settings", str(file), "--folder", str(tmp_path / "kept")])
        assert said.exit_code == 0, said.output
        assert f"validate: 1 wheels at {place}, {new} of them new" in said.output
    assert len(definitions.send(built, loaded, cloud)) == 2
    file.write_text(text.replace("isolated = true", "isolated = false"))
    assert "no job needs wheels" in run.invoke(app, ["wheels", "--settings", str(file)]).output
