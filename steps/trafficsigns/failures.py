"""How a step fails when it was given what it cannot work with: one line for people, one file for SageMaker, exit 1.

The file is ``failure`` for training jobs ("How Amazon SageMaker processes training output") and ``message`` for
processing jobs ("Build your own processing container"), both in ``/opt/ml/output``; a step need not know which kind of
job it runs as, so it writes both.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

logger = logging.getLogger(__name__)

_LONGEST_REASON = 1024
"""Bytes of a reason that SageMaker shows; it cuts off the rest."""


_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""Errors of writing and reading, as opposed to opening: full, over its quota, broken."""


class StepError(Exception):
    """Report an expected failure.

    The text is the line that people read: it names the thing, the place and the way out.
    """


class Parser(argparse.ArgumentParser):
    """The arguments of a step. One that is refused fails the job as well, and SageMaker is told which."""

    def error(self, message: str) -> NoReturn:
        """Leave the message as the reason, print it with the usage, and exit with 2."""
        write_reason(message)
        super().error(message)


def run(body: Callable[[], None]) -> int:
    """Run a step's body and turn an expected failure into one line.

    Returns the exit code: 0 when ``body`` returns, 1 when it raises ``StepError``, an ``OSError`` that knows its file
    (missing, unreadable), or one that speaks of the disk, which never knows one. In the second case the reason goes to
    stderr as one line, whatever the logging is set to, and to SageMaker as ``write_reason`` describes. Every other
    exception is a defect and propagates.
    """
    try:
        body()
    except StepError as error:
        reason = str(error)
    except OSError as error:
        if error.filename is None and error.errno not in _OF_THE_DISK:
            raise
        reason = f"{error.filename or 'the disk'}: {error.strerror}"
    else:
        return 0
    reason = " ".join(reason.split())
    sys.stderr.write(f"{reason}\n")
    write_reason(reason)
    return 1


def write_reason(reason: str) -> None:
    """Leave a reason, one line, where SageMaker looks for it, if this process runs as a job.

    The folder is ``SM_OUTPUT_DIR`` where that is set, else ``/opt/ml/output``; where it does not exist, nothing is
    written. Raises nothing on a full or read-only disk: the reason itself must stay the last word.
    """
    directory = Path(os.environ.get("SM_OUTPUT_DIR", "/opt/ml/output"))
    if not directory.is_dir():
        return
    shortened = reason.encode()[:_LONGEST_REASON].decode(errors="ignore")
    for name in ("failure", "message"):
        try:
            (directory / name).write_text(shortened, encoding="utf-8")
        except OSError as error:
            logger.warning("could not write %s: %s", directory / name, error.strerror)
