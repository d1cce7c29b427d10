"""Selective execution: which steps run again, and which are taken from an earlier execution. Pure.

Source: developer guide, "Selective execution of pipeline steps"; API reference, SelectiveExecutionConfig.
"""

from __future__ import annotations

from collections.abc import Mapping

from infra.local.pipelines.definitions import all_steps
from infra.local.pipelines.expressions import dependencies
from infra.local.service import refuse
from infra.local.store import Record


def taken_over(definition: Record, selected: set[str], source: Mapping[str, Record] | None) -> list[str]:
    """Return the names of the steps whose results the selected ones need, in the order of the definition.

    ``source`` holds the step records of the execution that results are taken from, by name, or is ``None`` without one.
    Raises ``ServiceError`` (``ValidationException``) for steps that do not exist, for a gap between two selected steps,
    and for results that the source does not have.
    """
    steps = {step["Name"]: step for step in all_steps(definition["Steps"])}
    if unknown := sorted(selected - set(steps)):
        refuse(f"SelectedSteps [{', '.join(unknown)}] are not steps of the pipeline: {', '.join(steps)}.")
    needed = set().union(*(dependencies(steps[name]) for name in selected)) - selected
    for name in sorted(needed):
        if between := sorted(_ancestors(name, steps) & selected):
            refuse(f"Step '{name}' lies between selected steps (it needs '{between[0]}'): select it too.")
        if source is None:
            refuse(f"The selected steps need step '{name}': set SourcePipelineExecutionArn, or select it too.")
        if source.get(name, {}).get("StepStatus") != "Succeeded":
            refuse(f"The selected steps need step '{name}', which did not succeed in the source execution.")
    return [name for name in steps if name in needed]


def _ancestors(name: str, steps: Mapping[str, Record]) -> set[str]:
    direct = dependencies(steps[name])
    return direct.union(*(_ancestors(each, steps) for each in direct))
