"""What a data set must satisfy before anything is trained on it: one Great Expectations suite over the manifest.

``measure`` adds to the manifest what a single row cannot show (how many splits share a content or a track), so that
every rule is an expectation on a column and appears in the data docs as such.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import great_expectations as gx
import great_expectations.expectations as gxe
import pandas as pd
from great_expectations.core import ExpectationSuite

SPLITS = ("train", "validation", "test")
SMALLEST_SIDE, LARGEST_SIDE = 15, 4096
"""Pixels; the benchmark promises 15 to 250, and other cameras see more."""

TOLERATED_LEAK = 0.999
"""Share of images that must stand in one split only.

Eight images of the official test set are also frames of training track 14/00023: a known flaw of the benchmark that a
warning reports and that must not stop a run.
"""

OFFENDERS = 10
"""How many offending files a finding lists."""

FEWEST_IMAGES = 10
"""Training images that a class should have; with fewer, nothing is learned about it."""

SMALLEST_WEIGHT, LARGEST_WEIGHT = 0.05, 10.0
"""Share of the training images that a class should have, as a multiple of an equal share; GTSRB has 0.23 to 2.5."""


@dataclass(frozen=True)
class Declared:
    """What is known of a set beyond its manifest."""

    classes: int
    images: int | None = None
    """How many there have to be; None where nobody said."""


@dataclass(frozen=True)
class Finding:
    """One expectation that was not met."""

    rule: str
    severity: str
    """``critical`` stops the run, ``warning`` is reported."""
    observed: str
    offenders: tuple[str, ...]

    def __str__(self) -> str:
        """Say it in one line."""
        listed = f": {', '.join(self.offenders)}" if self.offenders else ""
        return f"{self.rule} ({self.observed}){listed}"


def measure(manifest: pd.DataFrame) -> pd.DataFrame:
    """Add what needs the whole set.

    In how many splits each content and each group stands, how many classes each content and each track has, and of the
    training images how many their class has, and how many times its equal share that is.
    """
    measured = manifest.copy()
    contents = measured.groupby("content", sort=False)
    measured["content_splits"] = contents["split"].transform("nunique")
    measured["content_classes"] = contents["class_id"].transform("nunique")
    # An empty track means that the archive does not tell, not that all such images show one sign.
    tracks = measured["track"].where(measured["track"] != "", measured["file"])
    measured["track_classes"] = measured.groupby(tracks, sort=False)["class_id"].transform("nunique")
    groups = measured["group"].fillna(measured["file"])
    measured["group_splits"] = measured.groupby(groups, sort=False)["split"].transform("nunique")
    training = measured["class_id"].where(measured["split"] == "train")
    measured["class_images"] = training.map(training.value_counts())
    measured["class_weight"] = measured["class_images"] * (training.nunique() / max(1, training.count()))
    return measured


def suite(declared: Declared) -> ExpectationSuite:
    """Build the suite for data with classes 0 to ``classes - 1``."""
    rules = [*_labels(declared.classes), *_counts(declared), *_images(), *_separation()]
    return ExpectationSuite(name="traffic signs", expectations=rules)


def _critical(expectation: Any, rule: str, **arguments: Any) -> Any:
    return expectation(severity="critical", meta={"rule": rule}, **arguments)


def _warning(expectation: Any, rule: str, **arguments: Any) -> Any:
    return expectation(severity="warning", meta={"rule": rule}, **arguments)


def _labels(classes: int) -> list[Any]:
    known = list(range(classes))
    present = [
        _critical(
            gxe.ExpectColumnDistinctValuesToContainSet,
            f"every class has {split} images",
            column="class_id",
            value_set=known,
            row_condition=f'split=="{split}"',
            condition_parser="pandas",
        )
        for split in SPLITS
    ]
    return [
        *present,
        _critical(
            gxe.ExpectColumnValuesToBeInSet,
            f"labels are classes 0 to {classes - 1}",
            column="class_id",
            value_set=known,
        ),
        _critical(gxe.ExpectColumnValuesToBeInSet, "a track shows one class", column="track_classes", value_set=[1]),
        _critical(gxe.ExpectColumnValuesToBeInSet, "splits are known", column="split", value_set=list(SPLITS)),
    ]


def _counts(declared: Declared) -> list[Any]:
    total = [
        _critical(gxe.ExpectTableRowCountToEqual, f"the set has the declared {count} images", value=count)
        for count in (declared.images,)
        if count is not None
    ]
    return [
        *total,
        _warning(
            gxe.ExpectColumnValuesToBeBetween,
            f"every class has {FEWEST_IMAGES} training images or more",
            column="class_images",
            min_value=FEWEST_IMAGES,
        ),
        _warning(
            gxe.ExpectColumnValuesToBeBetween,
            f"every class has {SMALLEST_WEIGHT} to {LARGEST_WEIGHT:.0f} times its equal share of training images",
            column="class_weight",
            min_value=SMALLEST_WEIGHT,
            max_value=LARGEST_WEIGHT,
        ),
    ]


def _images() -> list[Any]:
    sides = [
        _critical(
            gxe.ExpectColumnValuesToBeBetween,
            f"{side}s are {SMALLEST_SIDE} to {LARGEST_SIDE} pixels",
            column=side,
            min_value=SMALLEST_SIDE,
            max_value=LARGEST_SIDE,
        )
        for side in ("width", "height")
    ]
    roi = [
        _critical(
            gxe.ExpectColumnPairValuesAToBeGreaterThanB,
            f"the region of interest lies inside the image ({larger} above {smaller})",
            column_A=larger,
            column_B=smaller,
            or_equal=larger in ("width", "height"),
        )
        for larger, smaller in (
            ("roi_right", "roi_left"),
            ("roi_bottom", "roi_top"),
            ("width", "roi_right"),
            ("height", "roi_bottom"),
        )
    ]
    corner = [
        _critical(
            gxe.ExpectColumnValuesToBeBetween,
            f"the region of interest lies inside the image ({edge} at 0 or above)",
            column=edge,
            min_value=0,
        )
        for edge in ("roi_left", "roi_top")
    ]
    return [
        _critical(gxe.ExpectColumnValuesToBeNull, "every file can be decoded", column="error"),
        *sides,
        *roi,
        *corner,
        _warning(
            gxe.ExpectColumnValuesToBeBetween,
            "images are neither black nor white",
            column="brightness",
            min_value=0.02,
            max_value=0.98,
        ),
        _warning(gxe.ExpectColumnValuesToBeBetween, "images show something", column="contrast", min_value=0.01),
    ]


def _separation() -> list[Any]:
    once = {"value_set": [1]}
    return [
        _critical(gxe.ExpectColumnValuesToBeUnique, "every file is listed once", column="file"),
        _critical(
            gxe.ExpectColumnValuesToBeInSet,
            "no track, or group of images that look alike, stands in two splits",
            column="group_splits",
            **once,
        ),
        _critical(gxe.ExpectColumnValuesToBeInSet, "equal pictures have one class", column="content_classes", **once),
        _critical(
            gxe.ExpectColumnValuesToBeInSet,
            f"no content stands in two splits (for {TOLERATED_LEAK:.1%} of the images)",
            column="content_splits",
            mostly=TOLERATED_LEAK,
            **once,
        ),
        _warning(gxe.ExpectColumnValuesToBeInSet, "no content stands in two splits", column="content_splits", **once),
        _warning(gxe.ExpectColumnValuesToBeUnique, "no picture appears twice", column="content"),
    ]


def validate(manifest: pd.DataFrame, declared: Declared, docs: str) -> list[Finding]:
    """Hold a manifest against the suite and write data docs below the folder ``docs``; returns what is not met."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    batches = context.data_sources.add_pandas("manifest").add_dataframe_asset("manifest")
    definition = gx.ValidationDefinition(
        name="traffic signs",
        data=batches.add_batch_definition_whole_dataframe("whole"),
        suite=context.suites.add(suite(declared)),
    )
    context.validation_definitions.add(definition)
    site = {
        "class_name": "SiteBuilder",
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": docs},
    }
    context.add_data_docs_site("docs", site)
    format_: Any = {"result_format": "COMPLETE", "unexpected_index_column_names": ["file", "row"]}
    checkpoint = gx.Checkpoint(
        name="traffic signs",
        validation_definitions=[definition],
        actions=[gx.checkpoint.UpdateDataDocsAction(name="docs", site_names=["docs"])],
        result_format=format_,
    )
    context.checkpoints.add(checkpoint)
    outcome = checkpoint.run(batch_parameters={"dataframe": measure(manifest)})
    (run,) = outcome.run_results.values()
    return [_finding(result) for result in run.results if not result.success]


def _finding(result: Any) -> Finding:
    details, config = result.result, result.expectation_config
    files: Sequence[Any] = details.get("unexpected_index_list") or ()
    if "unexpected_count" in details:
        observed = f"{details['unexpected_count']} of {details['element_count']} images"
    elif config.type == "expect_table_row_count_to_equal":
        observed = f"{details['observed_value']} images"
    elif "missing_count" in details:
        listed = ", ".join(map(str, details["partial_missing_list"]))
        observed = f"{details['missing_count']} missing: {listed}"
    else:
        observed = str(result.exception_info)[:300]
    offenders = tuple(_offender(entry) for entry in files[:OFFENDERS])
    return Finding(config.meta["rule"], config.severity.value, observed, offenders)


def _offender(entry: Mapping[str, Any]) -> str:
    """Name an image, with the line of the table that lists it, where there is one."""
    row = entry["row"]
    return str(entry["file"]) if pd.isna(row) else f"{entry['file']} (row {int(row)})"
