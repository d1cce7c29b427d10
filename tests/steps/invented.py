"""An evaluation that no model made: every number is another one, so that a figure in the wrong place is noticed."""

import io

import numpy as np
from PIL import Image

from trafficsigns.classes import CLASS_NAMES

CLASSES = ("Stop", "Give way", "No entry", "<script>alert(1)</script> & co")


def png(colour: tuple[int, int, int], side: int = 32) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(buffer, format="PNG")
    return buffer.getvalue()


def evaluation() -> dict:
    """Invented numbers, each one different, so that a figure in the wrong place cannot go unnoticed."""
    return {
        "metrics": {
            "images": 1203,
            "accuracy": 0.951,
            "accuracy_lower": 0.941,
            "accuracy_upper": 0.961,
            "macro_precision": 0.931,
            "macro_recall": 0.921,
            "macro_f1": 0.911,
            "worst_class_recall": 0.501,
            "top5_accuracy": 0.991,
            "negative_log_likelihood": 0.1234,
            "expected_calibration_error": 0.0456,
        },
        "classes": [
            {"class_id": 0, "class_name": CLASSES[0], "support": 900, "precision": 0.97, "recall": 0.98, "f1": 0.975},
            {"class_id": 1, "class_name": CLASSES[1], "support": 301, "precision": 0.81, "recall": 0.85, "f1": 0.83},
            {"class_id": 2, "class_name": CLASSES[2], "support": 0, "precision": None, "recall": None, "f1": None},
            {"class_id": 3, "class_name": CLASSES[3], "support": 2, "precision": 0.4, "recall": 0.5, "f1": 0.444},
        ],
        "confusion_matrix": [[882, 15, 3, 0], [45, 256, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1]],
        "reliability": [
            {"lower": 0.0, "upper": 0.5, "count": 0, "confidence": None, "accuracy": None},
            {"lower": 0.5, "upper": 1.0, "count": 1203, "confidence": 0.97, "accuracy": 0.951},
        ],
        "gate": {
            "passed": False,
            "bounds": [
                {
                    "name": "MinimumAccuracy",
                    "metric": "accuracy_lower",
                    "comparison": "at_least",
                    "bound": 0.95,
                    "value": 0.941,
                    "passed": False,
                },
                {
                    "name": "MaximumCalibrationError",
                    "metric": "expected_calibration_error",
                    "comparison": "at_most",
                    "bound": 0.05,
                    "value": 0.0456,
                    "passed": True,
                },
            ],
        },
        "training": {
            "architecture": "LeNet-5",
            "parameters": 64811,
            "temperature": 0.40878941495112614,
            "selected_epoch": 2,
            "seed": 7,
            "history": [
                {"epoch": 1, "loss": 2.0, "accuracy": 0.5, "validation_loss": 1.5, "validation_accuracy": 0.6},
                {"epoch": 2, "loss": 1.0, "accuracy": 0.8, "validation_loss": None, "validation_accuracy": 0.9},
            ],
            "hyperparameters": {"batch_size": 128},
            "versions": {"tensorflow": "2.21.0"},
        },
        "lineage": {"commit": "3f9a2c1", "data": "s3://bucket/data/5e1f", "training job": "train-17"},
        "robustness": {
            "images": 36,
            "clean": 0.956,
            "mean": 0.789,
            "corrupted": [
                {"kind": kind, "severity": severity, "accuracy": 0.9 - 0.1 * severity + 0.01 * number}
                for number, kind in enumerate(("noise", "blur"))
                for severity in (3, 1, 2)
            ],
        },
        "latency": {
            "p50_milliseconds": 1.23,
            "p99_milliseconds": 4.56,
            "reference_p50_milliseconds": 0.82,
            "ratio": 1.5,
        },
        "champion": None,
        "explanation": {
            "images": 41,
            "covered": 0.123,
            "seen": 0.987,
            "parts": [
                {"name": name, "mean": 0.3 - 0.07 * number, "mean_absolute": 0.311 - 0.021 * number}
                for number, name in enumerate(("centre", "top", "right", "bottom", "left", "surroundings"))
            ],
        },
        "data": {
            "images": 4567,
            "class_names": list(CLASSES),
            "splits": {"train": 2891, "validation": 473, "test": 1203},
            "expectations": 27,
            "findings": [
                {
                    "rule": "no content stands in two splits",
                    "severity": "warning",
                    "observed": "16 of 4567 images",
                    "offenders": ["a<b>.ppm", "b.ppm", "c.ppm", "d.ppm"],
                }
            ],
            "measures": [
                {
                    "name": name,
                    "mean": 0.31 + number,
                    "std_dev": 0.17 + number,
                    "min": 0.02 + number,
                    "max": 0.93 + number,
                    "buckets": [
                        {"lower_bound": 0.1 * low + number, "upper_bound": 0.1 * low + 0.1 + number, "count": 5.0 + low}
                        for low in range(10)
                    ],
                }
                for number, name in enumerate(("brightness", "contrast"))
            ],
            "training_images": {"0": 2000, "1": 880, "3": 11},
        },
        "parameters": {"Seed": "7", "Preset": "fast", "MinimumAccuracy": "0.95"},
        "versions": {"python": "3.12.1", "scipy": "1.16.0"},
        "digests": {"test split": "ab" * 32, "weights": "cd" * 32},
    }


