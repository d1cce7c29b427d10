"""The training pipeline: images in, a registered and, if it is approved at once, deployed model out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, get_args

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

from pipeline import datasets, lineage, parameters, registration
from pipeline.clouds import Cloud
from pipeline.components import CACHE, INPUT, OUTPUT, RESOURCES, RETRIES, Shared, Workshop
from pipeline.gate import GATE
from pipeline.parameters import APPROVALS
from pipeline.settings import Precision, Preset, Settings

REPORT = PropertyFile(name="EvaluationReport", output_name="evaluation", path="evaluation.json")


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
    """The repository's."""
    steps_commit: ParameterString
    """The last one that changed what the steps run."""
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
            commit=ParameterString("Commit", lineage.UNKNOWN),
            steps_commit=ParameterString("StepsCommit", lineage.UNKNOWN),
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
            self.steps_commit,
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
    register = _register(workshop, given, train, evaluate, validate)
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
    # Not the repository's commit: with that among its arguments, the step would run anew at each one.
    known = {
        "steps commit": given.steps_commit,
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
            "lineage": [Join(on="=", values=[name, value]) for name, value in known.items()],
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
        registration.EVALUATE,
        step_args=arguments,
        property_files=[REPORT, registration.CARD],
        cache_config=CACHE,
        retry_policies=RETRIES,
    )


def _register(
    workshop: Workshop,
    given: Parameters,
    train: TrainingStep,
    evaluate: ProcessingStep,
    validate: ProcessingStep,
) -> ModelStep:
    return registration.register(
        workshop,
        train.properties.ModelArtifacts.S3ModelArtifacts,
        _address(evaluate, "evaluation"),
        _address(validate, "validation"),
        {
            "Commit": given.commit,
            "StepsCommit": given.steps_commit,
            "Data": given.input_data,
            "Seed": given.seed.to_string(),
            "TrainingJob": train.properties.TrainingJobName,
        },
        given.approval,
        given.endpoint_instance,
    )


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
