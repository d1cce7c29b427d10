import hashlib
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import entry

STEPS = Path(entry.__file__).parent
NUMPY = f"numpy=={np.__version__}"


def lock(*entries: str) -> str:
    """Write a list as uv does: one entry over several lines, with its hashes and a comment."""
    return "# made by uv\n" + "".join(
        f"{e} \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n    # via x\n" for e in entries
    )


def names(entries: list[str]) -> list[str]:
    return [text.partition(" --hash")[0].strip() for text in entries]


@pytest.mark.parametrize(
    ("line", "met"),
    [
        (NUMPY, True),
        ("numpy==0.0.1", False),
        ("no-such-package==1.0", False),
        ("NumPy" + NUMPY.removeprefix("numpy"), True),
        ("great_expectations==" + metadata.version("great-expectations"), True),
        ("pytest[dev]==" + pytest.__version__, True),
        ('numpy==0.0.1 ; python_version < "3"', True),
        ('numpy==0.0.1 ; python_version >= "3" and sys_platform == "' + sys.platform + '"', False),
        (NUMPY + ' ; python_version >= "3"', True),
        ("--index-url https://example.org/simple", True),
    ],
)
def test_an_entry_is_met_by_exactly_its_version_where_its_marker_applies(line, met):
    assert names(entry.unmet(lock(line))) == ([] if met else [line])


def test_unmet_entries_keep_their_hashes():
    (missing,) = entry.unmet(lock(NUMPY, "no-such-package==1.0"))
    assert missing.split() == ["no-such-package==1.0", "--hash=sha256:aa", "--hash=sha256:bb"]


def test_the_projects_own_locks_are_met_here():
    locks = sorted((STEPS / "requirements").glob("*.txt"))
    assert locks
    for path in locks:
        assert names(entry.unmet(path.read_text())) == []
        assert len(path.read_text().splitlines()) > 10


def channel(folder: Path, script: str, requirements: str | None = None) -> Path:
    """Lay out a step's code channel: the entry script, what it imports, a script, its requirements."""
    (folder / "trafficsigns").mkdir(parents=True)
    for name in ("entry.py", "trafficsigns/__init__.py", "trafficsigns/failures.py"):
        (folder / name).write_bytes((STEPS / name).read_bytes())
    (folder / "step.py").write_text(script)
    if requirements is not None:
        (folder / "requirements.txt").write_text(requirements)
    (folder / "output").mkdir()
    return folder


def start(folder: Path, *arguments: str, python: Path | str = sys.executable, **environment: str):
    """Run the entry script as a job does, in another process."""
    return subprocess.run(
        [str(python), str(folder / "entry.py"), *arguments],
        env={"PATH": "", "SM_OUTPUT_DIR": str(folder / "output"), **environment},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=120,
    )


SHOW = "import sys\nif __name__ == '__main__':\n    print(sys.argv)\n    raise SystemExit(int(sys.argv[1]))\n"


@pytest.mark.parametrize("code", [0, 1, 7])
def test_the_script_gets_its_arguments_and_its_exit_code_is_passed_on(code, tmp_path):
    done = start(channel(tmp_path, SHOW, lock(NUMPY)), "step.py", str(code), "--name", "a b", SAGEMAKER_EMBEDDED="true")
    assert done.returncode == code
    assert done.stdout.strip() == str([str(tmp_path / "step.py"), str(code), "--name", "a b"])


def test_the_script_imports_what_lies_beside_it(tmp_path):
    folder = channel(tmp_path, "from trafficsigns import failures\nimport beside\nprint(beside.WORD)\n")
    (folder / "beside.py").write_text("WORD = 'found'\n")
    assert start(folder, "step.py").stdout == "found\n"


def test_a_defect_of_the_script_keeps_its_traceback(tmp_path):
    done = start(channel(tmp_path, "raise KeyError('x')"), "step.py")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")


def test_at_home_a_missing_requirement_is_one_line_and_nothing_is_installed(tmp_path):
    folder = channel(tmp_path, SHOW, lock("no-such-package==1.0", NUMPY, "other-package==2.0"))
    done = start(folder, "step.py", "0", SAGEMAKER_EMBEDDED="true")
    reason = (
        "step.py needs no-such-package==1.0, other-package==2.0, and this environment does not hold it: "
        "run make install"
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{reason}\n")
    assert (folder / "output" / "message").read_text() == reason


@pytest.mark.parametrize(
    ("arguments", "code", "text"), [((), 2, "usage"), (("absent.py",), 1, "absent.py does not exist")]
)
def test_a_call_that_cannot_run_is_one_line(arguments, code, text, tmp_path):
    done = start(channel(tmp_path, SHOW), *arguments)
    assert done.returncode == code
    assert text in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def container(tmp_path_factory) -> Path:
    """An environment that may be installed into, as AWS's image may: Python and pip, nothing else."""
    folder = tmp_path_factory.mktemp("container")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=120)
    return folder / "bin" / "python"


def wheel(folder: Path) -> str:
    """Write a wheel with one module and return its entry for a lock."""
    path = folder / "tiny_step_need-1.0-py3-none-any.whl"
    info = "tiny_step_need-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_step_need.py", "WORD = 'installed'\n")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-step-need\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"tiny-step-need==1.0 \\\n    --hash=sha256:{digest}\n"


def test_in_a_container_what_is_missing_is_installed_by_hash_before_the_script_runs(container, tmp_path):
    entry_of_lock = wheel(tmp_path)
    script = "import tiny_step_need\nprint(tiny_step_need.WORD)\n"
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    wrong = channel(tmp_path / "wrong", script, entry_of_lock.replace("sha256:", "sha256:0")[:-2] + "\n")
    refused = start(wrong, "step.py", python=container, **pip)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith("pip could not install tiny-step-need==1.0 (exit code 1)")
    assert (wrong / "output" / "message").read_text().startswith("pip could not install tiny-step-need==1.0")
    # In a job without a network they come from a folder, whatever pip is told of an index.
    beside = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "WHEELS_DIR": str(tmp_path), "PIP_RETRIES": "0"}
    done = start(channel(tmp_path / "beside", script, entry_of_lock), "step.py", python=container, **beside)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "installed"), done.stderr
    subprocess.run([container, "-m", "pip", "uninstall", "--quiet", "--yes", "tiny-step-need"], check=True)
    done = start(channel(tmp_path / "right", script, entry_of_lock), "step.py", python=container, **pip)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "installed"
