#!/usr/bin/env python3
"""Hold a manifest against the data expectations, before any training is paid for.

Reads the manifest's parts and dataset.json as steps/preprocess.py writes them and writes, below the output folder:

  validation.json   what was expected and not met, with the first offending files
  docs/             Great Expectations' data docs: open index.html
  baseline.json     statistics of the training images that later traffic is compared with, if these are good
  data-quality/     the same as SageMaker Model Monitor writes it: statistics.json and constraints.json

Exit code 1, with the reasons, when an expectation of severity "critical" is not met; warnings are only reported.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

# Set before the import: a job must not tell anybody that it runs.
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from trafficsigns import data_quality, failures, manifest
from trafficsigns.expectations import SPLITS, Declared, Finding, suite, validate
from trafficsigns.failures import StepError

logger = logging.getLogger("validate")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step; returns the exit code."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    # Great Expectations reports its own progress at this level, which drowns ours.
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    return failures.run(lambda: check(arguments.manifest_dir, arguments.output_dir, arguments.declared_images))


def _parser() -> argparse.ArgumentParser:
    parser = failures.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--manifest-dir",
        type=Path,
        default=Path("/opt/ml/processing/input/manifest"),
        help="folder with the manifest (default: %(default)s)",
    )
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=Path("/opt/ml/processing/output/validation"),
        help="folder for what is written (default: %(default)s)",
    )
    parser.add_argument(
        "--declared-images",
        type=int,
        default=0,
        help="how many images the set has to have; 0: nobody said (default: %(default)s)",
    )
    return parser


def check(manifest_dir: Path, output_dir: Path, declared_images: int = 0) -> None:
    """Validate the manifest and write the outcome.

    Raises ``StepError`` when the manifest cannot be read, lacks a part, or a critical expectation is not met; the
    outcome is written in the last case too.
    """
    if declared_images < 0:
        raise StepError(f"--declared-images is {declared_images}: expected 0 or more")
    notes = _notes(manifest_dir / manifest.NOTES)
    rows = _read(manifest_dir, notes["images"])
    try:
        _judge(rows, notes, output_dir, declared_images)
    except OSError as error:
        if error.filename is not None:
            raise
        # A full disk does not say which file it had no place for.
        raise StepError(f"{output_dir} cannot be written: {error.strerror or error}") from error


def _judge(rows: pd.DataFrame, notes: dict[str, Any], output_dir: Path, declared_images: int) -> None:
    output_dir.mkdir(parents=True, exist_ok=True)
    declared = Declared(len(notes["class_names"]), declared_images or None)
    # Great Expectations writes to absolute places only.
    findings = [*validate(rows, declared, str((output_dir / "docs").resolve())), *_strangers(notes)]
    critical = [finding for finding in findings if finding.severity == "critical"]
    # The one beyond Great Expectations' own is that every image file is listed.
    expectations = len(suite(declared).expectations) + 1
    _write(output_dir / "validation.json", outcome(rows, notes, findings, expectations))
    for finding in findings:
        logger.info("%s: %s", finding.severity, finding)
    # One of an earlier run would speak for other data.
    (output_dir / "baseline.json").unlink(missing_ok=True)
    shutil.rmtree(output_dir / "data-quality", ignore_errors=True)
    if critical:
        raise StepError(_summary(critical))
    write_baselines(output_dir, rows)
    logger.info("%d images meet the expectations, %d warnings", len(rows), len(findings))


def outcome(
    rows: pd.DataFrame, notes: Mapping[str, Any], findings: Sequence[Finding], expectations: int
) -> dict[str, Any]:
    """Lay out ``validation.json``: what was looked at, against how many expectations, and what is not met."""
    return {
        "success": not any(finding.severity == "critical" for finding in findings),
        "images": len(rows),
        "class_names": notes["class_names"],
        "splits": {split: int((rows["split"] == split).sum()) for split in SPLITS},
        "expectations": expectations,
        "findings": [asdict(finding) for finding in findings],
    }


def write_baselines(output_dir: Path, rows: pd.DataFrame) -> None:
    """Write what later traffic is compared with: what the training images are like."""
    train = rows[rows["split"] == "train"]
    folder = output_dir / "data-quality"
    folder.mkdir()
    _write(folder / "statistics.json", data_quality.statistics(train))
    _write(folder / "constraints.json", data_quality.constraints(train))
    _write(output_dir / "baseline.json", baseline(rows))


def _notes(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise StepError(f"{path} does not exist: expected the manifest that steps/preprocess.py writes")
    try:
        notes = json.loads(path.read_text(encoding="utf-8"))
        return {
            "class_names": list(notes["class_names"]),
            "images": int(notes["images"]),
            "unlisted": int(notes["unlisted"]),
            "first_unlisted": [str(name) for name in notes["first_unlisted"]],
        }
    except (ValueError, KeyError, TypeError) as error:
        raise StepError(f"{path} is not what steps/preprocess.py writes ({error!r}): run it again") from error


def _read(folder: Path, expected: int) -> pd.DataFrame:
    """Read all machines' parts, ordered by file, as one machine's would be."""
    parts = sorted(folder.glob(manifest.PARTS))
    if not parts:
        raise StepError(f"{folder} holds no {manifest.PARTS}: expected the manifest that steps/preprocess.py writes")
    table = pa.concat_tables([_part(path) for path in parts])
    if len(table) != expected:
        raise StepError(f"{folder} tells of {len(table)} images where the data set has {expected}: a part is missing")
    rows: pd.DataFrame = table.sort_by([("file", "ascending"), ("row", "ascending")]).to_pandas()
    return rows


def _part(path: Path) -> pa.Table:
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise StepError(f"{path} is not a whole Parquet file ({error}): run steps/preprocess.py again") from error
    if missing := [column for column in manifest.COLUMNS if column not in table.schema.names]:
        raise StepError(f"{path} lacks the columns {', '.join(missing)}: was it written by steps/preprocess.py?")
    return table.select(manifest.COLUMNS)


def _strangers(notes: dict[str, Any]) -> list[Finding]:
    """Report image files that lie in the data set and that no annotation lists."""
    if not notes["unlisted"]:
        return []
    observed = f"{notes['unlisted']} files are not"
    return [Finding("every image file is listed", "warning", observed, tuple(notes["first_unlisted"]))]


def _summary(critical: Sequence[Finding]) -> str:
    count = f"{len(critical)} data expectation{'s are' if len(critical) > 1 else ' is'} not met"
    return f"{count}: {'; '.join(map(str, critical))}"


def baseline(rows: pd.DataFrame) -> dict[str, Any]:
    """Summarise the training images: class shares, and quantiles of brightness and contrast (0 to 1)."""
    train = rows[rows["split"] == "train"]
    points = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99]
    return {
        "images": len(train),
        "class_shares": {str(k): v for k, v in train["class_id"].value_counts(normalize=True).sort_index().items()},
        "quantiles": {
            column: {str(point): value for point, value in train[column].quantile(points).items()}
            for column in ("brightness", "contrast")
        },
    }


def _write(path: Path, content: Any) -> None:
    beside = path.with_suffix(".new")
    try:
        beside.write_text(json.dumps(content, indent=1, allow_nan=False))
        beside.rename(path)
    finally:
        beside.unlink(missing_ok=True)


if __name__ == "__main__":
    raise SystemExit(main())
