"""The training pipeline: images in, a registered and, if it is approved at once, deployed model out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, get_args

from sagemaker.core.model_metrics import MetricsSource, ModelMetrics
from sagemaker.core.workflow.conditions import (
    ConditionEquals,
    ConditionGreaterThanOrEqualTo,
    ConditionLessThanOrEqualTo,
)
from sagemaker.core.workflow.functions import Join, JsonGet
from sagemaker.core.workflow.parameters import ParameterFloat, ParameterInteger, ParameterString
from sagemaker.core.workflow.properties import PropertyFile
from sagemaker.mlops.workflow.condition_step import ConditionStep
from sagemaker.mlops.workflow.fail_step import FailStep
from sagemaker.mlops.workflow.model_step import ModelStep
from sagemaker.mlops.workflow.pipeline import Pipeline
from sagemaker.mlops.workflow.steps import ProcessingStep, TrainingStep
from sagemaker.serve.model_builder import ModelBuilder

from pipeline import datasets, parameters
from pipeline.clouds import Cloud
from pipeline.components import CACHE, INPUT, OUTPUT, RESOURCES, RETRIES, Shared, Workshop
from pipeline.parameters import APPROVALS
from pipeline.settings import Precision, Preset, Settings

REPORT = PropertyFile(name="EvaluationReport", output_name="evaluation", path="evaluation.json")
CONTENT_TYPES = ["image/png", "image/jpeg", "application/x-npy", "application/json"]


GATE = {
    "MinimumAccuracy": ("accuracy_lower", "at_least", "accuracy (lower end)"),
    "MinimumClassRecall": ("worst_class_recall", "at_least", "worst class recall"),
    "MaximumCalibrationError": ("expected_calibration_error", "at_most", "calibration error"),
    "MinimumCorruptedAccuracy": ("mean_corrupted_accuracy", "at_least", "accuracy on spoilt pictures"),
    "MaximumLatencyRatio": ("latency_ratio", "at_most", "time beside LeNet-5's"),
    "MaximumArchiveMegabytes": ("archive_megabytes", "at_most", "archive in MB"),
    "ChampionSignificance": ("champion_p_value", "at_least", "p-value against the champion"),
}
"""The gate's bounds: parameter, metric in evaluation.json, comparison, words. ``steps/trafficsigns/gate.py`` has them
too, since steps and pipeline import nothing of each other; a contract test holds the two together."""


@dataclass(frozen=True)
class Parameters:
    """The pipeline's parameters; their defaults come from the settings."""

    input_data: ParameterString
    input_images: ParameterString
    declared_images: ParameterInteger
    test_fraction: ParameterFloat
    validation_fraction: ParameterFloat
    seed: ParameterInteger
    preset: ParameterString
    epochs: ParameterInteger
    batch_size: ParameterInteger
    learning_rate: ParameterFloat
    patience: ParameterInteger
    precision: ParameterString
    champion: ParameterString
    bounds: dict[str, ParameterFloat]
    """The gate's, by name."""
    approval: ParameterString
    commit: ParameterString
    processing_instance: ParameterString
    processing_count: ParameterInteger
    training_instance: ParameterString
    training_count: ParameterInteger
    endpoint_instance: ParameterString

    @classmethod
    def of(cls, settings: Settings, cloud: Cloud, no_champion: str) -> Parameters:
        """Declare them; ``no_champion`` is the address that stands for none."""

        def text(name: str, **options: Any) -> ParameterString:
            return ParameterString(name, parameters.default(settings, name), **options)

        def whole(name: str) -> ParameterInteger:
            return ParameterInteger(name, parameters.default(settings, name))

        def number(name: str) -> ParameterFloat:
            return ParameterFloat(name, parameters.default(settings, name))

        return cls(
            input_data=ParameterString("InputData", f"s3://{cloud.bucket}/{settings.name}/data/none"),
            input_images=ParameterString("InputImages", datasets.no_images(settings, cloud)),
            declared_images=whole("DeclaredImages"),
            test_fraction=number("TestFraction"),
            validation_fraction=number("ValidationFraction"),
            seed=whole("Seed"),
            preset=text("Preset", enum_values=list(get_args(Preset))),
            epochs=whole("Epochs"),
            batch_size=whole("BatchSize"),
            learning_rate=number("LearningRate"),
            patience=whole("Patience"),
            precision=text("Precision", enum_values=list(get_args(Precision))),
            champion=ParameterString("Champion", no_champion),
            bounds={name: number(name) for name in GATE},
            approval=ParameterString("ModelApprovalStatus", APPROVALS[0], enum_values=list(APPROVALS)),
            commit=ParameterString("Commit", "unknown"),
            processing_instance=text("ProcessingInstanceType"),
            processing_count=whole("ProcessingInstanceCount"),
            training_instance=text("TrainingInstanceType"),
            training_count=whole("TrainingInstanceCount"),
            endpoint_instance=text("EndpointInstanceType"),
        )

    def all(self) -> list[Any]:
        """Return them in the order in which they are declared."""
        declared = {**vars(self), **self.bounds}
        del declared["bounds"]
        return list(declared.values())

    def deciding(self) -> list[Any]:
        """Return those that have a part in what is measured, but for the bounds, which are arguments already.

        Told of others, Evaluate would run again for nothing.
        """
        others = (
            self.approval,
            self.commit,
            self.processing_instance,
            self.processing_count,
            self.training_instance,
            self.endpoint_instance,
            *self.bounds.values(),
        )
        return [parameter for parameter in self.all() if not any(parameter is other for other in others)]


