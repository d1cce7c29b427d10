"""The deployment pipeline: one step that makes the endpoint serve the newest approved version.

A person's approval in the registry starts it; the training pipeline's own deploy step is the same script.
"""

from __future__ import annotations

from sagemaker.core.workflow.parameters import ParameterString
from sagemaker.mlops.workflow.pipeline import Pipeline

from pipeline import parameters
from pipeline.components import Workshop


def build(workshop: Workshop) -> Pipeline:
    """Build the pipeline. Pure: the code that it refers to is staged in ``workshop.staging`` and sent nowhere."""
    settings = workshop.settings
    processing = ParameterString("ProcessingInstanceType", parameters.default(settings, "ProcessingInstanceType"))
    endpoint = ParameterString("EndpointInstanceType", parameters.default(settings, "EndpointInstanceType"))
    return Pipeline(
        name=settings.deployment_pipeline,
        parameters=[processing, endpoint],
        steps=[workshop.deploy_endpoint(processing, endpoint)],
        sagemaker_session=workshop.session,
    )
