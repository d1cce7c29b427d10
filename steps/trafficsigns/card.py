"""The model card: what a model is for, what it was made from and what it reached, from its evaluation.

As JSON it follows the schema that SageMaker's model cards have, and in a second form the narrower one of the cards that
belong to model packages; as Markdown it is for people. Sources: Mitchell et al., "Model cards for model reporting",
FAT* 2019; SageMaker developer guide, "Model card JSON schema" and "Model package model card schema".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from trafficsigns import gate
from trafficsigns.report import count, decimal, percent, setting

Json = dict[str, Any]

_TEMPLATE = Path(__file__).with_name("card.md.j2")

_LONG, _LINE, _NAME = 2048, 1024, 63
"""Characters that the schema allows a text, a line and a name."""

_BARS, _MATRIX = 50, 20
"""Classes that a chart shows, and a matrix, which by the schema has no more rows."""

PURPOSE = "To tell which of {classes} traffic signs a picture shows, with a calibrated probability for each."
USES = (
    "Pictures of one sign each, cropped to it with a small border, of the classes that it was trained on. A picture "
    "of anything else is answered as one of these classes too. Not meant for use in a vehicle: neither the model nor "
    "the data have been assessed for that."
)
RISK = "The risk lies in what is done with the answers, which whoever deploys the model has to rate."
ETHICS = (
    "The pictures show signs, not people. Countries, seasons and kinds of damage that the training images lack are "
    "recognised less well, and no figure here tells how much less."
)


def content(evaluation: Mapping[str, Any]) -> Json:
    """Lay out the content of a SageMaker model card, version 1.0.0 of its schema, from ``evaluation.json``."""
    return {"model_overview": {**_overview(evaluation), **_creator(evaluation)}, **_rest(evaluation)}


def of_package(evaluation: Mapping[str, Any]) -> Json:
    """Lay out the content of a model package's card: its schema has less to say about the model itself."""
    return {"model_overview": _creator(evaluation), **_rest(evaluation)}


def text(card: Json) -> str:
    """Write a card as SageMaker's API takes it: one line of JSON."""
    return json.dumps(card, allow_nan=False, ensure_ascii=False)


