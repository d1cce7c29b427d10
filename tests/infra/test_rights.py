"""Who may do what: the roles as IAM has them once the templates are deployed, on the embedded SageMaker."""

from __future__ import annotations

import copy
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

from infra import policies, stacks
from infra.policies import findings

ROOT = Path(stacks.__file__).parents[1]
AWS = Path(stacks.__file__).with_name("aws")
ACCOUNT = "123456789012"
GITHUB = {"GitHubOwner": "somebody", "GitHubRepository": "signs", "GitHubOwnerId": "11", "GitHubRepositoryId": "22"}
TOKEN = "token.actions.githubusercontent.com"

Statement = dict[str, Any]


class Rights:
    """What a deployed stack's roles may do, and who may take them on."""

    def __init__(self, iam: Any, name: str) -> None:
        self.policies: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        self.trust: dict[str, Statement] = {}
        for role in iam.get_paginator("list_roles").paginate().build_full_result()["Roles"]:
            if role["RoleName"].startswith(f"{name}-"):
                short = role["RoleName"].removeprefix(f"{name}-")
                self.policies[short] = list(self._documents(iam, role["RoleName"]))
                (self.trust[short],) = role["AssumeRolePolicyDocument"]["Statement"]

    @staticmethod
    def _documents(iam: Any, role: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for policy in iam.list_role_policies(RoleName=role)["PolicyNames"]:
            yield policy, iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
        for attached in iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]:
            arn = attached["PolicyArn"]
            version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
            document = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
            yield "surroundings", document

    def statements(self, role: str, *, but: str = "") -> list[Statement]:
        return [each for policy, document in self.policies[role] if policy != but for each in document["Statement"]]

    def actions(self, role: str, *, but: str = "") -> set[str]:
        return {action for each in self.statements(role, but=but) for action in listed(each["Action"])}


def listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


@pytest.fixture(scope="module")
def name() -> str:
    return f"signs-{secrets.token_hex(3)}"


@pytest.fixture(scope="module")
def rights(client: Callable[[str], Any], name: str) -> Rights:
    cloudformation = client("cloudformation")
    given = {
        "BucketName": f"{name}-bucket",
        "Encryption": "KMS",
        "Network": "true",
        "ImageRepository": "true",
        **GITHUB,
    }
    schedule = {"TrainingSchedule": "rate(7 days)", "TrainingData": "s3://bucket/data"}
    for template, more in (("foundation", given), ("automation", schedule)):
        text = (AWS / f"{template}.yaml").read_text()
        stacks.apply(cloudformation, stacks.plan(cloudformation, f"{name}-{template}", text, {"Name": name, **more}))
    return Rights(client("iam"), name)


ROLES = (
    "approval",
    "deploy",
    "evaluate",
    "github-deploy",
    "github-train",
    "pipeline",
    "preprocess",
    "schedule",
    "serve",
    "train",
    "validate",
)


def test_there_is_a_role_for_each_that_acts(rights: Rights) -> None:
    assert sorted(rights.policies) == sorted(ROLES)


def test_make_lint_looks_at_the_policies_that_are_deployed(rights: Rights) -> None:
    assert "@$(BIN)/python -m infra.policies infra/aws/*.yaml" in (ROOT / "Makefile").read_text()
    found = [each for path in AWS.glob("*.yaml") for each in policies.documents(path.read_text())]
    # A rule cannot start a function here, and so there is no role of one.
    deployed = [document for name, document in found if not name.startswith("IdleRole")]
    assert len(deployed) == len(found) - 1
    looked_at = {action for each in deployed for s in each["Statement"] for action in listed(s["Action"])}
    assert looked_at == {action for role in ROLES for action in rights.actions(role)}


def test_what_make_lint_runs_can_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (AWS / "foundation.yaml").read_text()
    for wrong in ('"s3:GetObjekt"', '"logs:PutLogEvents"'):
        (tmp_path / "wrong.yaml").write_text(text.replace('"s3:GetObject"', wrong))
        assert policies.main([str(tmp_path / "wrong.yaml")]) == 1
        assert "TrainRole, objects" in capsys.readouterr().err


# What parliament knows of each action: which resources and conditions it takes, and which do not fit together.


