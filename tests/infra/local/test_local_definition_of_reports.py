"""A whole definition as people bring it along, run to its ends: jobs in branches within branches."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from definition_parts import CODE, again, fetched, get, join, json_get, output_of, parameter, processing
from embedded_cloud import Cloud

COUNT = """
import json, os, pathlib, sys
base = pathlib.Path(sys.argv[1])
host = json.loads((base.parent / "config" / "resourceconfig.json").read_text())["current_host"]
counts = {path.stem: len(path.read_text().split()) for path in (base / "events").glob("*.txt")}
(base / "counts" / f"{host}.json").write_text(json.dumps(counts))
"""

GATHER = """
import json, pathlib, sys
base = pathlib.Path(sys.argv[1])
parts = [json.loads(path.read_text()) for path in sorted((base / "counts").glob("*.json"))]
total = {name: count for part in parts for name, count in part.items()}
report = {"instances": len(parts), "segments": [{"name": n, "total": {"events seen": c}} for n, c in total.items()]}
report["segments"].sort(key=lambda segment: segment["name"])
(base / "report" / "nested").mkdir()
(base / "report" / "nested" / "report.json").write_text(json.dumps(report))
"""

PUBLISH = """
import pathlib, sys
(pathlib.Path(sys.argv[1]) / "published" / "where.txt").write_text(" ".join(sys.argv[2:]))
"""


def nightly(cloud: Cloud) -> str:
    folder = (cloud.s3("nightly"), get("Execution.PipelineName"), get("Execution.PipelineExecutionId"))

    def code(name: str) -> dict[str, Any]:
        return fetched("code", cloud.s3(f"code/{name}"), CODE)

    count = processing(
        "Count",
        "count.py",
        ["/opt/ml/processing"],
        [code("count.py"), fetched("events", cloud.s3("events/"), "/opt/ml/processing/events", "ShardedByS3Key")],
        {"counts": join("/", *folder, "counts")},
        instances=get("Parameters.Instances"),
    )
    gather = processing(
        "Gather",
        "gather.py",
        ["/opt/ml/processing"],
        [code("gather.py"), fetched("counts", output_of("Count", "counts"), "/opt/ml/processing/counts")],
        {"report": join("/", *folder, "report")},
        PropertyFiles=[{"PropertyFileName": "Report", "OutputName": "report", "FilePath": "nested/report.json"}],
    )
    publish = processing(
        "Publish",
        "publish.py",
        ["/opt/ml/processing", get("Parameters.Segment"), get("Execution.PipelineName")],
        [code("publish.py")],
        {"published": join("/", *folder, "published")},
    )
    enough = {
        "Conditions": [
            {
                "Type": "GreaterThanOrEqualTo",
                "LeftValue": json_get("Gather", "Report", "segments[1].total['events seen']"),
                "RightValue": get("Parameters.AtLeast"),
            },
            {
                "Type": "Equals",
                "LeftValue": json_get("Gather", "Report", "instances"),
                "RightValue": get("Parameters.Instances"),
            },
        ],
        "IfSteps": [publish],
        "ElseSteps": [
            {
                "Name": "TooFew",
                "Type": "Fail",
                "Arguments": {"ErrorMessage": join("", "fewer than ", get("Parameters.AtLeast"), " events")},
            }
        ],
    }
    wanted = {
        "Conditions": [
            {"Type": "Not", "Condition": {"Type": "Equals", "LeftValue": get("Parameters.Dry"), "RightValue": True}},
            {
                "Type": "Or",
                "Conditions": [
                    {"Type": "In", "QueryValue": get("Parameters.Segment"), "Values": ["retail", "partner"]},
                    {"Type": "LessThan", "LeftValue": get("Parameters.AtLeast"), "RightValue": 0.5},
                ],
            },
        ],
        "IfSteps": [{"Name": "Enough", "Type": "Condition", "Arguments": enough}],
        "ElseSteps": [],
    }
    return json.dumps(
        {
            "Version": "2020-12-01",
            "Metadata": {},
            "Parameters": [
                parameter("Segment", "String", "retail", EnumValues=["retail", "partner", "internal"]),
                parameter("Dry", "Boolean", False),
                parameter("AtLeast", "Float", 2.5),
                parameter("Instances", "Integer", 2),
            ],
            # Listed before what it waits for: order in the file means nothing.
            "Steps": [
                {"Name": "Wanted", "Type": "Condition", "Arguments": wanted, "DependsOn": ["Gather"]},
                gather,
                count,
            ],
        }
    )


@pytest.fixture
def nightly_pipeline(cloud: Cloud) -> str:
    cloud.put(
        {
            "events/internal.txt": "one two",
            "events/retail.txt": "one two three",
            "events/partner.txt": "one",
            "code/count.py": COUNT,
            "code/gather.py": GATHER,
            "code/publish.py": PUBLISH,
        }
    )
    # The segments by name: internal, partner, retail. The second one is judged.
    return cloud.create_pipeline(nightly(cloud))


@pytest.mark.parametrize(
    ("parameters", "status", "branch"),
    [
        ({"AtLeast": "1"}, "Succeeded", {"Wanted": "True", "Enough": "True", "Publish": None}),
        ({"AtLeast": "1.5"}, "Failed", {"Wanted": "True", "Enough": "False", "TooFew": None}),
        ({"AtLeast": ".25", "Segment": "internal"}, "Succeeded", {"Wanted": "True", "Enough": "True", "Publish": None}),
        ({"AtLeast": "1", "Segment": "internal"}, "Succeeded", {"Wanted": "False"}),
        ({"Dry": "true"}, "Succeeded", {"Wanted": "False"}),
    ],
    ids=["published", "too few", "published for another reason", "of no interest", "dry"],
)
def test_a_nightly_report_takes_the_branch_that_its_nested_conditions_say(
    cloud: Cloud, nightly_pipeline: str, parameters: dict[str, str], status: str, branch: dict[str, str | None]
) -> None:
    run = again(cloud, nightly_pipeline, **parameters)
    assert run.status == status
    assert set(run.steps) == {"Count", "Gather", *branch}
    outcomes = {name: step["Metadata"]["Condition"]["Outcome"] for name, step in run.steps.items() if branch.get(name)}
    assert outcomes == {name: outcome for name, outcome in branch.items() if outcome}
    folder = f"nightly/{nightly_pipeline}/{run.arn.rpartition('/')[2]}"
    assert sorted(cloud.keys(f"{folder}/counts/")) == [f"{folder}/counts/algo-{n}.json" for n in (1, 2)]
    if "Publish" in branch:
        published = cloud.get(cloud.s3(f"{folder}/published/where.txt")).decode()
        assert published == f"{parameters.get('Segment', 'retail')} {nightly_pipeline}"
    if "TooFew" in branch:
        assert run.steps["TooFew"]["FailureReason"] == "fewer than 1.5 events"
        assert "TooFew" in run.reason
    chain = [run.steps[name] for name in ("Count", "Gather", *branch)]
    assert all(before["EndTime"] <= after["StartTime"] for before, after in pairwise(chain))


def test_steps_inside_a_branch_may_read_each_other_and_what_came_before(cloud: Cloud) -> None:
    """A chain within a branch, whose last step waits for its first and for one outside."""
    cloud.put({"code/publish.py": PUBLISH})
    code = fetched("code", cloud.s3("code/publish.py"), CODE)

    def say(name: str, *words: Any, **more: Any) -> dict[str, Any]:
        uri = join("/", cloud.s3("said"), get("Execution.PipelineExecutionId"), name)
        return processing(name, "publish.py", ["/opt/ml/processing", *words], [code], {"published": uri}, **more)

    branch = {
        "Conditions": [{"Type": "Equals", "LeftValue": get("Execution.PipelineName"), "RightValue": "none"}],
        "IfSteps": [],
        "ElseSteps": [
            say("Last", output_of("Inner", "published"), output_of("Outer", "published")),
            say("Inner", "inner"),
        ],
    }
    steps = [
        {"Name": "Choice", "Type": "Condition", "Arguments": branch},
        say("Outer", "outer"),
    ]
    run = cloud.run(json.dumps({"Version": "2020-12-01", "Steps": steps}))
    assert run.statuses == dict.fromkeys(("Choice", "Outer", "Inner", "Last"), "Succeeded")
    prefix = cloud.s3(f"said/{run.arn.rpartition('/')[2]}")
    assert cloud.get(f"{prefix}/Last/where.txt").decode() == f"{prefix}/Inner {prefix}/Outer"
