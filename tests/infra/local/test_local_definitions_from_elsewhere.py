"""Whole definitions of the kind that people bring along, as the SageMaker SDK writes them, run to their ends."""

from __future__ import annotations

import io
import json
import secrets
import tarfile
from itertools import pairwise
from typing import Any

import pytest
from embedded_cloud import CLUSTER, ROLE, Cloud, Run

CODE = "/opt/ml/processing/input/code"
RETRIES = [
    {
        "BackoffRate": 1.5,
        "IntervalSeconds": 2,
        "ExpireAfterMin": 5,
        "ExceptionType": ["SageMaker.RESOURCE_LIMIT", "SageMaker.JOB_INTERNAL_ERROR", "SageMaker.CAPACITY_ERROR"],
    },
    {"BackoffRate": 2.0, "IntervalSeconds": 1, "MaxAttempts": 3, "ExceptionType": ["Step.THROTTLING"]},
]
CACHE = {"Enabled": True, "ExpireAfter": "P30d"}


def get(reference: str) -> dict[str, Any]:
    return {"Get": reference}


def join(on: str, *values: Any) -> dict[str, Any]:
    return {"Std:Join": {"On": on, "Values": list(values)}}


def json_get(step: str, file: str, path: str) -> dict[str, Any]:
    return {"Std:JsonGet": {"PropertyFile": get(f"Steps.{step}.PropertyFiles.{file}"), "Path": path}}


def output_of(step: str, name: str) -> dict[str, Any]:
    return get(f"Steps.{step}.ProcessingOutputConfig.Outputs['{name}'].S3Output.S3Uri")


def parameter(name: str, kind: str, default: Any, **more: Any) -> dict[str, Any]:
    return {"Name": name, "Type": kind, "DefaultValue": default, **more}


def fetched(name: str, uri: Any, path: str, distribution: str = "FullyReplicated") -> dict[str, Any]:
    """A processing input as the SDK writes it, with all that it fills in."""
    source = {
        "S3Uri": uri,
        "LocalPath": path,
        "S3DataType": "S3Prefix",
        "S3InputMode": "File",
        "S3DataDistributionType": distribution,
        "S3CompressionType": "None",
    }
    return {"InputName": name, "AppManaged": False, "S3Input": source}


def processing(
    name: str,
    script: str,
    arguments: list[Any],
    inputs: list[dict[str, Any]],
    outputs: dict[str, Any],
    instances: Any = 1,
    **more: Any,
) -> dict[str, Any]:
    """A step as a ScriptProcessor makes it; its code is one more input, and its folders are arguments."""
    stored = [
        {
            "OutputName": output,
            "AppManaged": False,
            "S3Output": {"S3Uri": uri, "LocalPath": f"/opt/ml/processing/{output}", "S3UploadMode": "EndOfJob"},
        }
        for output, uri in outputs.items()
    ]
    request = {
        "ProcessingResources": {"ClusterConfig": {**CLUSTER, "InstanceCount": instances}},
        "AppSpecification": {
            "ImageUri": "any",
            "ContainerEntrypoint": ["python3", f"{CODE}/{script}"],
            "ContainerArguments": arguments,
        },
        "ProcessingInputs": inputs,
        "ProcessingOutputConfig": {"Outputs": stored},
        "StoppingCondition": {"MaxRuntimeInSeconds": 120},
        "RoleArn": ROLE,
    }
    return {"Name": name, "Type": "Processing", "Arguments": request, **more}


# Abalone: the example that AWS's own documentation begins with.

PREPROCESSING = """
import argparse, pathlib, boto3
parser = argparse.ArgumentParser()
parser.add_argument("--input-data")
parser.add_argument("--base-dir", type=pathlib.Path)
args = parser.parse_args()
bucket, _, key = args.input_data.removeprefix("s3://").partition("/")
lines = boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read().decode().split()
for name, rows in {"train": lines[:6], "validation": lines[6:8], "test": lines[8:]}.items():
    (args.base_dir / name / f"{name}.csv").write_text("\\n".join(rows))
"""

