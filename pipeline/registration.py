"""What a version in the model registry carries: what it takes and answers, how good it was, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sagemaker.core.drift_check_baselines import DriftCheckBaselines
from sagemaker.core.metadata_properties import MetadataProperties
from sagemaker.core.model_metrics import MetricsSource, ModelMetrics
from sagemaker.core.shapes import ModelPackageModelCard
from sagemaker.core.workflow.execution_variables import ExecutionVariables
from sagemaker.core.workflow.functions import Join, JsonGet
from sagemaker.core.workflow.properties import PropertyFile
from sagemaker.mlops.workflow.model_step import ModelStep
from sagemaker.serve.model_builder import ModelBuilder

from pipeline.components import Workshop

CONTENT_TYPES = [
    "image/png",
    "image/jpeg",
    "application/x-npy",
    "text/csv",
    "application/json",
    "application/jsonlines",
]
"""What the endpoint's handler takes; ``steps/serving/inference.py`` says the same, and a contract test compares."""

RESPONSE_TYPES = ["application/json", "application/jsonlines", "text/csv", "application/x-npy"]
"""What it answers with, the first where the client asks for nothing."""

JSON = "application/json"

EVALUATE = "Evaluate"
"""Name of the step whose property files are read."""

CARD = PropertyFile(name="PackageCard", output_name="evaluation", path="package-card.json")
"""The model card as text, of which the registry's schema is narrower than the one that a card of its own has."""


def register(
    workshop: Workshop,
    archive: Any,
    evaluation: Any,
    validation: Any,
    lineage: Mapping[str, Any],
    approval: Any,
    instance_type: Any,
) -> ModelStep:
    """Return the step that registers an archive with what evaluation wrote about it and validation about its data.

    All three are S3 addresses. ``lineage`` becomes metadata properties, whose values have 256 characters at most.
    Beside it stand the execution, which knows definition and parameters, and what people and the deployment look for.
    """
    model = ModelBuilder(
        image_uri=workshop.image("endpoint"),
        s3_model_data_url=archive,
        role_arn=workshop.cloud.role_arn,
        sagemaker_session=workshop.session,
    )

    files = _files(evaluation, validation)
    arguments = model.register(
        model_package_group_name=workshop.settings.model_package_group,
        content_types=CONTENT_TYPES,
        response_types=RESPONSE_TYPES,
        inference_instances=[instance_type],
        approval_status=approval,
        model_metrics=_metrics(files),
        drift_check_baselines=_baselines(files),
        model_card=_card(),
        metadata_properties=MetadataProperties(
            commit_id=lineage["Commit"], generated_by=ExecutionVariables.PIPELINE_EXECUTION_ARN
        ),
        customer_metadata_properties=_properties(lineage, evaluation),
        domain="COMPUTER_VISION",
        task="IMAGE_CLASSIFICATION",
    )
    return ModelStep("RegisterModel", step_args=arguments)


def _properties(lineage: Mapping[str, Any], evaluation: Any) -> dict[str, Any]:
    def written(name: str) -> Join:
        return Join(on="/", values=[evaluation, name])

    return {
        **lineage,
        "Execution": ExecutionVariables.PIPELINE_EXECUTION_ARN,
        "Report": written("report.html"),
        "ModelCard": written("model-card.md"),
        "GoldenImages": written("golden"),
    }


def _files(evaluation: Any, validation: Any) -> dict[str, MetricsSource]:
    """Return the documents that a version points to, by what they are."""
    places = {
        "evaluation": (evaluation, "evaluation.json"),
        "quality statistics": (evaluation, "model-quality/statistics.json"),
        "quality constraints": (evaluation, "model-quality/constraints.json"),
        "explanations": (evaluation, "explainability/analysis.json"),
        "data statistics": (validation, "data-quality/statistics.json"),
        "data constraints": (validation, "data-quality/constraints.json"),
    }
    return {what: MetricsSource(JSON, Join(on="/", values=list(place))) for what, place in places.items()}


def _metrics(files: Mapping[str, MetricsSource]) -> ModelMetrics:
    """Return how good the version was, as SageMaker Studio shows it."""
    return ModelMetrics(
        model_statistics=files["evaluation"],
        model_constraints=files["quality constraints"],
        model_data_statistics=files["data statistics"],
        model_data_constraints=files["data constraints"],
        explainability=files["explanations"],
    )


def _baselines(files: Mapping[str, MetricsSource]) -> DriftCheckBaselines:
    """Return what later traffic and later models are held against. Signs have no facets, so there is none for bias."""
    return DriftCheckBaselines(
        model_statistics=files["quality statistics"],
        model_constraints=files["quality constraints"],
        model_data_statistics=files["data statistics"],
        model_data_constraints=files["data constraints"],
        explainability_constraints=files["explanations"],
    )


def _card() -> ModelPackageModelCard:
    """Return the model card, whose text only the execution knows: evaluation has written it."""
    content = JsonGet(step_name=EVALUATE, property_file=CARD, json_path="content")
    return ModelPackageModelCard(model_card_content=content, model_card_status="Draft")
