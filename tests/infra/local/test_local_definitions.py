"""What CreatePipeline refuses, and how parameters are bound; each with its accepted neighbour."""

from __future__ import annotations

import json
from typing import Any

import pytest
from embedded_cloud import condition, definition, fail, step

from infra.local.pipelines.definitions import bind, check_definition
from infra.local.service import ServiceError

PARAMETER = {"Name": "Epochs", "Type": "Integer", "DefaultValue": 1}
REPORT = [{"PropertyFileName": "Report", "OutputName": "out", "FilePath": "r.json"}]


def reading(name: str, reference: str) -> dict[str, Any]:
    return step(name, "true", arguments={"Environment": {"X": {"Get": reference}}})


def equals(left: Any) -> dict[str, Any]:
    return {"Type": "Equals", "LeftValue": left, "RightValue": 1}


def json_get(step_name: str) -> dict[str, Any]:
    return {"Std:JsonGet": {"PropertyFile": {"Get": f"Steps.{step_name}.PropertyFiles.Report"}, "Path": "a"}}


@pytest.mark.parametrize(
    "text",
    [
        definition(),
        definition(step("A", "true"), step("B", "true", DependsOn=["A"])),
        definition(step("A", "true"), reading("B", "Steps.A.ProcessingJobName")),
        definition(reading("A", "Parameters.Epochs"), parameters=[PARAMETER]),
        definition(reading("A", "Execution.PipelineExecutionId")),
        definition(
            step("A", "true", PropertyFiles=REPORT),
            condition("C", [equals(json_get("A"))], [step("Yes", "true", DependsOn=["A"])], [fail("No", "no")]),
        ),
        definition(condition("C", [{"Type": "Not", "Condition": equals(1)}], [condition("D", [], [], [])], [])),
    ],
)
def test_accepted(text: str) -> None:
    check_definition(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no json", "Unable to parse pipeline definition"),
        ("[]", "Unable to parse pipeline definition"),
        ("{}", "Steps"),
        (json.dumps({"Steps": [{"Type": "Fail"}]}), "Name"),
        (json.dumps({"Steps": ["A"]}), "Unable to parse"),
        (json.dumps({"Steps": [{"Name": "A", "Type": "Fail"}]}), "'A': it has no Arguments"),
        (
            json.dumps({"Steps": [{"Name": "A", "Type": "Fail", "Arguments": {}}]}),
            "'A': its Arguments lack ErrorMessage",
        ),
        (definition(step("A", "true"), step("A", "true")), "Duplicate step name 'A'"),
        (definition(condition("C", [], [step("A", "true")], [step("A", "true")])), "Duplicate step name 'A'"),
        (definition({"Name": "T", "Type": "Tuning", "Arguments": {}}), "'T': type Tuning is not supported.*Training"),
        (definition(step("A", "true", DependsOn=["B"])), "'A': refers to step 'B', which does not exist"),
        (definition(reading("A", "Steps.B.X")), "'A': refers to step 'B', which does not exist"),
        (definition(reading("A", "Parameters.Epochs")), "'A': refers to parameter 'Epochs', which is not declared"),
        (definition(reading("A", "Execution.Weather")), "execution variable 'Weather', which does not exist"),
        (definition(reading("A", "Somewhere.X")), "starts with no known name"),
        (definition(step("A", "true"), condition("C", [equals(json_get("A"))], [], [])), "property file 'Report'"),
        (definition(condition("C", [{"Type": "Like"}], [], [])), "condition type Like is not supported.*Equals"),
        (definition(condition("C", [{"Type": "Not", "Condition": {"Type": "Like"}}], [], [])), "condition type Like"),
        (definition(step("A", "true", DependsOn=["B"]), step("B", "true", DependsOn=["A"])), "Cyclic.*: A, B"),
        (definition(step("A", "true", DependsOn=["A"])), "Cyclic dependency between steps: A"),
        (
            definition(condition("C", [equals({"Get": "Steps.Inner.X"})], [step("Inner", "true")], [])),
            "Cyclic dependency between steps: C, Inner",
        ),
    ],
)
def test_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(ServiceError, match=message) as refusal:
        check_definition(text)
    assert refusal.value.code == "ValidationException"


DECLARED = {
    "Parameters": [
        {"Name": "Epochs", "Type": "Integer", "DefaultValue": 5},
        {"Name": "Rate", "Type": "Float", "DefaultValue": 0.1},
        {"Name": "Fast", "Type": "Boolean", "DefaultValue": False},
        {"Name": "Status", "Type": "String", "DefaultValue": "Pending", "EnumValues": ["Pending", "Approved"]},
    ]
}


def given(**values: str) -> list[dict[str, str]]:
    return [{"Name": name, "Value": value} for name, value in values.items()]


def test_defaults_hold_where_nothing_is_given() -> None:
    assert bind(DECLARED, []) == {"Epochs": 5, "Rate": 0.1, "Fast": False, "Status": "Pending"}


def test_texts_become_their_declared_types() -> None:
    bound = bind(DECLARED, given(Epochs="-7", Rate="1e-3", Fast="True", Status="Approved"))
    assert bound == {"Epochs": -7, "Rate": 0.001, "Fast": True, "Status": "Approved"}
    assert type(bound["Epochs"]) is int


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"Epochz": "1"}, r"\[Epochz\] are not declared by the pipeline: .*Epochs"),
        ({"Epochs": "1.5"}, r"\[Epochs\] is '1.5': expected a value of type Integer"),
        ({"Rate": "much"}, "of type Float"),
        ({"Fast": "yes"}, "of type Boolean"),
        ({"Status": "Rejected"}, r"\[Status\] is 'Rejected': expected one of Pending, Approved"),
    ],
)
def test_values_that_do_not_fit_are_refused(values: dict[str, str], message: str) -> None:
    with pytest.raises(ServiceError, match=message):
        bind(DECLARED, given(**values))


def test_a_parameter_without_default_must_be_given() -> None:
    declared = {"Parameters": [{"Name": "Uri", "Type": "String"}]}
    assert bind(declared, given(Uri="s3://b")) == {"Uri": "s3://b"}
    with pytest.raises(ServiceError, match="no value and no default"):
        bind(declared, [])
