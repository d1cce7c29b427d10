#!/usr/bin/env python3
"""Hold a manifest against the data expectations, before any training is paid for.

Reads manifest.parquet as steps/preprocess.py writes it and writes, below the output folder:

  validation.json   what was expected and not met, with the first offending files
  docs/             Great Expectations' data docs: open index.html
  baseline.json     statistics of the training images that later traffic is compared with, if these are good

Exit code 1, with the reasons, when an expectation of severity "critical" is not met; warnings are only reported.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

# Set before the import: a job must not tell anybody that it runs.
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

import pandas as pd
import pyarrow

from trafficsigns import failures, manifest
from trafficsigns.classes import CLASS_NAMES
from trafficsigns.expectations import Finding, validate
from trafficsigns.failures import StepError

logger = logging.getLogger("validate")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step; returns the exit code."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    # Great Expectations reports its own progress at this level, which drowns ours.
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    return failures.run(lambda: check(arguments.manifest_dir, arguments.output_dir))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--manifest-dir",
        type=Path,
        default=Path("/opt/ml/processing/input/manifest"),
        help="folder with manifest.parquet (default: %(default)s)",
    )
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=Path("/opt/ml/processing/output/validation"),
        help="folder for what is written (default: %(default)s)",
    )
    return parser


def check(manifest_dir: Path, output_dir: Path) -> None:
    """Validate the manifest and write the outcome.

    Raises ``StepError`` when the manifest cannot be read or a critical expectation is not met; the outcome is written
    in the second case too.
    """
    rows = _read(manifest_dir / manifest.FILE)
    output_dir.mkdir(parents=True, exist_ok=True)
    findings = validate(rows, len(CLASS_NAMES), str(output_dir / "docs"))
    critical = [finding for finding in findings if finding.severity == "critical"]
    outcome = {"success": not critical, "images": len(rows), "findings": [asdict(finding) for finding in findings]}
    _write(output_dir / "validation.json", outcome)
    for finding in findings:
        logger.info("%s: %s", finding.severity, finding)
    # One of an earlier run would speak for other data.
    (output_dir / "baseline.json").unlink(missing_ok=True)
    if critical:
        raise StepError(_summary(critical))
    _write(output_dir / "baseline.json", baseline(rows))
    logger.info("%d images meet the expectations, %d warnings", len(rows), len(findings))


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise StepError(f"{path} does not exist: expected the manifest that steps/preprocess.py writes")
    try:
        rows = pd.read_parquet(path)
    except (pyarrow.ArrowException, ValueError, OSError) as error:
        raise StepError(f"{path} is not a whole Parquet file ({error}): run steps/preprocess.py again") from error
    missing = [column for column in manifest.COLUMNS if column not in rows]
    if missing:
        raise StepError(f"{path} lacks the columns {', '.join(missing)}: was it written by steps/preprocess.py?")
    return rows


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
    beside.write_text(json.dumps(content, indent=1, allow_nan=False))
    beside.rename(path)


if __name__ == "__main__":
    raise SystemExit(main())
