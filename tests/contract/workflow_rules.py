"""What no linter of workflows looks at, as questions to one workflow; each answers with what is wrong."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import yaml
from typer.main import get_command

from pipeline.cli import app
from pipeline.settings import ROOT

WORKFLOWS = {path.stem: path for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))}

ACTIONS = {
    "actions/checkout": ("v7.0.1", "3d3c42e5aac5ba805825da76410c181273ba90b1"),
    "actions/setup-python": ("v7.0.0", "5fda3b95a4ea91299a34e894583c3862153e4b97"),
    "aws-actions/configure-aws-credentials": ("v6.2.3", "e6de054238d6b7531b4efff3b6587d9aade6a06c"),
    "actions/upload-artifact": ("v7.0.0", "bbbca2ddaa5d8feaa63e36b76fdaad77386f024f"),
}
"""Read from the actions' own tags. That a commit is named a linter sees, but not that it is no commit of the action."""

OIDC = "aws-actions/configure-aws-credentials"
MAKE = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))


def read(text: str) -> dict[str, Any]:
    """Parse a workflow; YAML takes the bare key ``on`` for a truth."""
    parsed: dict[Any, Any] = yaml.safe_load(text)
    return {("on" if key is True else str(key)): value for key, value in parsed.items()}


def steps(workflow: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for job in workflow["jobs"].values():
        yield from job["steps"]


def pins(text: str) -> Iterator[str]:
    """Each action is one of the table, at its commit, with its version beside it."""
    for line in re.findall(r"uses:\s*(.*)", text):
        found = re.fullmatch(r"([\w/-]+)@(\w+) # (\S+)", line)
        if found is None or ACTIONS.get(found[1]) != (found[3], found[2]):
            yield f"{line} is not in the table"


def rights(text: str) -> Iterator[str]:
    """Nothing is granted but by a job; ``id-token`` exactly where a role is taken on, which no pull request does."""
    workflow = read(text)
    if workflow.get("permissions") != {}:
        yield "the workflow grants permissions to all of its jobs"
    for name, job in workflow["jobs"].items():
        takes_role = any(step.get("uses", "").startswith(OIDC) for step in job["steps"])
        granted = job.get("permissions", {})
        if granted != {"contents": "read", **({"id-token": "write"} if takes_role else {})}:
            yield f"job {name}: permissions {granted}"
        if takes_role and {"pull_request", "pull_request_target"} & set(workflow["on"]):
            yield f"job {name}: a pull request takes a role on"
        if takes_role and not re.search(r"vars\.AWS_\w+_ROLE_ARN != '' && github\.ref == 'refs/heads/main'", job["if"]):
            yield f"job {name}: runs in forks, or on other branches"


def bounds(text: str) -> Iterator[str]:
    """Every job ends, on a machine that is named, and no two runs of a workflow cross."""
    workflow = read(text)
    if "group" not in workflow.get("concurrency", {}):
        yield "no concurrency group"
    for name, job in workflow["jobs"].items():
        if not 0 < job.get("timeout-minutes", 0) < 360:
            yield f"job {name}: no timeout"
        if job["runs-on"] != "ubuntu-24.04":
            yield f"job {name}: runs on {job['runs-on']}"


def keys(text: str) -> Iterator[str]:
    """No long-lived key of AWS, written down or kept as a secret; no secret at all."""
    yield from re.findall(r"(?:AKIA|ASIA)[A-Z0-9]{16}", text)
    yield from re.findall(r"(?i)aws[_-](?:access[_-]key[_-]id|secret[_-]access[_-]key|session[_-]token)\b.*", text)
    yield from re.findall(r"\bsecrets\..*", text)


def commands(text: str) -> Iterator[str]:
    """Every ``make`` target and ``signs`` command exists, and its options are what the command line takes."""
    for words in called(text):
        if words[0] == "make" and not set(words[1:]) <= MAKE:
            yield f"{' '.join(words)}: no such target"
        if words[0] == "signs" and (problem := _refused(words[1:])):
            yield f"{' '.join(words)}: {problem}"


def called(text: str) -> Iterator[list[str]]:
    """Yield the calls of ``make`` and ``signs`` in a workflow's shell commands; variables stand for a number."""
    script = "\n".join(step["run"] for step in steps(read(text)) if "run" in step).replace("\\\n", " ")
    script = re.sub(r'"[^" ]*/python" -m pipeline.cli', ".venv/bin/signs", script)
    # Files that a command reads are there when it runs.
    script = re.sub(r'"\$[A-Z_]+/[^"]*"', str(Path(__file__)), script)
    for variable, first in re.findall(r"for (\w+) in (\w+)", script):
        script = script.replace(f'"${variable}"', first)
    script = re.sub(r'"?\$\w+"?', "1", script)
    for found in re.finditer(r"(?<![\w/.-])(?:make|\.venv/bin/signs)\s[^\n|>)&;]*", script):
        words = shlex.split(found[0])
        yield words if words[0] == "make" else ["signs", *words[1:]]


def _refused(words: list[str]) -> str:
    command: click.Command = get_command(app)  # type: ignore[assignment]  # typer carries a click of its own
    context = None
    try:
        while True:
            context = command.make_context(words[0] if words else "signs", list(words), parent=context)
            if not hasattr(command, "resolve_command"):
                return ""
            _, inner, words = command.resolve_command(context, [*context._protected_args, *context.args])
            command = inner
    except Exception as error:  # noqa: BLE001 - typer's copy of click has exceptions of its own
        return str(getattr(error, "message", error)) or type(error).__name__


RULES: tuple[Callable[[str], Iterator[str]], ...] = (pins, rights, bounds, keys, commands)
