"""A chain of five nodes."""

from evidence import note_process
from kedro.pipeline import Pipeline, node, pipeline


def first() -> int:
    """Begin."""
    note_process()
    return 1


def noop(earlier: int) -> int:
    """Count on."""
    note_process()
    return earlier + 1


def register_pipelines() -> dict[str, Pipeline]:
    """Chain the five by their data sets."""
    nodes = [node(first, None, "data_1")]
    nodes += [node(noop, f"data_{number}", f"data_{number + 1}", name=f"noop_{number}") for number in range(1, 5)]
    return {"__default__": pipeline(nodes)}
