"""What a model goes through beyond the test set, each measure on something whose value is known."""

import tarfile
import time

import pytest

from trafficsigns import archive, latency, trials


def test_latency_is_the_medians_ratio_of_model_to_reference():
    slow = iter([0.05, *[0.006] * 1000])
    found = latency.measure(lambda _: time.sleep(next(slow)), lambda _: time.sleep(0.002), b"picture")
    # Sleeping takes no less than it is told to, and on a crowded machine more; the first call only warms up.
    assert 6 <= found.p50_milliseconds <= found.p99_milliseconds
    assert 2 <= found.reference_p50_milliseconds < found.p50_milliseconds
    assert found.ratio == pytest.approx(found.p50_milliseconds / found.reference_p50_milliseconds)


def test_an_archive_is_as_large_as_what_is_sent_packed_or_not(tmp_path):
    folder = tmp_path / "model"
    (folder / "1" / "variables").mkdir(parents=True)
    (folder / "1" / "saved_model.pb").write_bytes(bytes(1_500_000))
    (folder / "1" / "variables" / "variables.index").write_bytes(bytes(500_000))
    assert trials.size(folder) == 2.0
    with tarfile.open(folder / archive.ARCHIVE, "w:gz") as packed:
        packed.add(folder / "1", "1")
    assert trials.size(folder) == (folder / archive.ARCHIVE).stat().st_size / 1e6 < 0.1
