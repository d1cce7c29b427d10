"""The definitions fit the API that they are sent to, at the ends of what settings and parameters may be.

SageMaker looks at a step's arguments when the step starts: what does not fit is refused after the hours of training
before it. Here expressions are resolved with the longest values that pass every check before, and held against
botocore's model of the call that the step makes: members, enums, patterns, lengths.
"""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest

from infra.local.pipelines.definitions import all_steps, check_definition
from infra.local.pipelines.expressions import references, resolve
from infra.local.pipelines.steps import STEP_TYPES
from infra.local.service import ServiceError, check, service_model
from pipeline import clouds, definitions, gate, parameters, settings
from serving import inference

API = service_model()
LOADED = settings.load()
ACCOUNT = "arn:aws:iam::123456789012:role/service-role/"
ROLES = {name: f"{ACCOUNT}{name:a<64}" for name in vars(LOADED.aws.job_roles)}
PLACE = {"subnets": ("subnet-0123456789abcdef0",) * 16, "security_groups": ("sg-0123456789abcdef0",) * 5}
LONG = replace(
    LOADED,
    name="n" * 40,
    aws=replace(
        LOADED.aws,
        bucket="b" * 63,
        role_arn=f"{ACCOUNT}{'r' * 64}",
        job_roles=replace(LOADED.aws.job_roles, **ROLES),
    ),
    network=replace(LOADED.network, isolated=True, **PLACE),
)
"""Settings with the longest names that they, S3 and IAM take, and as many places in a network as jobs do."""

ADDRESS = f"s3://{'a' * (parameters.ADDRESS_LENGTH - 5)}"
LONGEST = {
    **dict.fromkeys(("InputData", "InputImages", "Champion"), ADDRESS),
    **dict.fromkeys(("Commit", "StepsCommit"), "c" * 128),
    **dict.fromkeys(("Seed", "Epochs", "BatchSize", "Patience", "DeclaredImages"), 2**31 - 1),
    **dict.fromkeys(("TestFraction", "ValidationFraction", "LearningRate"), 0.12345678901234567),
    "ProcessingInstanceCount": 100,
}
"""Parameters as long as a start of the pipeline takes them."""


class Execution:
    """What a definition's expressions see in one execution."""

    def __init__(self, definition, values):
        self.definition = definition
        self.values = {each["Name"]: each["DefaultValue"] for each in definition["Parameters"]} | values
        self.steps = {step["Name"]: step for step in all_steps(definition["Steps"])}

    def parameter(self, name):
        return self.values[name]

    def execution(self, name):
        arn = f"arn:aws:sagemaker:ap-northeast-1:123456789012:pipeline/{'n' * 40}-training/execution/{'e' * 12}"
        return {"PipelineExecutionArn": arn, "PipelineExecutionId": "e" * 12, "PipelineName": "p" * 60}[name]

    def step(self, name):
        """Answer what describing a step's job would, its name as long as names are."""
        arguments = resolve(self.steps[name]["Arguments"], self)
        if self.steps[name]["Type"] == "Training":
            place = f"{arguments['OutputDataConfig']['S3OutputPath']}/{'j' * 63}/output/model.tar.gz"
            return {"TrainingJobName": "j" * 63, "ModelArtifacts": {"S3ModelArtifacts": place}}
        return arguments

    def property_file(self, step, name):
        declared = {each["PropertyFileName"] for each in self.steps[step]["PropertyFiles"]}
        assert name in declared
        metrics = {criterion.metric: 0.12345678901234567 for criterion in gate.GATE.values()}
        return {"EvaluationReport": {"metrics": metrics}, "PackageCard": {"content": "x" * 100_000}}[name]

    def json_file(self, uri):
        raise AssertionError(f"nothing reads {uri}")

    def request(self, name):
        """Return the call that a step makes, and what it is made with."""
        step = self.steps[name]
        arguments = resolve(step["Arguments"], self)
        kind = STEP_TYPES[step["Type"]]
        named = {f"{kind.kind}Name": "j" * 63} if kind.is_job else {}
        return f"Create{kind.kind}", {**named, **arguments}

    def fits(self, name):
        action, request = self.request(name)
        check(request, API.operation_model(action).input_shape)


@pytest.fixture(scope="module")
def rendered():
    """The definitions, by the settings they were made from and the pipeline's name after theirs."""
    return {
        (which, name.removeprefix(f"{loaded.name}-")): text
        for which, loaded in (("default", LOADED), ("long", LONG))
        for name, text in definitions.render(loaded, clouds.offline(loaded)).items()
    }


CALLING = [
    *(("training", name) for name in ("Preprocess", "ValidateData", "TrainLeNet", "Evaluate", "RegisterModel")),
    ("training", "DeployEndpoint"),
    ("deployment", "DeployEndpoint"),
]


def of(rendered, which, pipeline):
    definition = json.loads(rendered[which, pipeline])
    declared = {each["Name"] for each in definition["Parameters"]}
    values = LONGEST if which == "long" else {}
    return Execution(definition, {name: value for name, value in values.items() if name in declared})


def test_every_step_that_makes_a_call_is_looked_at_here(rendered):
    for pipeline in ("training", "deployment"):
        steps = all_steps(json.loads(rendered["default", pipeline])["Steps"])
        calling = {step["Name"] for step in steps if STEP_TYPES[step["Type"]] is not None}
        assert calling == {name for where, name in CALLING if where == pipeline}