TRAINING = """
import json, pathlib, sys
ml = pathlib.Path(sys.argv[1])
rounds = int(json.loads((ml / "input/config/hyperparameters.json").read_text())["num_round"])
rows = [tuple(map(float, line.split(","))) for line in (ml / "input/data/train/train.csv").read_text().split()]
slope = 0.0
for _ in range(rounds):
    slope -= 0.01 * sum((slope * x - y) * x for x, y in rows) / len(rows)
held_out = [tuple(map(float, l.split(","))) for l in (ml / "input/data/validation/validation.csv").read_text().split()]
print(f"[{rounds}] validation-rmse:{(sum((slope * x - y) ** 2 for x, y in held_out) / len(held_out)) ** 0.5:.6f}")
(ml / "model" / "model.json").write_text(json.dumps({"slope": slope}))
"""

EVALUATION = """
import json, pathlib, sys, tarfile
base = pathlib.Path(sys.argv[1])
with tarfile.open(base / "model" / "model.tar.gz") as archive:
    slope = json.load(archive.extractfile("model.json"))["slope"]
rows = [tuple(map(float, line.split(","))) for line in (base / "test" / "test.csv").read_text().split()]
errors = [slope * x - y for x, y in rows]
mse = {"value": sum(error**2 for error in errors) / len(errors), "standard_deviation": 0.0}
(base / "evaluation" / "evaluation.json").write_text(json.dumps({"regression_metrics": {"mse": mse}}))
"""


def channel(name: str, uri: Any) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    content = {} if name == "code" else {"ContentType": "text/csv"}
    return {"ChannelName": name, **content, "DataSource": {"S3DataSource": source}}


def training(cloud: Cloud) -> dict[str, Any]:
    request = {
        "AlgorithmSpecification": {
            "TrainingImage": "any",
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["python3", "/opt/ml/input/data/code/train.py"],
            "ContainerArguments": ["/opt/ml"],
            "MetricDefinitions": [{"Name": "validation:rmse", "Regex": r"validation-rmse:([0-9.]+)"}],
        },
        "OutputDataConfig": {"S3OutputPath": cloud.s3("AbaloneTrain")},
        "StoppingCondition": {"MaxRuntimeInSeconds": 120},
        "ResourceConfig": {**CLUSTER, "InstanceType": get("Parameters.TrainingInstanceType")},
        "RoleArn": ROLE,
        "InputDataConfig": [
            channel("train", output_of("PreprocessAbaloneData", "train")),
            channel("validation", output_of("PreprocessAbaloneData", "validation")),
            channel("code", cloud.s3("code/training")),
        ],
        # Hyperparameters are texts, so the SDK joins a number out of one value.
        "HyperParameters": {"objective": "reg:linear", "num_round": join("", get("Parameters.Rounds"))},
        "DebugHookConfig": {"S3OutputPath": cloud.s3("AbaloneTrain"), "CollectionConfigurations": []},
    }
    return {
        "Name": "TrainAbaloneModel",
        "Type": "Training",
        "Arguments": request,
        "CacheConfig": CACHE,
        "RetryPolicies": RETRIES,
    }


def register(group: str) -> dict[str, Any]:
    statistics = {
        "ContentType": "application/json",
        "S3Uri": join("/", output_of("EvaluateAbaloneModel", "evaluation"), "evaluation.json"),
    }
    model = get("Steps.TrainAbaloneModel.ModelArtifacts.S3ModelArtifacts")
    request = {
        "ModelPackageGroupName": group,
        "ModelMetrics": {"ModelQuality": {"Statistics": statistics}, "Bias": {}, "Explainability": {}},
        "InferenceSpecification": {
            "Containers": [{"Image": "any", "ModelDataUrl": model}],
            "SupportedContentTypes": ["text/csv"],
            "SupportedResponseMIMETypes": ["text/csv"],
            "SupportedRealtimeInferenceInstanceTypes": ["ml.t2.medium", "ml.m5.large"],
            "SupportedTransformInstanceTypes": ["ml.m5.large"],
        },
        "ModelApprovalStatus": get("Parameters.ModelApprovalStatus"),
    }
    return {"Name": "AbaloneRegisterModel-RegisterModel", "Type": "RegisterModel", "Arguments": request}


