"""What the benchmarks ask of the step scripts, which nobody runs often enough to notice that it no longer exists."""

import json
import re
import signal
import statistics
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from benchmarks import ablation, presets
from benchmarks.contestants import ROOT
from benchmarks.drawn import OPEN_GATE
from benchmarks.peers import one_training, recipes
from trafficsigns.gate import CRITERIA
from trafficsigns.presets import PRESETS

MEASURE = """
import sys
from pathlib import Path
from benchmarks import presets
presets.RESULTS = Path(sys.argv.pop(1))
sys.exit(presets.main())
"""


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """A folder with few drawn signs in the official layout."""
    options = [
        "--tracks-per-class=3",
        "--frames-per-track=4",
        "--test-per-class=1",
        f"--output-dir={tmp_path / 'drawn'}",
    ]
    subprocess.run([sys.executable, "steps/synthesize.py", *options], cwd=ROOT, check=True)
    return tmp_path / "drawn"


def test_the_open_gate_has_a_bound_for_each_criterion_that_no_model_misses():
    bounds = {f"--{name.replace('_', '-')}": bound for name, bound in OPEN_GATE.items()}
    assert bounds == {each.option: 0 if each.comparison == "at_least" else each.highest for each in CRITERIA}


def runs_of_today() -> list[Any]:
    return presets.of_today(json.loads(presets.RESULTS.read_text()), recipes.recipes())


def test_the_pages_tell_what_was_measured_of_the_presets():
    rows = runs_of_today()
    assert presets.RESULTS.with_suffix(".md").read_text() == presets.page(rows)
    readme, page = (ROOT / "README.md").read_text(), (ROOT / "docs" / "model.md").read_text()
    assert presets.table(rows) in page
    for preset in ("standard", "best"):
        mean = statistics.mean(row["accuracy"] for row in rows if row["preset"] == preset)
        assert f"**{100 * mean:.2f} %**" in page, preset
    for row in rows:
        accuracy, lower, upper = (f"{100 * row[name]:.2f}" for name in ("accuracy", "lower", "upper"))
        told = f"| {row['minutes']:.1f} | {row['seed']} | {accuracy} % | {lower} to {upper} | {row['wrong']} |"
        assert told in readme, row["preset"]


def test_the_page_tells_how_many_pedestrians_were_recognised():
    found: dict[str, list[str]] = {"standard": [], "best": []}
    for row in sorted(runs_of_today(), key=lambda row: int(row["seed"])):
        if row["preset"] in found:
            found[row["preset"]].append(f"{60 * row['recalls']['Pedestrians']:.0f}")
    told = (f"`{preset}`\\s.*?{first}, {second}\\sand\\s{third}" for preset, (first, second, third) in found.items())
    assert re.search(".*?".join(told), (ROOT / "docs" / "model.md").read_text(), re.DOTALL)


@pytest.mark.parametrize(
    ("preset", "seeds", "accuracy", "minutes"),
    [("fast", 1, 0.975, 6), ("standard", 3, 0.9884, 30), ("best", 3, 0.99, 120)],
)
def test_what_was_measured_keeps_what_a_preset_is_for(preset: str, seeds: int, accuracy: float, minutes: float):
    """Human performance is 98.84 % (Stallkamp et al., 2012); minutes are those on two cores, by the clock."""
    rows = [row for row in runs_of_today() if row["preset"] == preset]
    assert len({row["seed"] for row in rows}) >= seeds
    assert statistics.mean(row["accuracy"] for row in rows) > accuracy
    assert max(max(row["minutes"], row["clock"]) for row in rows) < minutes
    assert all(row["parameters"] < 1_000_000 for row in rows)


def test_every_run_of_the_table_was_made_of_todays_recipe():
    """A recipe that changes leaves figures behind that are another's."""
    rows = runs_of_today()
    assert {(row["preset"], row["seed"]) for row in rows} >= set(presets.RUNS)
    mean = {name: statistics.mean(row["accuracy"] for row in rows if row["preset"] == name) for name in PRESETS}
    assert mean["best"] > mean["standard"] > mean["fast"] > mean["lenet5"]