def markdown(evaluation: Mapping[str, Any]) -> str:
    """Write the card for people; the same evaluation gives the same text."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATE.parent),
        # Markdown, not HTML; names that hold its signs are escaped by the filter below.
        autoescape=False,  # noqa: S701
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "decimal": decimal, "count": count, "setting": setting, "plain": plain}
    return environment.get_template(_TEMPLATE.name).render(
        evaluation,
        card=content(evaluation),
        weakest=_weakest(evaluation["classes"])[:5],
        meanings={criterion.name: criterion.meaning for criterion in gate.CRITERIA},
    )


def plain(value: object) -> str:
    """Escape what Markdown would take for its own signs."""
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", " ".join(str(value).split()))


def _overview(evaluation: Mapping[str, Any]) -> Json:
    training, metrics = evaluation["training"], evaluation["metrics"]
    network = training.get("architecture", "unknown")
    weights = f" with {count(training['parameters'])} parameters" if "parameters" in training else ""
    description = (
        f"The network {network}{weights}. Of {count(metrics['images'])} test images it recognises "
        f"{percent(metrics['accuracy'])}."
    )
    return {
        "model_description": description[:_LINE],
        "problem_type": "Multiclass classification of images",
        "algorithm_type": f"Convolutional neural network ({network})"[:_LINE],
    }


def _creator(evaluation: Mapping[str, Any]) -> Json:
    job = evaluation["lineage"].get("training job")
    return {"model_creator": f"training job {job}"[:_LINE]} if job else {}


def _rest(evaluation: Mapping[str, Any]) -> Json:
    """Lay out the sections that both schemas have."""
    return {
        "intended_uses": {
            "purpose_of_model": PURPOSE.format(classes=len(evaluation["classes"])),
            "intended_uses": USES,
            "factors_affecting_model_efficiency": _factors(evaluation)[:_LONG],
            "risk_rating": "Unknown",
            "explanations_for_risk_rating": RISK,
        },
        "training_details": _training(evaluation),
        "evaluation_details": [_evaluation(evaluation)],
        "additional_information": {
            "ethical_considerations": ETHICS,
            "caveats_and_recommendations": _caveats(evaluation)[:_LONG],
            "custom_details": _pairs(
                {**evaluation["lineage"], **evaluation["parameters"], **_prefixed("version", evaluation["versions"])}
            ),
        },
    }


def _factors(evaluation: Mapping[str, Any]) -> str:
    robustness = evaluation["robustness"]
    kinds: dict[str, list[float]] = {}
    for each in robustness["corrupted"]:
        kinds.setdefault(each["kind"], []).append(each["accuracy"])
    means = sorted((sum(values) / len(values), kind) for kind, values in kinds.items())
    listed = ", ".join(f"{kind} {percent(mean, 1)}" for mean, kind in means)
    return (
        f"What spoils pictures. Recognised on average over three severities, where {percent(robustness['clean'], 1)} "
        f"are recognised unspoilt: {listed}."
    )


def _caveats(evaluation: Mapping[str, Any]) -> str:
    weakest = _weakest(evaluation["classes"])[:5]
    listed = ", ".join(f"{row['class_name']} {percent(row['recall'], 1)}" for row in weakest)
    unseen = [row["class_name"] for row in evaluation["classes"] if not row["support"]]
    unmeasured = f" Without a test image, hence unmeasured: {', '.join(unseen)}." if unseen else ""
    return f"The weakest classes, by the share of their images that is recognised: {listed}.{unmeasured}"


def _training(evaluation: Mapping[str, Any]) -> Json:
    training = evaluation["training"]
    kept = [row for row in training.get("history") or () if row.get("epoch") == training.get("selected_epoch")]
    metrics = [
        {"name": name, "value": value}
        for row in kept
        for name, value in row.items()
        if name != "epoch" and isinstance(value, int | float)
    ]
    parameters = [
        {"name": name, "value": str(value)[:255]}
        for name, value in (training.get("hyperparameters") or {}).items()
        if str(value)
    ]
    job: Json = {"user_provided_training_metrics": metrics[:50], "user_provided_hyper_parameters": parameters[:100]}
    if data := evaluation["lineage"].get("data"):
        job["training_datasets"] = [data[:_LINE]]
    return {
        "objective_function": {
            "function": {"function": "Minimize", "facet": "Loss", "condition": "cross entropy on the training images"},
            "notes": "The epoch kept is the one with the lowest validation loss at its fitted temperature.",
        },
        "training_observations": _observed(training)[:_LINE],
        "training_job_details": job,
    }


def _observed(training: Mapping[str, Any]) -> str:
    said = [
        f"{label} {setting(training[key])}"
        for label, key in (("seed", "seed"), ("selected epoch", "selected_epoch"), ("temperature", "temperature"))
        if training.get(key) is not None
    ]
    return f"Of the training is known: {', '.join(said) or 'nothing'}."


def _evaluation(evaluation: Mapping[str, Any]) -> Json:
    verdict = "passes" if evaluation["gate"]["passed"] else "does not pass"
    missed = [bound["name"] for bound in evaluation["gate"]["bounds"] if not bound["passed"]]
    details = {
        "name": "Test split",
        "evaluation_observation": f"The model {verdict} the quality gate.{_listed(' Not kept: ', missed)}",
        "metadata": _pairs(_prefixed("sha256", evaluation["digests"])),
        "metric_groups": [
            {"name": "Measures", "metric_data": [_simple(*pair) for pair in evaluation["metrics"].items()]},
            {"name": "Quality gate", "metric_data": [_bound(each) for each in evaluation["gate"]["bounds"]]},
            {"name": "Classes", "metric_data": _classes(evaluation)},
            {"name": "Calibration", "metric_data": _calibration(evaluation["reliability"])},
            {"name": "Spoilt pictures", "metric_data": _robustness(evaluation["robustness"])},
        ],
    }
    if data := evaluation["lineage"].get("data"):
        details["datasets"] = [data[:_LINE]]
    return details


def _simple(name: str, value: float) -> Json:
    return {"name": name, "type": "number", "value": value}


def _bound(verdict: Mapping[str, Any]) -> Json:
    wanted = verdict["comparison"].replace("_", " ")
    return {
        "name": verdict["name"],
        "type": "boolean",
        "value": verdict["passed"],
        "notes": f"{verdict['metric']} is {decimal(verdict['value'])}, must be {wanted} {decimal(verdict['bound'])}",
    }


def _classes(evaluation: Mapping[str, Any]) -> list[Json]:
    weakest = _weakest(evaluation["classes"])[:_BARS]
    bars = [
        {
            "name": f"{measure} of the weakest classes",
            "type": "bar_chart",
            "value": [row[measure] for row in weakest],
            "x_axis_name": [row["class_name"][:_NAME] for row in weakest],
            "y_axis_name": measure,
        }
        for measure in ("recall", "precision", "f1")
    ]
    matrix = evaluation["confusion_matrix"]
    wrong = {
        row["class_id"]: sum(matrix[row["class_id"]]) - matrix[row["class_id"]][row["class_id"]] for row in weakest
    }
    shown = sorted(sorted(wrong, key=lambda class_id: -wrong[class_id])[:_MATRIX])
    names = [evaluation["classes"][class_id]["class_name"][:_NAME] for class_id in shown]
    confusions = {
        "name": "confusions of the classes with most errors",
        "type": "matrix",
        "value": [[matrix[true][answered] for answered in shown] for true in shown],
        "x_axis_name": names,
        "y_axis_name": names,
        "notes": "True classes by row, answers by column, in images.",
    }
    return [*bars, confusions]


def _calibration(reliability: Sequence[Mapping[str, Any]]) -> list[Json]:
    points = [[group["confidence"], group["accuracy"]] for group in reliability if group["count"]]
    return [_graph("reliability", points, "probability of the answer", "share of right answers")]


def _robustness(robustness: Mapping[str, Any]) -> list[Json]:
    curves: dict[str, list[list[float]]] = {}
    for each in sorted(robustness["corrupted"], key=lambda one: one["severity"]):
        curves.setdefault(each["kind"], [[0, robustness["clean"]]]).append([each["severity"], each["accuracy"]])
    return [_graph(kind, points, "severity", "accuracy") for kind, points in curves.items()]


def _graph(name: str, points: list[list[float]], across: str, up: str) -> Json:
    return {"name": name, "type": "linear_graph", "value": points, "x_axis_name": across, "y_axis_name": up}


def _weakest(classes: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Sort the classes with test images by recall, the lowest first."""
    return sorted((row for row in classes if row["support"]), key=lambda row: (row["recall"], row["class_id"]))


def _pairs(values: Mapping[str, str]) -> dict[str, str]:
    """Fit names and values to what the schema takes for details of one's own."""
    return {re.sub(r"\W", "_", name): str(value)[:_LINE] for name, value in values.items()}


def _prefixed(prefix: str, values: Mapping[str, str]) -> dict[str, str]:
    return {f"{prefix} of {name}": value for name, value in values.items()}


def _listed(before: str, names: Sequence[str]) -> str:
    return f"{before}{', '.join(names)}." if names else ""
