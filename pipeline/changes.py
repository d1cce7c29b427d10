"""What one pipeline definition changes in another, step by step, as ``git diff`` would show it. Pure."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BRANCHES = ("IfSteps", "ElseSteps")


@dataclass(frozen=True)
class Change:
    """One part of a definition that is added, changed or removed."""

    part: str
    """``step TrainLeNet``, ``parameter Epochs``, or the name of another member of the definition."""
    kind: str
    """``added``, ``changed`` or ``removed``."""
    diff: tuple[str, ...]
    """The lines of a unified diff without its heading."""


def compare(before: str | None, after: str) -> list[Change]:
    """Return what changes from one definition (JSON; ``None`` where there is no pipeline yet) to another.

    In the order of the later one; what it lacks comes last. A step inside the branch of a condition is a part of its
    own: the condition shows only its name. Raises ``ValueError`` for what is no definition.
    """
    if before is None:
        return [Change("the whole pipeline", "added", ())]
    old, new = (dict(_parts(_read(definition))) for definition in (before, after))
    changed = (
        _change(name, old.get(name), new.get(name)) for name in [*new, *(name for name in old if name not in new)]
    )
    return [change for change in changed if change is not None]


def _read(text: str) -> Mapping[str, Any]:
    content = json.loads(text)
    steps = content.get("Steps") if isinstance(content, dict) else None
    if not isinstance(steps, list) or not all(isinstance(step, dict) and "Name" in step for step in steps):
        raise ValueError("it has no list of named Steps")
    return dict(content)


def _parts(definition: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in definition.items():
        if name == "Parameters":
            yield from ((f"parameter {each['Name']}", each) for each in value)
        elif name == "Steps":
            yield from ((f"step {each['Name']}", each) for each in _flat(value))
        else:
            yield name, value


def _flat(steps: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for step in steps:
        inner = {key: value for key, value in step.get("Arguments", {}).items() if key in BRANCHES}
        if not inner or step["Type"] != "Condition":
            yield step
            continue
        names = {key: [each["Name"] for each in value] for key, value in inner.items()}
        yield {**step, "Arguments": {**step["Arguments"], **names}}
        for branch in inner.values():
            yield from _flat(branch)


def _change(name: str, old: Any, new: Any) -> Change | None:
    if old == new:
        return None
    lines = difflib.unified_diff(_lines(old), _lines(new), lineterm="", n=2)
    kind = "added" if old is None else "removed" if new is None else "changed"
    # The first two lines name files, of which there are none.
    return Change(name, kind, tuple(list(lines)[2:]))


def _lines(value: Any) -> list[str]:
    return [] if value is None else json.dumps(value, indent=2).splitlines()


def text(pipeline: str, changes: Sequence[Change]) -> str:
    """Lay changes out for a terminal."""
    if not changes:
        return f"{pipeline}: nothing would change"
    told = [line for each in changes for line in (f"  {each.part} {each.kind}", *(f"    {line}" for line in each.diff))]
    return "\n".join([f"{pipeline}:", *told])


def markdown(pipeline: str, changes: Sequence[Change]) -> str:
    """Lay changes out as Markdown, for a job's summary or a comment."""
    sections = [_section(change) for change in changes] or ["Nothing changes."]
    return "\n\n".join([f"### {pipeline}", *sections]) + "\n"


def _section(change: Change) -> str:
    title = f"**{change.part}** {change.kind}"
    # Four ticks, since a definition may hold three.
    return "\n".join([title, "", "````diff", *change.diff, "````"]) if change.diff else title