def test_the_page_of_the_model_tells_what_was_measured_of_speed():
    lines = [line for line in (presets.RESULTS.parent / "train.md").read_text().splitlines() if line.startswith("|")]
    assert "\n".join(lines) in (ROOT / "docs" / "model.md").read_text()


def test_the_pages_tell_what_was_measured_of_the_ingredients():
    rows = json.loads(ablation.RESULTS.read_text())
    assert ablation.PAGE.read_text() == ablation.page(rows)
    of_today = [row for row in rows if row["standard"] == ablation.STANDARD]
    for title, table in ablation.tables(of_today).items():
        assert table in (ROOT / "docs" / "model.md").read_text(), title
    measured = {(row["row"], row["epochs"], row["seed"], row["split"]) for row in rows}
    assert measured >= set(ablation.RUNS), "those of all processors, and of all that standard was"
    shown = {(row["row"], row["epochs"], row["seed"], row["split"]) for row in of_today}
    assert shown <= set(ablation.RUNS), "the table of today's has no row that make bench-ablation would not measure"
    assert {row["recipe"] for row in of_today} == {ablation.digest(recipes.recipes()["standard"])}, (
        "another standard needs a name of its own"
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("without blur + without sense", "no row 'without sense': choose from standard, rare classes not repeated, "),
        ("committee of three + without local contrast", "' changes network.columns twice"),
    ],
)
def test_rows_that_do_not_exist_or_contradict_each_other_are_refused(
    row: str, reason: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit):
        ablation.main(["--archive=nowhere", "--rows", row])
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize("row", sorted(set(ablation.ROWS) - {"standard", "drawn signs beside the real ones"}))
def test_every_row_of_the_ablation_changes_what_it_names(row: str, monkeypatch: pytest.MonkeyPatch):
    """In the recipe or in the constants; a field or constant that no longer exists is an error."""
    for path, value in ablation.ROWS[row].items():
        first, _, name = path.partition(".")
        module = one_training.MODULES.get(first)
        if module:
            monkeypatch.setattr(module, name, getattr(module, name))  # So that it is put back.
        before = getattr(module, name) if module else json.dumps(asdict(PRESETS["standard"]))
        changed = one_training.changed(PRESETS["standard"], {path: value})
        assert before != (getattr(module, name) if module else json.dumps(asdict(changed))), path


def test_a_preset_whose_measurement_is_interrupted_goes_on_and_adds_up_its_minutes(drawn: Path, tmp_path: Path):
    """Beside a run of another recipe, which is not taken for this one, and is not forgotten."""
    results, work = tmp_path / "presets.json", tmp_path / "work"
    earlier = [{"preset": "lenet5", "seed": 7, "recipe": {"epochs": 1}}]
    results.write_text(json.dumps(earlier))
    options = [f"--archive={drawn}", f"--work={work}", "--presets=lenet5", "--seeds=7"]
    command = [sys.executable, "-c", MEASURE, str(results), *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as first:
        next(line for line in first.stdout if line.startswith("epoch 2/24 "))
        first.send_signal(signal.SIGTERM)
        told = first.stdout.read()
    assert first.returncode == 1
    assert "epoch 24/24 " not in told
    assert json.loads(results.read_text()) == earlier
    (minutes,) = work.glob("lenet5-7-????????.minutes")
    before = float(minutes.read_text())
    assert before > 0

    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "of an interrupted run" in again
    kept, row = json.loads(results.read_text())
    assert [kept] == earlier, "it was a look at the test set"
    assert (row["preset"], row["seed"], row["epochs"]) == ("lenet5", 7, 24)
    assert row["minutes"] > before
    assert row["clock"] > 0
    assert row["recipe"] == recipes.recipes()["lenet5"]
