"""What the documents name exists, and what must never be committed is not there."""

import re
import subprocess

import pytest
from typer.main import get_command

from pipeline.cli import app
from pipeline.settings import ROOT

README = (ROOT / "README.md").read_text()
MAKE_TARGETS = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
PEERS = sorted([*ROOT.glob("benchmarks/requirements/*.txt"), ROOT / "requirements" / "checkov.txt"])
"""Of tools that live in an environment of their own: those that benchmarks compare with, and one linter."""
LOCKS = sorted({*ROOT.glob("requirements/*.txt"), *ROOT.glob("steps/requirements/*.txt")} - set(PEERS))


def commands(command, words=()):
    if hasattr(command, "commands"):
        for name, member in command.commands.items():
            yield from commands(member, (*words, name))
    else:
        yield " ".join(words), command


SIGNS = dict(commands(get_command(app)))


@pytest.mark.parametrize("name", SIGNS)
def test_every_command_and_option_says_what_it_does(name):
    command = SIGNS[name]
    assert command.help
    assert [parameter.name for parameter in command.params if not getattr(parameter, "help", None)] == []


def named_commands():
    for text in re.findall(r"`(signs [a-z][^`]*)`", README):
        words = re.sub(r"\[.*?\]", "", text).split()[1:]
        heads = [word.replace("\\|", "|") for word in words if re.fullmatch(r"[a-z\\|]+", word)]
        for choice in heads[-1].split("|") if len(heads) > 1 else [None]:
            yield heads[0] if choice is None else f"{heads[0]} {choice}"


@pytest.mark.parametrize("command", sorted(set(named_commands())))
def test_every_command_that_the_readme_names_exists(command):
    assert command in SIGNS


def test_every_make_target_that_the_readme_names_exists():
    assert set(re.findall(r"\bmake ([a-z-]+)", README)) <= MAKE_TARGETS


def test_ci_calls_nothing_that_the_readme_does_not_name():
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    called = {line for line in lines if line and not line.startswith(("#", "set ", "cd "))}
    assert called == {line for line in called if line in README}
    assert "make lint" in called


@pytest.mark.parametrize("lock", [*LOCKS, *PEERS], ids=lambda path: path.name)
def test_a_lock_pins_every_file_by_hash_and_names_no_index(lock):
    text = lock.read_text()
    assert "://" not in text
    entries = re.findall(r"^[a-z0-9].*==.*(?:\n    --hash=.*)*", text.lower(), re.MULTILINE)
    assert entries
    assert all("--hash=sha256:" in entry for entry in entries)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_lock_agrees_with_the_runtimes(lock):
    def versions(path):
        return set(re.findall(r"^([a-z0-9-]+==[^ ;\\]+)", path.read_text(), re.MULTILINE))

    runtime = versions(ROOT / "requirements" / "runtime.txt")
    names = {pin.partition("==")[0] for pin in runtime}
    assert {pin for pin in versions(lock) if pin.partition("==")[0] in names} <= runtime


def test_no_data_is_tracked():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    assert [name for name in tracked if re.search(r"\.(ppm|zip|tfrecord|p|pickle|parquet)$", name)] == []
