"""Processes that share the work: what becomes of it when one of them dies."""

import os
import signal

import pytest

from trafficsigns.crew import Crew
from trafficsigns.failures import StepError
from trafficsigns.sources import open_archive


def same(archive, task):
    return task


def die(archive, task):
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_death_of_a_process_is_one_line_while_it_works_and_afterwards(few, tmp_path):
    folder = few(classes=2).zip(tmp_path / "zips")
    with Crew(open_archive(folder), (folder, None), 2) as hands:
        assert list(hands.map(same, range(100))) == list(range(100))
        with pytest.raises(StepError, match=r"a worker process was killed, .* --workers"):
            list(hands.map(die, range(100)))
        with pytest.raises(StepError, match=r"a worker process was killed, .* --workers"):
            hands.map(same, range(100))