def build(workshop: Workshop) -> Pipeline:
    """Build the pipeline. Pure: the code that it refers to is staged in ``workshop.staging`` and sent nowhere."""
    # An S3 input cannot be empty: that there is no champion is a file too.
    no_champion = workshop.staging.add("no-champion", {"none.json": b"{}"})
    given = Parameters.of(workshop.settings, workshop.cloud, no_champion)
    preprocess = _preprocess(workshop, given)
    validate = _validate(workshop, given, preprocess)
    train = _train(workshop, given, preprocess, validate)
    evaluate = _evaluate(workshop, given, (preprocess, validate), train)
    register = _register(workshop, given, train, evaluate)
    gate = _gate(given, evaluate, [register, _auto_approved(workshop, given, register)])
    return Pipeline(
        name=workshop.settings.training_pipeline,
        parameters=given.all(),
        steps=[preprocess, validate, train, evaluate, gate],
        sagemaker_session=workshop.session,
    )


def _option(name: str) -> str:
    """Return the script's option for a parameter: ``minimum-accuracy`` for ``MinimumAccuracy``."""
    return re.sub("(?<!^)(?=[A-Z])", "-", name).lower()


def _text(parameter: Any) -> Any:
    return parameter if isinstance(parameter, ParameterString) else parameter.to_string()


def _address(step: ProcessingStep, output: str) -> Any:
    return step.properties.ProcessingOutputConfig.Outputs[output].S3Output.S3Uri


def _preprocess(workshop: Workshop, given: Parameters) -> ProcessingStep:
    arguments = workshop.processing(
        "preprocess.py",
        {
            "input-dir": f"{INPUT}/archive",
            "images-dir": f"{INPUT}/images",
            "output-dir": OUTPUT,
            "resource-config": RESOURCES,
            "test-fraction": given.test_fraction,
            "validation-fraction": given.validation_fraction,
            "seed": given.seed,
        },
        inputs={"archive": given.input_data, "images": Shared(given.input_images)},
        outputs=["train", "validation", "test", "manifest"],
        instance_type=given.processing_instance,
        instance_count=given.processing_count,
    )
    return ProcessingStep("Preprocess", step_args=arguments, cache_config=CACHE, retry_policies=RETRIES)


def _validate(workshop: Workshop, given: Parameters, preprocess: ProcessingStep) -> ProcessingStep:
    arguments = workshop.processing(
        "validate.py",
        {
            "manifest-dir": f"{INPUT}/manifest",
            "output-dir": f"{OUTPUT}/validation",
            "declared-images": given.declared_images,
        },
        inputs={"manifest": _address(preprocess, "manifest")},
        outputs=["validation"],
        instance_type=given.processing_instance,
    )
    return ProcessingStep("ValidateData", step_args=arguments, cache_config=CACHE, retry_policies=RETRIES)


def _train(workshop: Workshop, given: Parameters, preprocess: ProcessingStep, validate: ProcessingStep) -> TrainingStep:
    arguments = workshop.training(
        {
            "preset": given.preset,
            "epochs": given.epochs.to_string(),
            "batch-size": given.batch_size.to_string(),
            "learning-rate": given.learning_rate.to_string(),
            "patience": given.patience.to_string(),
            "precision": given.precision,
            "seed": given.seed.to_string(),
        },
        channels={name: _address(preprocess, name) for name in ("train", "validation")},
        instance_type=given.training_instance,
        instance_count=given.training_count,
    )
    # Nothing flows from validation to training: it only has to have passed before anything is paid for.
    return TrainingStep(
        "TrainLeNet", step_args=arguments, cache_config=CACHE, retry_policies=RETRIES, depends_on=[validate]
    )


