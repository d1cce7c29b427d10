"""The model card against AWS's own schema: cfn-lint brings the one of CloudFormation's AWS::SageMaker::ModelCard."""

import json
import re
from importlib import resources

import botocore.session
import invented
import jsonschema
import pytest
from botocore.validate import ParamValidator

from trafficsigns import card


@pytest.fixture
def evaluation() -> dict:
    return invented.evaluation()


@pytest.fixture(scope="module")
def schema() -> dict:
    folder = resources.files("cfnlint").joinpath("data", "schemas", "resources")
    texts = (path.read_text() for path in folder.iterdir() if path.name.endswith(".json"))
    (found,) = (text for text in texts if '"typeName": "AWS::SageMaker::ModelCard"' in text)
    whole = json.loads(found)
    return {"$ref": "#/definitions/Content", "definitions": whole["definitions"]}


FREE = {"CustomDetails", "Metadata"}
"""Whose keys are the author's own names, not the schema's."""


def as_cloudformation(value, free=False):
    """Spell keys as CloudFormation does: ``metric_groups`` is ``MetricGroups`` there."""
    if isinstance(value, list):
        return [as_cloudformation(each) for each in value]
    if not isinstance(value, dict):
        return value
    if free:
        return value
    spelt = {"".join(word.capitalize() for word in key.split("_")): content for key, content in value.items()}
    return {key: as_cloudformation(content, key in FREE) for key, content in spelt.items()}


def refusals(schema, content):
    return [f"{list(each.path)}: {each.message}" for each in jsonschema.Draft7Validator(schema).iter_errors(content)]


def test_the_card_follows_the_schema(schema, evaluation):
    for made in (card.content(evaluation), card.of_package(evaluation)):
        assert refusals(schema, as_cloudformation(made)) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda made: made.update(Surprise={}),
        lambda made: made["EvaluationDetails"][0].pop("Name"),
        lambda made: made["IntendedUses"].update(RiskRating="Enormous"),
        lambda made: made["EvaluationDetails"][0]["MetricGroups"][0]["MetricData"][0].update(Type="curve"),
        lambda made: made["ModelOverview"].update(ModelDescription="x" * 1025),
    ],
)
def test_the_schema_would_refuse_another_card(schema, evaluation, spoil):
    made = as_cloudformation(card.content(evaluation))
    spoil(made)
    assert refusals(schema, made)


def test_long_names_and_many_classes_still_fit(schema, evaluation):
    """Whatever a data set's folders are called, and however many there are."""
    names = [f"{number} {'long name ' * 30}" for number in range(300)]
    evaluation["classes"] = [
        {"class_id": number, "class_name": name, "support": 2, "precision": 0.5, "recall": 0.5, "f1": 0.5}
        for number, name in enumerate(names)
    ]
    evaluation["confusion_matrix"] = [[int(row == column) for column in range(300)] for row in range(300)]
    evaluation["lineage"] = {"data": "s3://" + "b" * 2000, "training job": "j" * 2000}
    evaluation["training"]["hyperparameters"] = {"empty": "", "long": "y" * 500}
    made = card.content(evaluation)
    assert refusals(schema, as_cloudformation(made)) == []
    assert len(card.text(made)) <= 100_000


def test_sagemakers_api_takes_it(evaluation):
    """Lengths and types by botocore's model; and one line, since the pattern of the content is that of a line."""
    model = botocore.session.get_session().get_service_model("sagemaker")
    text = card.text(card.content(evaluation))
    assert "\n" not in text
    alone = {"ModelCardName": "signs", "Content": text, "ModelCardStatus": "Draft"}
    report = ParamValidator().validate(alone, model.operation_model("CreateModelCard").input_shape)
    assert not report.has_errors(), report.generate_report()
    belonging = {"ModelCard": {"ModelCardContent": card.text(card.of_package(evaluation)), "ModelCardStatus": "Draft"}}
    report = ParamValidator().validate(belonging, model.operation_model("CreateModelPackage").input_shape)
    assert not report.has_errors(), report.generate_report()


def test_a_packages_card_says_nothing_that_its_schema_lacks(evaluation):
    """SageMaker developer guide, "Model package model card schema": the overview has these two keys and no more."""
    assert set(card.of_package(evaluation)["model_overview"]) <= {"model_creator", "model_artifact"}
    rest = {key: value for key, value in card.content(evaluation).items() if key != "model_overview"}
    assert {key: value for key, value in card.of_package(evaluation).items() if key != "model_overview"} == rest


