"""A start happens once in a run of continuous integration, whatever is repeated, and again where that is meant."""

from botocore.exceptions import ClientError

from pipeline import clouds
from pipeline.lifecycle import token

RUN = {"GITHUB_RUN_ID": "7", "GITHUB_RUN_ATTEMPT": "1"}
START = ["{}", [("Epochs", "14")], None]


def test_the_same_start_in_the_same_attempt_is_the_same():
    assert token(START, RUN) == token(["{}", [("Epochs", "14")], None], dict(RUN))
    assert 32 <= len(token(START, RUN)) <= 128  # what the API takes


def test_another_definition_parameter_selection_run_or_attempt_is_another():
    others = [
        token(["{ }", *START[1:]], RUN),
        token(["{}", [("Epochs", "15")], None], RUN),
        token([*START[:2], (("Evaluate",), "arn")], RUN),
        token(START, {**RUN, "GITHUB_RUN_ID": "8"}),
        token(START, {**RUN, "GITHUB_RUN_ATTEMPT": "2"}),
    ]
    assert len({token(START, RUN), *others}) == 6


def test_a_person_who_starts_twice_wants_it_twice():
    assert token(START, {}) is None


def test_an_error_of_quota_or_capacity_says_what_helps_and_another_says_nothing_more():
    def remedy(code):
        return clouds.remedy(ClientError({"Error": {"Code": code, "Message": "no"}}, "CreateTrainingJob"))

    assert "Service Quotas" in remedy("ResourceLimitExceeded")
    assert "try later" in remedy("CapacityError")
    assert "docs/aws.md" in remedy("AccessDeniedException")
    assert remedy("ValidationException") == ""
