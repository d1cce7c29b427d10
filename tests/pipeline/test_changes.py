"""What a definition changes in another is told step by step, and nothing else is."""

import copy
import json

from pipeline import changes
from pipeline.changes import compare

INNER = {"Name": "Deploy", "Type": "Processing", "Arguments": {"AppSpecification": {"Image": "a"}}}
BEFORE = {
    "Version": "2020-12-01",
    "Parameters": [{"Name": "Epochs", "Type": "Integer", "DefaultValue": 14}],
    "Steps": [
        {"Name": "Train", "Type": "Training", "Arguments": {"Seconds": 60}},
        {
            "Name": "Gate",
            "Type": "Condition",
            "Arguments": {"Conditions": [], "IfSteps": [INNER], "ElseSteps": []},
        },
    ],
}


def after(change):
    changed = copy.deepcopy(BEFORE)
    change(changed)
    return {(each.part, each.kind): each.diff for each in compare(json.dumps(BEFORE), json.dumps(changed))}


def test_the_same_definition_in_another_layout_changes_nothing():
    assert compare(json.dumps(BEFORE), json.dumps(BEFORE, indent=8)) == []


def test_a_changed_parameter_shows_its_line():
    diff = after(lambda d: d["Parameters"][0].update(DefaultValue=15))[("parameter Epochs", "changed")]
    assert [line for line in diff if line[0] in "+-"] == ['-  "DefaultValue": 14', '+  "DefaultValue": 15']


def test_a_step_in_a_branch_is_told_of_by_itself():
    def change(d):
        d["Steps"][1]["Arguments"]["IfSteps"][0]["Arguments"]["AppSpecification"]["Image"] = "b"

    assert set(after(change)) == {("step Deploy", "changed")}


def test_a_step_that_moves_into_the_other_branch_changes_the_condition():
    def change(d):
        branches = d["Steps"][1]["Arguments"]
        branches["IfSteps"], branches["ElseSteps"] = [], branches["IfSteps"]

    assert set(after(change)) == {("step Gate", "changed")}


def test_steps_come_and_go():
    found = after(lambda d: d["Steps"].__setitem__(0, {"Name": "Tune", "Type": "Tuning"}))
    assert list(found) == [("step Tune", "added"), ("step Train", "removed")]
    assert all(line.startswith(("@@", "+")) for line in found[("step Tune", "added")])


def test_a_pipeline_that_is_not_there_is_added_whole():
    (change,) = compare(None, json.dumps(BEFORE))
    assert (change.part, change.kind, change.diff) == ("the whole pipeline", "added", ())


def test_both_layouts_tell_each_change_and_its_lines():
    changed = copy.deepcopy(BEFORE)
    changed["Parameters"][0]["DefaultValue"] = 15
    found = compare(json.dumps(BEFORE), json.dumps(changed))
    assert "signs:\n  parameter Epochs changed\n" in changes.text("signs", found)
    assert '    +  "DefaultValue": 15' in changes.text("signs", found)
    told = changes.markdown("signs", found)
    assert "### signs\n\n**parameter Epochs** changed\n\n````diff\n" in told
    assert '\n+  "DefaultValue": 15\n' in told
    assert changes.text("signs", []) == "signs: nothing would change"
    assert "Nothing changes." in changes.markdown("signs", [])