@pytest.mark.parametrize("role", ROLES)
def test_parliament_finds_nothing(rights: Rights, role: str) -> None:
    assert [found for _, document in rights.policies[role] for found in findings(document)] == []


@pytest.mark.parametrize(
    "change",
    [
        {"Action": "s3:GetObjekt"},
        {"Resource": "arn:aws:sqs:eu-central-1:123456789012:queue"},
        {"Condition": {"StringEquals": {"iam:PassedToServices": "sagemaker.amazonaws.com"}}},
        {"Effect": "Permit"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_parliament_finds_what_cannot_be(rights: Rights, change: Statement) -> None:
    document = copy.deepcopy(dict(rights.policies["train"])["objects"])
    document["Statement"][0].update(change)
    assert findings(document) != []


# What each role may do is what its code calls, and what SageMaker does in its name.

OBJECTS = {"s3:GetObject", "s3:AbortMultipartUpload", "s3:PutObject"}
SURROUNDINGS = {
    "logs:CreateLogGroup",
    "logs:CreateLogStream",
    "logs:DescribeLogStreams",
    "logs:PutLogEvents",
    "cloudwatch:PutMetricData",
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:GetDownloadUrlForLayer",
    "ecr:GetAuthorizationToken",
    "s3:GetBucketLocation",
    "s3:ListBucket",
    "kms:CreateGrant",
    "kms:Decrypt",
    "kms:Encrypt",
    "kms:GenerateDataKey",
    "ec2:CreateNetworkInterface",
    "ec2:CreateNetworkInterfacePermission",
    "ec2:DeleteNetworkInterface",
    "ec2:DeleteNetworkInterfacePermission",
    "ec2:DescribeDhcpOptions",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
}
"""Developer guide, "How to use SageMaker AI execution roles": of jobs and models, with a key and in a network."""


@pytest.mark.parametrize("role", ["preprocess", "validate", "train", "evaluate", "serve"])
def test_jobs_that_call_nothing_may_read_write_and_be_heard(rights: Rights, role: str) -> None:
    # "Auto-Rollback Configuration and Monitoring": whoever serves may read the alarms that guard an update.
    alarms = {"cloudwatch:DescribeAlarms"} if role == "serve" else set()
    assert rights.actions(role) == OBJECTS | SURROUNDINGS | alarms


def called_by_the_deployment() -> set[str]:
    """The calls that the step's source holds, as actions."""
    sources = [ROOT / "steps" / "deploy.py", *(ROOT / "steps" / "trafficsigns" / "hosting").glob("*.py")]
    source = "\n".join(path.read_text() for path in sources)
    prefixes = {"runtime": "sagemaker", "autoscaling": "application-autoscaling"}
    pattern = r"\b_?(sagemaker|runtime|cloudwatch|autoscaling)\.(\w+)(?:\(\"(\w+)\"\))?"
    found = {(prefixes.get(c, c), paged or method) for c, method, paged in re.findall(pattern, source)}
    return {f"{c}:{name}" for c, name in found if name not in ("exceptions", "amazonaws", "get_paginator")}


IMPLIED = {
    # Passing a role, tagging at creation, and what scaling calls in turn are no calls of their own.
    "iam:pass_role",
    "iam:create_service_linked_role",
    "cloudwatch:delete_alarms",
    "sagemaker:add_tags",
    "sagemaker:update_endpoint_weights_and_capacities",
}


def snake(actions: set[str]) -> set[str]:
    return {f"{action.partition(':')[0]}:{xform_name(action.partition(':')[2])}" for action in actions}


def excess(allowed: set[str], called: set[str]) -> tuple[set[str], set[str]]:
    """What is called and not allowed, and what is allowed and not called."""
    return called - allowed, allowed - called - IMPLIED


def test_the_deployment_may_do_what_its_script_calls_and_no_more(rights: Rights) -> None:
    allowed = snake(rights.actions("deploy") - OBJECTS - SURROUNDINGS)
    called = called_by_the_deployment()
    assert len(called) >= 20
    assert excess(allowed, called) == (set(), set())
    # The check sees a right that was forgotten, and one too many.
    assert excess(allowed - {"sagemaker:update_endpoint"}, called)[0] == {"sagemaker:update_endpoint"}
    assert excess(allowed | {"sagemaker:delete_model_package"}, called)[1] == {"sagemaker:delete_model_package"}


def test_only_deploying_touches_the_endpoint_and_only_the_pipeline_starts_jobs(rights: Rights) -> None:
    def may(action: str) -> set[str]:
        return {role for role in ROLES if action in rights.actions(role)}

    for action in ("CreateEndpoint", "UpdateEndpoint", "DeleteEndpoint", "CreateModel", "InvokeEndpoint"):
        assert may(f"sagemaker:{action}") == {"deploy"}
    assert may("sagemaker:UpdateModelPackage") == {"deploy", "github-deploy"}
    assert may("sagemaker:CreateModelPackage") == may("sagemaker:CreateTrainingJob") == {"pipeline"}
    assert may("sagemaker:StartPipelineExecution") == {"approval", "github-train", "schedule"}
    assert may("cloudformation:ExecuteChangeSet") == may("iam:PutRolePolicy") == set()


def test_roles_are_passed_to_sagemaker_alone_and_by_name(rights: Rights, name: str) -> None:
    passed = {}
    for role in ROLES:
        for statement in rights.statements(role):
            if "iam:PassRole" in listed(statement["Action"]):
                assert statement["Condition"] == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
                passed[role] = {arn.rpartition(f"role/{name}-")[2] for arn in listed(statement["Resource"])}
    assert passed == {
        "pipeline": {"preprocess", "validate", "train", "evaluate", "deploy"},
        "deploy": {"serve"},
        "github-train": {"pipeline"},
    }


def test_the_role_that_looks_for_drift_may_read_all_that_a_resource_consists_of(rights: Rights) -> None:
    """CloudFormation reads with its caller's rights, by the permissions that each resource's own schema names."""
    text = "\n".join(path.read_text() for path in AWS.glob("*.yaml"))
    kinds = set(re.findall(r"^    Type: (AWS::\S+)$", text, re.MULTILINE))
    assert len(kinds) > 20
    may = {action.lower() for action in rights.actions("github-train")}
    lacking = {}
    for kind in sorted(kinds):
        schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("eu-central-1", kind).schema
        reads = schema.get("handlers", {}).get("read", {}).get("permissions", [])
        lacking[kind] = {each for each in reads if each.lower() not in may}
    # This one is named by a schema and by no other of AWS's documents.
    assert lacking.pop("AWS::EC2::VPCEndpoint") == {"vpc-lattice:DescribeServiceNetworkVpcEndpointAssociation"}
    assert {kind: actions for kind, actions in lacking.items() if actions} == {}


WITHOUT_RESOURCES = {
    "application-autoscaling:DescribeScalableTargets",
    "cloudformation:DescribeStackDriftDetectionStatus",
    "cloudformation:GetTemplateSummary",
    "cloudwatch:PutMetricData",
    "ecr:GetAuthorizationToken",
    "logs:DescribeLogGroups",
    "sagemaker:ListEndpointConfigs",
    "sagemaker:ListModelPackageGroups",
    "sagemaker:ListModelPackages",
    *(action for action in SURROUNDINGS if action.startswith("ec2:")),
    "ec2:DescribeAccountAttributes",
    "ec2:DescribeAvailabilityZones",
    "ec2:DescribeNetworkAcls",
    "ec2:DescribeRouteTables",
    "ec2:DescribeVpcAttribute",
    "ec2:DescribeVpcEncryptionControls",
    "ec2:DescribeVpcEndpoints",
    "billing:GetBillingViewData",
    "budgets:ListTagsForResource",
    "budgets:ViewBudget",
    "logs:DescribeIndexPolicies",
    "logs:DescribeResourcePolicies",
    "sns:GetSubscriptionAttributes",
}


@pytest.mark.parametrize("role", ROLES)
def test_nothing_is_allowed_everywhere_but_what_knows_no_resources(rights: Rights, role: str) -> None:
    everywhere = [s for s in rights.statements(role) if "*" in listed(s["Resource"])]
    assert {action for statement in everywhere for action in listed(statement["Action"])} <= WITHOUT_RESOURCES
    assert all("*" not in action for action in rights.actions(role))


def test_what_is_written_stays_below_the_projects_prefix(rights: Rights, name: str) -> None:
    root = f"arn:aws:s3:::{name}-bucket/{name}/"
    written = {}
    for role in ROLES:
        for statement in rights.statements(role):
            if "s3:PutObject" in listed(statement["Action"]):
                written[role] = {arn.removeprefix(root) for arn in listed(statement["Resource"])}
    assert written == {
        **{job: {f"executions/*/{job}/*"} for job in ("preprocess", "validate", "evaluate", "deploy")},
        "train": {"executions/*/train/*", "checkpoints/*"},
        "serve": {"captured/*"},
        "github-train": {"code/*", "data/*"},
    }


# Who may take a role on


def problems(role: str, trust: Statement) -> list[str]:
    """What is wrong with a role's trust."""
    if role.startswith("github-"):
        return _of_github(role, trust)
    service = "events.amazonaws.com" if role in ("approval", "schedule") else "sagemaker.amazonaws.com"
    wanted = {
        "Principal": {"Service": service},
        "Action": "sts:AssumeRole",
    }
    found = [key for key, value in wanted.items() if trust[key] != value]
    equals = trust.get("Condition", {}).get("StringEquals", {})
    return found + ([] if equals == {"aws:SourceAccount": ACCOUNT} else ["Condition"])


def _of_github(role: str, trust: Statement) -> list[str]:
    place = "ref:refs/heads/main" if role == "github-train" else "environment:production"
    subjects = [f"repo:somebody/signs:{place}", f"repo:somebody@11/signs@22:{place}"]
    condition = {f"{TOKEN}:aud": "sts.amazonaws.com", f"{TOKEN}:sub": subjects}
    if role == "github-deploy":
        condition[f"{TOKEN}:ref"] = "refs/heads/main"
    wanted = {
        "Principal": {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{TOKEN}"},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": condition},
    }
    return [key for key, value in wanted.items() if trust[key] != value]


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_taken_on_by_whom_it_is_for(rights: Rights, role: str) -> None:
    assert problems(role, rights.trust[role]) == []


@pytest.mark.parametrize(
    ("role", "weaken"),
    [
        ("github-train", lambda t: t["Condition"].update(StringLike=t["Condition"].pop("StringEquals"))),
        ("github-train", lambda t: t["Condition"]["StringEquals"].pop(f"{TOKEN}:aud")),
        ("github-train", lambda t: t["Condition"]["StringEquals"].update({f"{TOKEN}:sub": ["repo:somebody/signs:*"]})),
        ("github-deploy", lambda t: t["Condition"]["StringEquals"].pop(f"{TOKEN}:ref")),
        ("github-deploy", lambda t: t.update(Principal={"Federated": "*"})),
        ("pipeline", lambda t: t.update(Principal={"AWS": "*"})),
        ("evaluate", lambda t: t.pop("Condition")),
    ],
)
def test_a_weakened_trust_is_seen(rights: Rights, role: str, weaken: Callable[[Statement], Any]) -> None:
    trust = copy.deepcopy(rights.trust[role])
    weaken(trust)
    assert problems(role, trust) != []


def test_the_account_trusts_github_for_this_one_audience(client: Callable[[str], Any], rights: Rights) -> None:
    arn = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{TOKEN}"
    assert client("iam").get_open_id_connect_provider(OpenIDConnectProviderArn=arn)["ClientIDList"] == [
        "sts.amazonaws.com"
    ]


def test_without_numbers_only_the_classic_subject_is_trusted(client: Callable[[str], Any]) -> None:
    name, cloudformation = f"signs-{secrets.token_hex(3)}", client("cloudformation")
    given = {"Name": name, "BucketName": f"{name}-b", "CreateGitHubProvider": "false"}
    owner = {key: GITHUB[key] for key in ("GitHubOwner", "GitHubRepository")}
    text = (AWS / "foundation.yaml").read_text()
    stacks.apply(cloudformation, stacks.plan(cloudformation, name, text, {**given, **owner}))
    trust = Rights(client("iam"), name).trust["github-train"]
    assert trust["Condition"]["StringEquals"][f"{TOKEN}:sub"] == ["repo:somebody/signs:ref:refs/heads/main"]
    stacks.destroy(cloudformation, name)
