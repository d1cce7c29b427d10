"""Which steps a selective execution takes over, without a server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from embedded_cloud import condition, definition, step

from infra.local.pipelines.selection import taken_over
from infra.local.service import ServiceError

CHAIN: dict[str, Any] = json.loads(
    definition(
        step("Read", "true"),
        step("Train", "true", DependsOn=["Read"]),
        condition("Gate", [], [step("Register", "true", DependsOn=["Train"])], [step("Warn", "true")]),
        step("Last", "true", DependsOn=["Train", "Gate"]),
    )
)


def ended(**statuses: str) -> dict[str, dict[str, Any]]:
    return {name: {"StepStatus": status} for name, status in statuses.items()}


@pytest.mark.parametrize(
    ("selected", "taken"),
    [
        ({"Read"}, []),
        ({"Train"}, ["Read"]),
        ({"Read", "Train"}, []),
        ({"Register"}, ["Train"]),
        ({"Last"}, ["Train", "Gate"]),
        ({"Register", "Warn"}, ["Train"]),
    ],
)
def test_what_the_selected_steps_need_is_taken_over(selected: set[str], taken: list[str]) -> None:
    source = ended(Read="Succeeded", Train="Succeeded", Gate="Succeeded")
    assert taken_over(CHAIN, selected, source) == taken


@pytest.mark.parametrize(
    ("selected", "source", "message"),
    [
        ({"Reed"}, {}, r"\[Reed\] are not steps of the pipeline: Read, Train, Gate, Register, Warn, Last"),
        ({"Train"}, None, "need step 'Read': set SourcePipelineExecutionArn"),
        ({"Train"}, ended(Read="Failed"), "'Read', which did not succeed"),
        ({"Train"}, ended(), "'Read', which did not succeed"),
        ({"Read", "Last"}, ended(Train="Succeeded", Gate="Succeeded"), "'Train' lies between.*needs 'Read'"),
    ],
)
def test_selections_that_cannot_be_run_are_refused(
    selected: set[str], source: dict[str, Any] | None, message: str
) -> None:
    with pytest.raises(ServiceError, match=message):
        taken_over(CHAIN, selected, source)
