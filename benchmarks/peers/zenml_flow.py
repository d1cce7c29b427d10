"""Five steps that do nothing, as a ZenML pipeline on its local orchestrator."""

import time

from evidence import note_process, note_seconds
from zenml import pipeline, step


@step(enable_cache=False)
def noop(earlier: int) -> int:
    """Count on."""
    note_process()
    return earlier + 1


@pipeline(enable_cache=False)
def chain() -> None:
    """Chain the five by their results."""
    result = 0
    for _ in range(5):
        result = noop(result)


if __name__ == "__main__":
    start = time.perf_counter()
    chain()
    note_seconds(time.perf_counter() - start)
