"""An approval deploys: registry, event, the stack's rule, deployment pipeline, endpoint, and nobody in between.

The stacks are the project's own, deployed by its own command. The tests build on each other, in their order.
"""

from __future__ import annotations

import time

import boto3
import pytest
from deployment_world import PICTURES, World, golden

from infra.local import control
from pipeline import gate, settings
from trafficsigns.hosting import golden as golden_pictures

pytestmark = pytest.mark.integration

NAME = settings.load().name
BOUNDS = gate.bounds(settings.load())
SECONDS = 180


class Registry(World):
    """The registry of an embedded SageMaker in which an approval deploys."""

    def __init__(self, signs, folder) -> None:
        self.signs = signs
        signs("local", "start")
        server = control.find(signs.state)
        assert server is not None
        session = boto3.Session("local", "local", region_name=server.region)
        signs("infra", "deploy", "--yes")
        signs("upsert")
        super().__init__(lambda name: session.client(name, endpoint_url=server.url), NAME, folder, make_group=False)
        self.models = {confidence: self.put_model(confidence) for confidence in (0.9, 0.7)}

    def pending(self, confidence: float, claimed: float | None = None) -> str:
        """Register a version that waits for its approval and keeps today's bounds; its golden answers may be others."""
        said = claimed or confidence
        properties = {golden_pictures.KEY: self.put_golden(f"golden-{said}", golden(said))}
        measured = {each.metric: BOUNDS[name] for name, each in gate.GATE.items()}
        metrics = self.put_evaluation(f"evaluation-{confidence}", measured)
        return self.register(self.models[confidence], properties, "PendingManualApproval", **metrics)

    def executions(self) -> list[dict]:
        """The deployment pipeline's executions, the newest first."""
        answer = self.sagemaker.list_pipeline_executions(PipelineName=f"{NAME}-deployment")
        return answer["PipelineExecutionSummaries"]

    def settle(self, more_than: int) -> list[str]:
        """Wait until more executions have begun and all have ended; return their statuses, the newest first."""
        deadline = time.monotonic() + SECONDS
        while True:
            statuses = [each["PipelineExecutionStatus"] for each in self.executions()]
            if len(statuses) > more_than and "Executing" not in statuses:
                return statuses
            assert time.monotonic() < deadline, statuses
            time.sleep(0.2)

    def quiet(self, seconds: float = 2.0) -> int:
        """Give events that lead nowhere the time to lead somewhere, and return how many executions there are."""
        # Absence has no moment at which it is proved; an event that is delivered takes a tenth of this.
        time.sleep(seconds)
        return len(self.executions())


@pytest.fixture(scope="module")
def registry(make_signs, tmp_path_factory):
    return Registry(make_signs("approval"), tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def versions() -> list[str]:
    """ARNs of the versions, in order."""
    return []


def test_a_version_that_waits_deploys_nothing(registry, versions):
    versions.append(registry.pending(0.9))
    assert registry.quiet() == 0
    assert registry.endpoint() is None


def test_an_approval_makes_an_endpoint(registry, versions):
    registry.signs("models", "approve", "1", "--reason", "the first")
    assert registry.settle(0) == ["Succeeded"]
    assert registry.serving() == versions[0]
    assert registry.ask(PICTURES["01.png"])["probability"] == pytest.approx(0.9)


def test_a_repeated_approval_changes_nothing(registry, versions):
    before, ran = registry.endpoint(), len(registry.executions())
    registry.approve(versions[0])
    registry.quiet()
    statuses = registry.settle(ran - 1)
    assert set(statuses) == {"Succeeded"}
    assert registry.endpoint()["EndpointConfigName"] == before["EndpointConfigName"]
    assert registry.endpoint()["LastModifiedTime"] == before["LastModifiedTime"]


def test_another_groups_approval_is_none_of_ours(registry):
    before = len(registry.executions())
    registry.sagemaker.create_model_package_group(ModelPackageGroupName=f"{NAME}-other")
    made = registry.sagemaker.create_model_package(
        ModelPackageGroupName=f"{NAME}-other",
        ModelApprovalStatus="PendingManualApproval",
        InferenceSpecification={
            "Containers": [{"Image": "serving", "ModelDataUrl": registry.models[0.7]}],
            "SupportedContentTypes": ["image/png"],
            "SupportedResponseMIMETypes": ["application/json"],
        },
    )
    registry.approve(made["ModelPackageArn"])
    assert registry.quiet() == before


def test_two_approvals_at_once_and_out_of_order_end_with_the_newest(registry, versions):
    versions += [registry.pending(0.9), registry.pending(0.7)]
    before = len(registry.executions())
    for arn in reversed(versions[1:]):
        registry.approve(arn)
    assert set(registry.settle(before + 1)) == {"Succeeded"}
    assert registry.serving() == versions[2]
    assert registry.ask(PICTURES["01.png"])["probability"] == pytest.approx(0.7)


def test_the_pipelines_own_deployment_beside_the_events_ends_the_same(registry, versions):
    versions.append(registry.pending(0.9))
    before = len(registry.executions())
    registry.approve(versions[3])
    registry.signs("deploy")
    assert set(registry.settle(before + 1)) == {"Succeeded"}
    assert registry.serving() == versions[3]


def test_what_is_in_service_and_about_to_be_turned_down_is_not_said_to_serve(registry, versions):
    before = len(registry.executions())
    registry.approve(registry.pending(0.7, claimed=0.9))
    said = registry.signs("endpoint", "watch", "--version", "5", code=3)
    assert "version 5 does not serve" in said
    assert "is Rejected: rejected by deployment" in " ".join(said.split())
    registry.settle(before + 1)
    assert registry.serving() == versions[3]
    said = registry.signs("endpoint", "watch", "--version", "3", code=3)
    assert "version 4 is approved too, and newer" in " ".join(said.split())


def test_rolling_back_rejects_the_live_version_and_the_one_before_serves(registry, versions):
    before = len(registry.executions())
    registry.signs("endpoint", "rollback", "--yes", "--reason", "a drill")
    registry.settle(before + 1)
    assert registry.serving() == versions[2]
    status, told = registry.status(versions[3])
    assert (status, told.startswith("rolled back: a drill (Rejected by ")) == ("Rejected", True)
    assert f"InService: {NAME}-v3-" in registry.signs("endpoint", "watch")


def test_without_any_approved_version_the_job_fails_loudly_and_the_endpoint_serves_on(registry, versions):
    before = len(registry.executions())
    registry.approve(versions[1], "Rejected")
    registry.approve(versions[0], "Rejected")
    registry.settle(before + 1)
    assert "no other is approved" in registry.signs("endpoint", "rollback", "--yes", code=1)
    before = len(registry.executions())
    said = registry.signs("models", "reject", "3", "--reason", "the last")
    assert "version 3 serves, and none is approved: it serves on until one is" in said
    newest, *_ = registry.settle(before)
    assert newest == "Failed"
    assert registry.serving() == versions[2]
    arn = registry.executions()[0]["PipelineExecutionArn"]
    (step,) = registry.sagemaker.list_pipeline_execution_steps(PipelineExecutionArn=arn)["PipelineExecutionSteps"]
    assert f"no version in {NAME} is approved" in step["FailureReason"]


def test_what_was_deployed_can_be_compared_and_taken_away(registry):
    assert registry.signs("infra", "diff").count("nothing would change") == 2
    assert f"{NAME}-automation deleted" in registry.signs("infra", "destroy", "--yes")
    before = len(registry.executions())
    registry.pending(0.9)
    registry.approve(registry.pending(0.9))
    assert registry.quiet() == before