def abalone(cloud: Cloud, group: str) -> str:
    output = [cloud.s3("AbaloneProcess"), get("Execution.PipelineExecutionId")]
    preprocess = processing(
        "PreprocessAbaloneData",
        "preprocessing.py",
        ["--input-data", get("Parameters.InputData"), "--base-dir", "/opt/ml/processing"],
        [fetched("code", cloud.s3("code/preprocessing.py"), CODE)],
        {name: join("/", *output, name) for name in ("train", "validation", "test")},
        instances=get("Parameters.ProcessingInstanceCount"),
        CacheConfig=CACHE,
    )
    evaluate = processing(
        "EvaluateAbaloneModel",
        "evaluation.py",
        ["/opt/ml/processing"],
        [
            fetched(
                "input-1",
                get("Steps.TrainAbaloneModel.ModelArtifacts.S3ModelArtifacts"),
                "/opt/ml/processing/model",
            ),
            fetched("input-2", output_of("PreprocessAbaloneData", "test"), "/opt/ml/processing/test"),
            fetched("code", cloud.s3("code/evaluation.py"), CODE),
        ],
        {"evaluation": join("/", *output, "evaluation")},
        PropertyFiles=[
            {"PropertyFileName": "EvaluationReport", "OutputName": "evaluation", "FilePath": "evaluation.json"}
        ],
    )
    create = {
        "ExecutionRoleArn": ROLE,
        "PrimaryContainer": {
            "Image": "any",
            "Environment": {},
            "ModelDataUrl": get("Steps.TrainAbaloneModel.ModelArtifacts.S3ModelArtifacts"),
        },
    }
    threshold = get("Parameters.MseThreshold")
    check = {
        "Conditions": [
            {
                "Type": "LessThanOrEqualTo",
                "LeftValue": json_get("EvaluateAbaloneModel", "EvaluationReport", "regression_metrics.mse.value"),
                "RightValue": threshold,
            }
        ],
        "IfSteps": [
            register(group),
            {"Name": "AbaloneCreateModel-CreateModel", "Type": "Model", "Arguments": create},
        ],
        "ElseSteps": [
            {
                "Name": "AbaloneMSEFail",
                "Type": "Fail",
                "Arguments": {"ErrorMessage": join(" ", "Execution failed due to MSE >", threshold)},
            }
        ],
    }
    return json.dumps(
        {
            "Version": "2020-12-01",
            "Metadata": {},
            "Parameters": [
                parameter("ProcessingInstanceCount", "Integer", 1),
                parameter("TrainingInstanceType", "String", "ml.m5.xlarge"),
                parameter("ModelApprovalStatus", "String", "PendingManualApproval"),
                parameter("InputData", "String", cloud.s3("abalone.csv")),
                parameter("Rounds", "Integer", 50),
                parameter("MseThreshold", "Float", 6.0),
            ],
            "PipelineExperimentConfig": {
                "ExperimentName": get("Execution.PipelineName"),
                "TrialName": get("Execution.PipelineExecutionId"),
            },
            "Steps": [
                preprocess,
                training(cloud),
                evaluate,
                {"Name": "CheckMSEAbaloneEvaluation", "Type": "Condition", "Arguments": check},
            ],
        }
    )


def again(cloud: Cloud, name: str, **parameters: Any) -> Run:
    values = [{"Name": key, "Value": str(value)} for key, value in parameters.items()]
    started = cloud.sagemaker.start_pipeline_execution(PipelineName=name, PipelineParameters=values)
    return cloud.ended(started["PipelineExecutionArn"])


