"""A whole definition as people bring it along, run to its ends: training, a gate and the registry."""

from __future__ import annotations

import io
import json
import secrets
import tarfile
from typing import Any

import pytest
from definition_parts import CACHE, CODE, RETRIES, again, fetched, get, join, json_get, output_of, parameter, processing
from embedded_cloud import CLUSTER, ROLE, Cloud

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
