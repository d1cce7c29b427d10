"""A run told in Markdown: what it says holds, whatever reasons and numbers hold."""

from datetime import UTC, datetime, timedelta

from pipeline import summaries
from pipeline.executions import Snapshot, Step

BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
ARN = "arn:aws:sagemaker:eu-central-1:123456789012:pipeline/signs/execution/abc"


def test_an_execution_tells_of_each_step_and_why_it_failed():
    train = Step("Train", "Failed", BEGUN, BEGUN + timedelta(seconds=61), "a | b\nand more")
    steps = (Step("Prepare", "Succeeded", BEGUN, BEGUN, cached=True), train, Step("Deploy", "Waiting"))
    lines = summaries.execution("signs", Snapshot(ARN, "Failed", "a step\nfailed", BEGUN, steps)).splitlines()
    assert lines[0] == "## signs: Failed"
    assert "> a step failed" in lines
    assert "| Prepare | Succeeded, cached | 0 s |  |" in lines
    assert "| Train | Failed | 61 s | a \\| b and more |" in lines
    assert "| Deploy | Waiting |  |  |" in lines


def test_an_evaluation_tells_of_each_bound_and_a_value_that_is_none():
    bounds = [
        {"name": "MinimumAccuracy", "value": 0.98765432, "comparison": "at_least", "bound": 0.96, "passed": True},
        {"name": "MaximumError", "value": None, "comparison": "at_most", "bound": 0.05, "passed": False},
    ]
    measured = {"gate": {"passed": False, "bounds": bounds}, "metrics": {"accuracy": 0.99, "images": 12630}}
    told = summaries.evaluation(measured, "s3://bucket/evaluation/")
    assert "### Quality gate: **not passed**" in told
    assert "| MinimumAccuracy | 0.98765 | ≥ 0.96 | passed |" in told
    assert "| MaximumError | none | ≤ 0.05 | **missed** |" in told
    assert "| images | 12630 |" in told
    assert "Report: `s3://bucket/evaluation/report.html`" in told
