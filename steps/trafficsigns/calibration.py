"""Temperature scaling: probabilities that are right as often as they say."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

_SMALLEST_TEMPERATURE, _LARGEST_TEMPERATURE = 0.05, 20.0


def loss(logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], temperature: float) -> float:
    """Return the mean negative log-likelihood of labels ``[n]`` under logits ``[n, classes]`` over a temperature."""
    scaled = logits.astype(np.float64) / temperature
    return float(np.mean(logsumexp(scaled, axis=1) - scaled[np.arange(len(labels)), labels]))


def fit_temperature(logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> float:
    """Find the temperature that gives logits ``[n, classes]`` the lowest negative log-likelihood of labels ``[n]``.

    Dividing logits by it changes no decision, only the confidence. Source: Guo et al., "On calibration of modern neural
    networks", ICML 2017.
    """
    bounds = np.log([_SMALLEST_TEMPERATURE, _LARGEST_TEMPERATURE])
    found = minimize_scalar(lambda power: loss(logits, labels, float(np.exp(power))), bounds=bounds, method="bounded")
    return float(np.exp(found.x))