@pytest.mark.parametrize("which", ["default", "long"])
@pytest.mark.parametrize(("pipeline", "name"), CALLING, ids=lambda value: value)
def test_a_steps_arguments_fit_the_call_that_it_makes(rendered, which, pipeline, name):
    of(rendered, which, pipeline).fits(name)


def test_the_longest_values_are_those_that_a_start_takes():
    parameters.check({name: str(value) for name, value in LONGEST.items()})
    for name in ("InputData", "InputImages", "Champion", "Commit", "StepsCommit"):
        with pytest.raises(parameters.ParameterError, match=name):
            parameters.check({name: f"{LONGEST[name]}a"})


@pytest.mark.parametrize("which", ["default", "long"])
@pytest.mark.parametrize("pipeline", ["training", "deployment"])
def test_the_service_takes_the_definition(rendered, which, pipeline):
    """Names are unique, references lead somewhere, property files are declared, nothing is cyclic."""
    text = rendered[which, pipeline]
    check_definition(text)
    shape = API.shape_for("CreatePipelineRequest")
    request = {"PipelineName": f"{'n' * 40}-{pipeline}", "PipelineDefinition": text, "RoleArn": LONG.aws.role_arn}
    check({**request, "ClientRequestToken": "t" * 32}, shape)


def test_the_message_of_the_gate_can_be_kept(rendered):
    execution = of(rendered, "long", "training")
    message = resolve(execution.steps["QualityGateFailed"]["Arguments"]["ErrorMessage"], execution)
    check({"ErrorMessage": message}, API.shape_for("FailStepMetadata"))


FAULTS = {
    "an argument that is too long": (
        "Evaluate", ("AppSpecification", "ContainerArguments", 1), "a" * 257, "less than or equal to 256",
    ),
    "an unknown machine type": (
        "Preprocess", ("ProcessingResources", "ClusterConfig", "InstanceType"), "ml.m6i.huge", "enum value set",
    ),
    "a character that properties cannot have": (
        "RegisterModel", ("CustomerMetadataProperties", "Data"), "s3://bucket/50%", "regular expression pattern",
    ),
    "a property's name that is too long": ("RegisterModel", ("CustomerMetadataProperties", "k" * 129), "v", "128"),
    "no role": ("TrainLeNet", ("RoleArn",), None, "RoleArn"),
    "an address that is none": ("ValidateData", ("ProcessingInputs", 0, "S3Input", "S3Uri"), "here", "pattern"),
    "a status that does not exist": ("RegisterModel", ("ModelApprovalStatus",), "Perhaps", "enum value set"),
    "a member that does not exist": ("RegisterModel", ("ModelMetric",), {}, "Unknown parameter"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_fit_is_seen(rendered, fault):
    name, path, value, said = FAULTS[fault]
    definition = copy.deepcopy(json.loads(rendered["default", "training"]))
    place = {step["Name"]: step for step in all_steps(definition["Steps"])}[name]["Arguments"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ServiceError, match=said):
        Execution(definition, {}).fits(name)


# What each parameter does

TOLD_ONLY = {"Commit", "StepsCommit"}
"""Parameters that are written down with what was made, and change nothing of it."""


def doing(execution):
    """What the steps do, without what they only write down."""
    requests = {}
    for name, step in execution.steps.items():
        own = {key: value for key, value in step["Arguments"].items() if key not in ("IfSteps", "ElseSteps")}
        own.pop("CustomerMetadataProperties", None)
        own.pop("MetadataProperties", None)
        if words := own.get("AppSpecification", {}).get("ContainerArguments"):
            notes = {i for i, word in enumerate(words) if word in ("--lineage", "--parameter")}
            kept = [word for i, word in enumerate(words) if not {i, i - 1} & notes]
            own["AppSpecification"] = {**own["AppSpecification"], "ContainerArguments": kept}
        requests[name] = own
    return requests


def test_every_parameter_changes_what_a_step_does(rendered):
    for pipeline in ("training", "deployment"):
        execution = of(rendered, "default", pipeline)
        used = {reference.removeprefix("Parameters.") for reference in references(doing(execution))}
        assert set(execution.values) - used == (TOLD_ONLY if pipeline == "training" else set())


def test_a_commit_that_changes_no_step_changes_no_jobs_arguments(rendered):
    """Else each commit would run Evaluate anew, since no cache answers a job with other arguments."""
    steps = of(rendered, "default", "training").steps
    jobs = {name: step["Arguments"] for name, step in steps.items() if step["Type"] in ("Processing", "Training")}
    assert {name for name, arguments in jobs.items() if "Parameters.Commit" in references(arguments)} == set()
    assert "Parameters.Commit" in references(steps["RegisterModel"]["Arguments"])


# The registry's side of the endpoint


def test_the_registry_says_what_the_handler_takes_and_answers(rendered):
    specification = of(rendered, "default", "training").steps["RegisterModel"]["Arguments"]["InferenceSpecification"]
    assert set(specification["SupportedContentTypes"]) == set(inference.SERVED.replace(" or ", ", ").split(", "))
    assert set(specification["SupportedResponseMIMETypes"]) == set(inference.ANSWERED.values())
    machine = [{"Get": "Parameters.EndpointInstanceType"}]
    assert specification["SupportedRealtimeInferenceInstanceTypes"] == machine
    # Some types that serve cannot transform, and the registration of a trained model would fail at them.
    assert "SupportedTransformInstanceTypes" not in specification


def test_a_version_waits_for_approval_unless_the_run_says_otherwise(rendered):
    execution = of(rendered, "default", "training")
    assert execution.request("RegisterModel")[1]["ModelApprovalStatus"] == "PendingManualApproval"