def test_abalone_is_trained_evaluated_and_registered_or_fails_by_its_own_words(cloud: Cloud) -> None:
    group = f"abalone-{secrets.token_hex(4)}"
    cloud.sagemaker.create_model_package_group(ModelPackageGroupName=group)
    cloud.put(
        {
            "abalone.csv": "\n".join(f"{x},{2 * x}" for x in range(1, 11)),
            "code/preprocessing.py": PREPROCESSING,
            "code/training/train.py": TRAINING,
            "code/evaluation.py": EVALUATION,
        }
    )
    name = cloud.create_pipeline(abalone(cloud, group))
    first = again(cloud, name, ModelApprovalStatus="Approved")
    assert (first.status, first.reason) == ("Succeeded", "")
    assert set(first.statuses.values()) == {"Succeeded"}
    assert set(first.steps) == {
        "PreprocessAbaloneData",
        "TrainAbaloneModel",
        "EvaluateAbaloneModel",
        "CheckMSEAbaloneEvaluation",
        "AbaloneRegisterModel-RegisterModel",
        "AbaloneCreateModel-CreateModel",
    }
    assert first.steps["CheckMSEAbaloneEvaluation"]["Metadata"]["Condition"]["Outcome"] == "True"

    trained = cloud.sagemaker.describe_training_job(
        TrainingJobName=first.steps["TrainAbaloneModel"]["Metadata"]["TrainingJob"]["Arn"].rpartition("/")[2]
    )
    assert trained["HyperParameters"]["num_round"] == "50"
    assert trained["ResourceConfig"]["InstanceType"] == "ml.m5.xlarge"
    (metric,) = trained["FinalMetricDataList"]
    assert metric["MetricName"] == "validation:rmse"
    model = trained["ModelArtifacts"]["S3ModelArtifacts"]
    with tarfile.open(fileobj=io.BytesIO(cloud.get(model))) as archive:
        learned = archive.extractfile("model.json")
        assert learned is not None
        assert json.load(learned)["slope"] == pytest.approx(2, abs=0.01)

    package = cloud.sagemaker.describe_model_package(
        ModelPackageName=first.steps["AbaloneRegisterModel-RegisterModel"]["Metadata"]["RegisterModel"]["Arn"]
    )
    assert (package["ModelPackageGroupName"], package["ModelApprovalStatus"]) == (group, "Approved")
    assert package["InferenceSpecification"]["Containers"][0]["ModelDataUrl"] == model
    report = package["ModelMetrics"]["ModelQuality"]["Statistics"]["S3Uri"]
    assert report == cloud.s3(f"AbaloneProcess/{first.arn.rpartition('/')[2]}/evaluation/evaluation.json")
    assert json.loads(cloud.get(report))["regression_metrics"]["mse"]["value"] < 6

    second = again(cloud, name, MseThreshold="1e-12")
    assert second.status == "Failed"
    assert second.statuses == {
        "PreprocessAbaloneData": "Succeeded",
        "TrainAbaloneModel": "Succeeded",
        "EvaluateAbaloneModel": "Succeeded",
        "CheckMSEAbaloneEvaluation": "Succeeded",
        "AbaloneMSEFail": "Failed",
    }
    assert second.steps["AbaloneMSEFail"]["FailureReason"] == "Execution failed due to MSE > 1e-12"
    hits = {key: step.get("CacheHitResult", {}).get("SourcePipelineExecutionArn") for key, step in second.steps.items()}
    assert hits == {
        "PreprocessAbaloneData": first.arn,
        "TrainAbaloneModel": first.arn,
        "EvaluateAbaloneModel": None,
        "CheckMSEAbaloneEvaluation": None,
        "AbaloneMSEFail": None,
    }

    third = again(cloud, name, Rounds=51)
    assert "CacheHitResult" in third.steps["PreprocessAbaloneData"]
    assert "CacheHitResult" not in third.steps["TrainAbaloneModel"]
    packages = cloud.sagemaker.list_model_packages(ModelPackageGroupName=group)["ModelPackageSummaryList"]
    assert [package["ModelApprovalStatus"] for package in packages] == ["PendingManualApproval", "Approved"]


# A nightly report: sharded over instances, gathered, and published only where nested conditions let it.

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