def test_the_numbers_are_the_evaluations(evaluation):
    (details,) = card.content(evaluation)["evaluation_details"]
    groups = {
        group["name"]: {each["name"]: each for each in group["metric_data"]} for group in details["metric_groups"]
    }
    assert {name: each["value"] for name, each in groups["Measures"].items()} == evaluation["metrics"]
    verdicts = {bound["name"]: bound["passed"] for bound in evaluation["gate"]["bounds"]}
    assert {name: each["value"] for name, each in groups["Quality gate"].items()} == verdicts
    assert groups["Quality gate"]["MinimumAccuracy"]["notes"] == "accuracy_lower is 0.9410, must be at least 0.9500"
    recall = groups["Classes"]["recall of the weakest classes"]
    assert recall["value"] == [0.5, 0.85, 0.98]
    assert recall["x_axis_name"][1:] == ["Give way", "Stop"]
    confusions = groups["Classes"]["confusions of the classes with most errors"]
    assert confusions["value"] == [[882, 15, 0], [45, 256, 0], [0, 0, 1]]
    assert groups["Calibration"]["reliability"]["value"] == [[0.97, 0.951]]
    expected = [[0, 0.956], [1, pytest.approx(0.8)], [2, pytest.approx(0.7)], [3, pytest.approx(0.6)]]
    assert groups["Spoilt pictures"]["noise"]["value"] == expected
    assert details["metadata"] == {"sha256_of_test_split": "ab" * 32, "sha256_of_weights": "cd" * 32}
    assert details["evaluation_observation"].endswith("does not pass the quality gate. Not kept: MinimumAccuracy.")


def test_the_training_is_that_of_the_epoch_kept(evaluation):
    job = card.content(evaluation)["training_details"]["training_job_details"]
    metrics = {each["name"]: each["value"] for each in job["user_provided_training_metrics"]}
    assert metrics == {"loss": 1.0, "accuracy": 0.8, "validation_accuracy": 0.9}
    assert job["user_provided_hyper_parameters"] == [{"name": "batch_size", "value": "128"}]
    assert job["training_datasets"] == ["s3://bucket/data/5e1f"]


def test_the_origin_is_told_whole(evaluation):
    told = card.content(evaluation)["additional_information"]["custom_details"]
    assert told == {
        "commit": "3f9a2c1", "data": "s3://bucket/data/5e1f", "training_job": "train-17",
        "Seed": "7", "Preset": "fast", "MinimumAccuracy": "0.95",
        "version_of_python": "3.12.1", "version_of_scipy": "1.16.0",
    }  # fmt: skip


def test_people_read_the_same(evaluation):
    text = card.markdown(evaluation)
    assert "**does not pass** the quality gate" in text
    assert "| Accuracy, lower end of its 95 % interval | 0.9410 | ≥ 0.9500 | **not passed** |" in text
    assert "| accuracy | 0.9510 |" in text
    assert "| images | 1203 |" in text
    assert "| Give way | 301 | 85.0\u202f% | 81.0\u202f% |" in text
    assert "hence unmeasured: No entry." in text
    assert "- warning: no content stands in two splits (16 of 4567 images)" in text
    assert f"| SHA-256 of weights | {'cd' * 32} |" in text
    for value in ("3f9a2c1", "train-17", "3.12.1", "| Preset | fast |"):
        assert value in text
    assert re.search(r"noise 70\.0.%, blur 71\.0.%", text)


def test_names_cannot_write_markdown_or_html(evaluation):
    evaluation["classes"][1]["class_name"] = "a | b\n# <b>*c*"
    text = card.markdown(evaluation)
    assert "| a \\| b \\# \\<b\\>\\*c\\* | 301 |" in text
    assert "<script>" not in text


def test_a_card_can_be_written_of_a_model_that_tells_nothing_of_itself(schema, evaluation):
    evaluation["training"] = {"classes": list(invented.CLASSES)}
    evaluation["lineage"], evaluation["parameters"], evaluation["data"] = {}, {}, None
    assert refusals(schema, as_cloudformation(card.content(evaluation))) == []
    assert "What validation said of the data was not given" in card.markdown(evaluation)
