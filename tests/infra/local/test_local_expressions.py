"""Expressions and conditions, without a server."""

from __future__ import annotations

from typing import Any

import pytest

from infra.local.pipelines.expressions import ExpressionError, dependencies, follow, holds, resolve


class Values:
    """A lookup over fixed values."""

    def parameter(self, name: str) -> Any:
        return {"Epochs": 3, "Fast": True, "Prefix": "s3://b/p"}[name]

    def execution(self, name: str) -> Any:
        return f"<{name}>"

    def step(self, name: str) -> Any:
        return {
            "Train": {"ModelArtifacts": {"S3ModelArtifacts": "s3://b/m.tar.gz"}},
            "Prepare": {
                "Outputs": [{"OutputName": "train", "Uri": "s3://b/train"}, {"OutputName": "test", "Uri": "x"}]
            },
        }[name]

    def property_file(self, step: str, name: str) -> Any:
        return {"metrics": {"accuracy": 0.9, "per class": [0.5, 0.7]}, "of": [step, name]}

    def json_file(self, uri: str) -> Any:
        return {"read": {"from": uri}}


def json_get(path: str, reference: str = "Steps.Evaluate.PropertyFiles.Report") -> dict[str, Any]:
    return {"Std:JsonGet": {"PropertyFile": {"Get": reference}, "Path": path}}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("plain", "plain"),
        ({"Get": "Parameters.Epochs"}, 3),
        ({"Get": "Execution.PipelineExecutionId"}, "<PipelineExecutionId>"),
        ({"Get": "Steps.Train.ModelArtifacts.S3ModelArtifacts"}, "s3://b/m.tar.gz"),
        ({"Get": "Steps.Prepare.Outputs['train'].Uri"}, "s3://b/train"),
        ({"Get": 'Steps.Prepare.Outputs["test"].Uri'}, "x"),
        ({"Get": "Steps.Prepare.Outputs[0].OutputName"}, "train"),
        (
            {"Std:Join": {"On": "/", "Values": [{"Get": "Parameters.Prefix"}, {"Get": "Parameters.Epochs"}]}},
            "s3://b/p/3",
        ),
        ({"Std:Join": {"On": "", "Values": [{"Get": "Parameters.Fast"}]}}, "true"),
        (json_get("metrics.accuracy"), 0.9),
        (json_get("$.metrics.accuracy"), 0.9),
        (json_get("$['metrics']['accuracy']"), 0.9),
        (json_get("metrics['per class'][1]"), 0.7),
        (json_get("of"), ["Evaluate", "Report"]),
        (
            {
                "Std:JsonGet": {
                    "S3Uri": {"Std:Join": {"On": "/", "Values": [{"Get": "Parameters.Prefix"}, "results.json"]}},
                    "Path": "read.from",
                }
            },
            "s3://b/p/results.json",
        ),
        ({"a": [{"Get": "Parameters.Epochs"}, {"b": {"Get": "Parameters.Fast"}}]}, {"a": [3, {"b": True}]}),
        ({"Get": "Parameters.Epochs", "more": 1}, {"Get": "Parameters.Epochs", "more": 1}),
    ],
)
def test_what_expressions_stand_for(expression: Any, value: Any) -> None:
    assert resolve(expression, Values()) == value


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ({"Get": "Steps.Train.Nothing"}, "step Train has no 'Nothing'.*there: ModelArtifacts"),
        ({"Get": "Steps.Prepare.Outputs['none']"}, "nothing at 'none'"),
        ({"Get": "Steps.Prepare.Outputs[2]"}, r"nothing at '2'"),
        ({"Get": "Elsewhere.Thing"}, "cannot resolve"),
        ({"Get": "Steps.Train. a"}, "cannot read the path"),
        (json_get("metrics.recall"), "property file Report of step Evaluate has no 'metrics.recall'"),
        (json_get("metrics", "Parameters.Epochs"), "is no property file"),
        ({"Std:JsonGet": {"S3Uri": "s3://b/x.json", "Path": "a"}}, "the JSON file s3://b/x.json has no 'a'"),
    ],
)
def test_what_cannot_be_resolved_is_named(expression: Any, message: str) -> None:
    with pytest.raises(ExpressionError, match=message):
        resolve(expression, Values())


def test_an_empty_path_is_the_value_itself() -> None:
    assert follow({"a": 1}, "", "here") == {"a": 1}


def compare(kind: str, left: Any, right: Any) -> dict[str, Any]:
    return {"Type": kind, "LeftValue": left, "RightValue": right}


YES, NO = compare("Equals", 1, 1), compare("Equals", 1, 2)


@pytest.mark.parametrize(
    ("condition", "outcome"),
    [
        (YES, True),
        (NO, False),
        (compare("Equals", {"Get": "Parameters.Fast"}, True), True),
        (compare("GreaterThan", 2, 1), True),
        (compare("GreaterThan", 1, 1), False),
        (compare("GreaterThanOrEqualTo", json_get("metrics.accuracy"), 0.9), True),
        (compare("GreaterThanOrEqualTo", 0.89, 0.9), False),
        (compare("LessThan", 1, 2), True),
        (compare("LessThan", 2, 2), False),
        (compare("LessThanOrEqualTo", {"Get": "Parameters.Epochs"}, 3), True),
        (compare("LessThanOrEqualTo", 4, 3), False),
        ({"Type": "In", "QueryValue": {"Get": "Parameters.Epochs"}, "Values": [1, 3]}, True),
        ({"Type": "In", "QueryValue": 2, "Values": [1, {"Get": "Parameters.Epochs"}]}, False),
        ({"Type": "Not", "Condition": NO}, True),
        ({"Type": "Not", "Expression": YES}, False),
        ({"Type": "Or", "Conditions": [NO, YES]}, True),
        ({"Type": "Or", "Conditions": [NO, {"Type": "Not", "Condition": YES}]}, False),
    ],
)
def test_both_sides_of_every_condition(condition: dict[str, Any], outcome: bool) -> None:
    assert holds(condition, Values()) is outcome


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (compare("Resembles", 1, 1), "unknown condition type Resembles"),
        (compare("GreaterThan", "0.9", 0.5), "cannot compare '0.9' with 0.5"),
    ],
)
def test_conditions_that_cannot_be_decided(condition: dict[str, Any], message: str) -> None:
    with pytest.raises(ExpressionError, match=message):
        holds(condition, Values())


def test_a_condition_waits_for_what_it_reads_and_not_for_its_branches() -> None:
    step = {
        "Name": "Gate",
        "DependsOn": ["Log"],
        "Arguments": {
            "Conditions": [compare("Equals", json_get("a"), 1)],
            "IfSteps": [{"Arguments": {"x": {"Get": "Steps.Inner.y"}}}],
        },
    }
    assert dependencies(step) == {"Log", "Evaluate"}