def whole() -> dict:
    """An evaluation of 43 classes with everything that a report can hold, drawn at random."""
    generator = np.random.default_rng(5)
    confusion = np.diag(generator.integers(60, 700, len(CLASS_NAMES)))
    confusion += generator.poisson(0.25, confusion.shape)
    right, support, answered = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    shares = zip(right / support, right / answered, 2 * right / (support + answered), strict=True)
    drawn = evaluation()
    drawn["confusion_matrix"] = confusion.tolist()
    drawn["classes"] = [
        {
            "class_id": number, "class_name": name, "support": int(support[number]),
            "recall": float(recall), "precision": float(precision), "f1": float(f1),
        }
        for number, (name, (recall, precision, f1)) in enumerate(zip(CLASS_NAMES, shares, strict=True))
    ]  # fmt: skip
    edges = np.linspace(0, 1, 16)
    drawn["reliability"] = [
        {"lower": low, "upper": high, "count": 4**place, "confidence": high - 0.02, "accuracy": high - 0.04}
        for place, (low, high) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
    ]
    drawn["training"]["history"] = [
        {
            "epoch": epoch, "loss": 2 / epoch, "accuracy": 1 - 0.5 / epoch,
            "validation_loss": 1.5 / epoch, "validation_accuracy": 1 - 0.3 / epoch,
        }
        for epoch in range(1, 13)
    ]  # fmt: skip
    kinds = ("noise", "blur", "motion", "light", "contrast", "jpeg", "occlusion", "rotation")
    drawn["robustness"]["corrupted"] = [
        {"kind": kind, "severity": severity, "accuracy": 0.95 - 0.03 * place * severity}
        for place, kind in enumerate(kinds)
        for severity in (1, 2, 3)
    ]
    drawn["champion"] = {
        "champion_accuracy": 0.945, "challenger_accuracy": 0.951, "only_champion": 3, "only_challenger": 17,
        "p_value": 0.999, "classes": [{"class_id": 1, "champion": 250, "challenger": 256, "support": 301}],
    }  # fmt: skip
    drawn["data"]["training_images"] = {str(number): int(count) for number, count in enumerate(support)}
    long_name = (
        "s3://a-bucket-with-a-long-name-123456789012/traffic-signs/data/official-0123456789abcdef0123456789abcdef"
    )
    drawn["data"]["findings"][0]["offenders"] = [
        f"GTSRB/Final_Training/Images/00014/00023_{n:05d}.ppm" for n in range(9)
    ]
    drawn["parameters"] |= {"InputData": long_name, "Champion": long_name}
    return drawn
