"""Holds the policies in templates against what AWS knows of actions, resources and conditions: ``make lint`` runs it.

    python -m infra.policies TEMPLATE ...

parliament, which has a copy of the service authorization reference, reads policies and no templates: here what a
template refers to is replaced by something of the right form, and every condition is taken for true.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cfnlint.decode import cfn_yaml


def _place(package: str, name: str) -> str:
    return str(Path(str(sys.modules[package].__file__)).with_name(name))


# All that parliament wants of pkg_resources, which setuptools has given up, is where its own two files lie.
sys.modules.setdefault("pkg_resources", SimpleNamespace(resource_filename=_place))  # type: ignore[arg-type]
import parliament  # noqa: E402 - needs the line above

KNOWN = {
    "AWS::Partition": "aws",
    "AWS::Region": "eu-central-1",
    "AWS::AccountId": "123456789012",
    "KeptKeyArn": "arn:aws:kms:eu-central-1:123456789012:key/2",
}

ARNS = {
    "AWS::KMS::Key": "arn:aws:kms:eu-central-1:123456789012:key/1",
    "AWS::SNS::Topic": "arn:aws:sns:eu-central-1:123456789012:topic",
    "AWS::SQS::Queue": "arn:aws:sqs:eu-central-1:123456789012:queue",
}
"""What stands for a resource that a template makes."""


NEWER = {
    "billing:GetBillingViewData",
    "ec2:DescribeVpcEncryptionControls",
    "lambda:GetFunctionScalingConfig",
    "s3:GetBucketAbac",
}
"""Actions that are younger than parliament's copy of the reference. cfn-lint knows them, and no invented ones."""


def documents(template: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the policies of a template's roles and its managed ones, each with the name of its resource and its own."""
    text = json.loads(json.dumps(cfn_yaml.loads(template)))
    names = {**{name: name.lower() for name in text.get("Parameters", {})}, **KNOWN}
    names |= {name: ARNS.get(node["Type"], name) for name, node in text["Resources"].items()}
    for name, node in text["Resources"].items():
        properties = node.get("Properties", {})
        if node["Type"] == "AWS::IAM::ManagedPolicy":
            yield name, _resolved(properties["PolicyDocument"], names)
        if node["Type"] == "AWS::IAM::Role":
            for policy in properties.get("Policies", []):
                yield f"{name}, {policy['PolicyName']}", _resolved(policy["PolicyDocument"], names)


def _resolved(node: Any, names: dict[str, str]) -> Any:
    if isinstance(node, list):
        return [value for each in node if (value := _resolved(each, names)) is not None]
    if not isinstance(node, dict):
        return node
    if "Fn::If" in node:
        return _resolved(node["Fn::If"][1], names)
    if "Fn::Sub" in node:
        return re.sub(r"\$\{([\w:]+)[^}]*\}", lambda found: names[found[1]], node["Fn::Sub"])
    if "Fn::GetAtt" in node:
        return names[node["Fn::GetAtt"][0]]
    if "Ref" in node:
        return names.get(node["Ref"])
    return {key: value for key, each in node.items() if (value := _resolved(each, names)) is not None}


def findings(document: dict[str, Any]) -> list[str]:
    """Return what parliament has against a policy."""
    analyzed = parliament.analyze_policy_string(json.dumps(document))
    told = [f"{found.issue}: {found.detail}" for found in analyzed.findings]
    return [each for each in told if each.removeprefix("UNKNOWN_ACTION: Unknown action ") not in NEWER]


def main(templates: Sequence[str]) -> int:
    """Look at templates; returns the exit code."""
    found = [
        f"{path}: {name}: {finding}"
        for path in templates
        for name, document in documents(Path(path).read_text())
        for finding in findings(document)
    ]
    sys.stderr.write("".join(f"{line}\n" for line in found))
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
