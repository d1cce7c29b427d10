"""Approving and rejecting versions in the embedded SageMaker's registry: who, when, why, and what speaks against it."""

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pipeline import approvals, gate, registry, settings
from pipeline.registry import RegistryError

LOADED = settings.load()
WHEN = datetime(2026, 11, 26, 4, 5, tzinfo=UTC)
GOOD = {criterion.metric: gate.bounds(LOADED)[name] for name, criterion in gate.GATE.items()}


def test_a_version_on_todays_bounds_is_approved_and_says_who_when_and_why(register, place, loaded):
    found = register(GOOD)
    assert found.status == "PendingManualApproval"
    assert approvals.approve(loaded, place, found, "better on\nrare signs") == []
    found = registry.by_arn(place, found.arn)
    assert found.status == "Approved"
    person = re.escape(approvals.who(place, {}))
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    assert re.fullmatch(rf"better on rare signs \(Approved by {person}, {today} \d\d:\d\d UTC\)", found.description)


def test_one_that_todays_bounds_would_turn_down_needs_force_and_keeps_that(register, place, loaded):
    found = register({**GOOD, "accuracy_lower": 0.9, "latency_ratio": 12.5})
    with pytest.raises(RegistryError, match="--force") as refusal:
        approvals.approve(loaded, place, found, "")
    assert "accuracy (lower end) 0.9 needs 0.96; time beside LeNet-5's 12.5 may be 10" in str(refusal.value)
    assert registry.by_arn(place, found.arn).status == "PendingManualApproval"
    assert "against today's bounds: accuracy (lower end) 0.9 needs 0.96" in approvals.approve(
        loaded, place, found, "a drill", force=True
    )
    assert registry.by_arn(place, found.arn).description.startswith("a drill (against today's bounds) (Approved by ")


def test_bounds_that_have_risen_since_count(register, place, loaded):
    found = register(GOOD)
    risen = replace(loaded, gate=replace(loaded.gate, minimum_class_recall=0.5))
    with pytest.raises(RegistryError, match=r"worst class recall 0\.4 needs 0\.5"):
        approvals.approve(risen, place, found, "")
    assert approvals.approve(loaded, place, found, "") == []


@pytest.mark.parametrize(
    ("evaluation", "reason"),
    [
        (None, "was registered without an evaluation"),
        ('{"metrics": {"accuracy_lower": 0.9', r"s3://\S+/evaluation.json: .*delimiter"),
        ("[]", "expected what steps/evaluate.py writes"),
        ('{"metrics": {"accuracy_lower": "high"}}', "the metric accuracy_lower is 'high': expected a number"),
    ],
    ids=["none", "cut short", "no mapping", "no number"],
)
def test_one_that_cannot_be_judged_needs_force_too(register, place, loaded, evaluation, reason):
    found = register(evaluation)
    with pytest.raises(RegistryError, match=reason):
        approvals.approve(loaded, place, found, "")
    approvals.approve(loaded, place, found, "", force=True)
    assert registry.by_arn(place, found.arn).status == "Approved"


def test_an_evaluation_that_is_gone_is_named(register, place, loaded):
    found = register(GOOD)
    key = found.statistics.removeprefix(f"s3://{place.bucket}/")
    place.client("s3").delete_object(Bucket=place.bucket, Key=key)
    with pytest.raises(RegistryError, match=f"evaluation of version 1 cannot be read: {found.statistics}"):
        approvals.approve(loaded, place, found, "")


def test_approving_an_older_version_says_that_a_newer_one_serves(register, place, loaded):
    older, newer = register(GOOD), register(GOOD)
    approvals.approve(loaded, place, newer, "")
    assert approvals.approve(loaded, place, older, "") == ["version 2 is newer and approved too: that one serves"]


def test_what_was_decided_before_is_kept_behind_it(register, place, loaded):
    found = register(GOOD)
    approvals.approve(loaded, place, found, "first")
    assert approvals.reject(loaded, place, registry.by_arn(place, found.arn), "then") == []
    described = registry.by_arn(place, found.arn)
    assert described.status == "Rejected"
    latest, earlier = described.description.split(" | ")
    assert latest.startswith("then (Rejected by ")
    assert earlier.startswith("first (Approved by ")


def test_sagemaker_takes_the_longest_description(register, place):
    found = register(GOOD)
    approvals.decide(place, found, "Approved", "a" * 5000)
    once = registry.by_arn(place, found.arn)
    assert len(once.description) == approvals.LENGTH
    approvals.decide(place, once, "Rejected", "b" * 500)
    assert len(registry.by_arn(place, found.arn).description) == approvals.LENGTH


def test_a_reason_gives_way_before_person_and_time_do():
    long = approvals.description("Approved", "a" * 2000, "me", WHEN, "earlier")
    assert len(long) == approvals.LENGTH
    assert long.endswith("a… (Approved by me, 2026-11-26 04:05 UTC)")
    assert approvals.description("Rejected", "", "me", WHEN) == "Rejected by me, 2026-11-26 04:05 UTC"
    assert approvals.description("Rejected", "x", "me", WHEN, "old").endswith("UTC) | old")


def test_on_aws_it_is_the_caller_who_decides_and_in_a_workflow_who_started_it(place):
    aws = replace(place, kind="aws")
    arn = aws.client("sts").get_caller_identity()["Arn"]
    assert approvals.who(aws, {}) == arn
    assert approvals.who(aws, {"GITHUB_ACTOR": "somebody"}) == f"{arn} for somebody"


def test_at_home_it_is_gits_user_else_the_machines(place, monkeypatch):
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Ada")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "ada@example.org")
    assert approvals.who(place, {}) == "Ada <ada@example.org>"
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("LOGNAME", "ada")
    assert approvals.who(place, {}) == "ada"


def test_versions_are_found_by_number_and_the_newest_approved_one_by_status(register, place, loaded):
    group = loaded.model_package_group
    first, second, third = (register(GOOD) for _ in range(3))
    assert [version.number for version in registry.versions(place, group)] == [3, 2, 1]
    assert registry.version(place, group, 2).arn == second.arn
    with pytest.raises(RegistryError, match=rf"{group} has no version 7 \(there: 1, 2, 3\)"):
        registry.version(place, group, 7)
    assert registry.newest_approved(place, group) is None
    for version in (first, third):
        approvals.approve(loaded, place, version, "")
    assert registry.newest_approved(place, group).number == 3
    assert registry.newest_approved(place, group, but=3).number == 1
    assert registry.versions(place, "no-such-group") == []
