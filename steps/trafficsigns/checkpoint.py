"""A training run's state on disk, so that a job that lost its machine goes on where it was.

SageMaker keeps ``/opt/ml/checkpoints`` in S3 under a prefix that other runs share. Each run therefore has a folder
named by a digest of everything that decides its outcome; it never meets another run's state, and a finished run leaves
none.
"""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

logger = logging.getLogger(__name__)

Arrays = list[npt.NDArray[Any]]


def digest(parts: Iterable[bytes]) -> str:
    """Return 16 hexadecimal digits that differ when any part, or the border between two, differs."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(hashlib.sha256(part).digest())
    return whole.hexdigest()[:16]


class Checkpoint:
    """The latest state of one run: lists of arrays and a list of plain records."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / "state.npz"
        self._part = directory / "state.part.npz"

    def prepare(self) -> None:
        """Make the run's folder; raises ``OSError``, with the place, where nothing could be written into it."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._part.touch()
        self._part.unlink()

    def save(self, arrays: Sequence[Arrays], history: list[dict[str, Any]]) -> None:
        """Replace the stored state, whole or not at all; raises ``OSError`` where it cannot be written."""
        content = {f"{group}/{index}": array for group, part in enumerate(arrays) for index, array in enumerate(part)}
        self._directory.mkdir(parents=True, exist_ok=True)
        try:
            np.savez(self._part, allow_pickle=False, history=np.array(json.dumps(history)), **content)
            self._part.replace(self._path)
        finally:
            # A half that a full disk left would be brought to S3, and stay there.
            self._part.unlink(missing_ok=True)

    def restore(self) -> tuple[list[Arrays], list[dict[str, Any]]] | None:
        """Return what was saved last, or nothing if nothing was, the run is over, or the file did not survive."""
        if self._path.is_file() and self._path.stat().st_size == 0:
            return None
        try:
            with np.load(self._path, allow_pickle=False) as stored:
                arrays: dict[str, Arrays] = {}
                for name in stored.files:
                    if name != "history":
                        # The archive keeps the order in which it was written.
                        arrays.setdefault(name.split("/")[0], []).append(stored[name])
                return list(arrays.values()), json.loads(str(stored["history"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            logger.warning("%s cannot be read (%s): training starts from the beginning", self._path, error)
            return None

    def remove(self) -> None:
        """Forget the run: it is finished.

        SageMaker brings every change here to S3, but no deletion, so the file is emptied.
        """
        if self._path.exists():
            self._path.write_bytes(b"")