def _evaluate(
    workshop: Workshop, given: Parameters, data: tuple[ProcessingStep, ProcessingStep], train: TrainingStep
) -> ProcessingStep:
    preprocess, validate = data
    lineage = {
        "commit": given.commit,
        "data": given.input_data,
        "training job": train.properties.TrainingJobName,
    }
    arguments = workshop.processing(
        "evaluate.py",
        {
            "model-dir": f"{INPUT}/model",
            "test-dir": f"{INPUT}/test",
            "output-dir": f"{OUTPUT}/evaluation",
            "champion-dir": f"{INPUT}/champion",
            "validation-dir": f"{INPUT}/validation",
            **{_option(name): bound for name, bound in given.bounds.items()},
            "lineage": [Join(on="=", values=[name, value]) for name, value in lineage.items()],
            "parameter": [Join(on="=", values=[each.name, _text(each)]) for each in given.deciding()],
        },
        inputs={
            "model": train.properties.ModelArtifacts.S3ModelArtifacts,
            "test": _address(preprocess, "test"),
            "champion": given.champion,
            "validation": _address(validate, "validation"),
        },
        outputs=["evaluation"],
        instance_type=given.processing_instance,
    )
    return ProcessingStep(
        "Evaluate", step_args=arguments, property_files=[REPORT], cache_config=CACHE, retry_policies=RETRIES
    )


def _register(workshop: Workshop, given: Parameters, train: TrainingStep, evaluate: ProcessingStep) -> ModelStep:
    model = ModelBuilder(
        image_uri=workshop.image("inference"),
        s3_model_data_url=train.properties.ModelArtifacts.S3ModelArtifacts,
        role_arn=workshop.cloud.role_arn,
        sagemaker_session=workshop.session,
    )
    evaluation = _address(evaluate, "evaluation")
    arguments = model.register(
        model_package_group_name=workshop.settings.model_package_group,
        content_types=CONTENT_TYPES,
        response_types=["application/json"],
        inference_instances=[given.endpoint_instance],
        transform_instances=[given.endpoint_instance],
        approval_status=given.approval,
        model_metrics=ModelMetrics(
            model_statistics=MetricsSource("application/json", Join(on="/", values=[evaluation, "evaluation.json"]))
        ),
        customer_metadata_properties={
            "Commit": given.commit,
            "Data": given.input_data,
            "Seed": given.seed.to_string(),
            "TrainingJob": train.properties.TrainingJobName,
            "Report": Join(on="/", values=[evaluation, "report.html"]),
            "GoldenImages": Join(on="/", values=[evaluation, "golden"]),
        },
        domain="COMPUTER_VISION",
        task="IMAGE_CLASSIFICATION",
    )
    return ModelStep("RegisterModel", step_args=arguments)


def _auto_approved(workshop: Workshop, given: Parameters, register: ModelStep) -> ConditionStep:
    """Deploy in the chain when the run was started as approved; otherwise a person's approval starts it later."""
    return ConditionStep(
        name="AutoApproved",
        conditions=[ConditionEquals(given.approval, "Approved")],
        if_steps=[workshop.deploy_endpoint(given.processing_instance, given.endpoint_instance)],
        else_steps=[],
        depends_on=[register],
    )


def _gate(given: Parameters, evaluate: ProcessingStep, passed: list[Any]) -> ConditionStep:
    def metric(name: str) -> JsonGet:
        return JsonGet(step_name=evaluate.name, property_file=REPORT, json_path=f"metrics.{name}")

    said: list[Any] = ["The model did not pass the quality gate: "]
    conditions: list[Any] = []
    for name, (key, comparison, words) in GATE.items():
        bound = given.bounds[name]
        at_least = comparison == "at_least"
        said += [words, " ", metric(key), " needs " if at_least else " may be ", bound.to_string(), ", "]
        compare = ConditionGreaterThanOrEqualTo if at_least else ConditionLessThanOrEqualTo
        conditions.append(compare(metric(key), bound))
    report = ["report: ", _address(evaluate, "evaluation"), "/report.html"]
    failed = FailStep(name="QualityGateFailed", error_message=Join(on="", values=[*said, *report]))
    return ConditionStep(
        name="QualityGate",
        conditions=conditions,
        if_steps=passed,
        else_steps=[failed],
    )
