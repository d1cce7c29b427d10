"""Five tasks that do nothing, as a Prefect flow: in threads, its default, or with ``processes`` in a pool of them."""

import sys
import time

from evidence import note_process, note_seconds
from prefect import flow, task
from prefect.task_runners import ProcessPoolTaskRunner


@task(persist_result=False)
def noop(earlier: int) -> int:
    """Count on."""
    note_process()
    return earlier + 1


@flow(name="noop")
def chain() -> None:
    """Chain the five by their results."""
    future = noop.submit(0)
    for _ in range(4):
        future = noop.submit(future)
    future.result()


if __name__ == "__main__":
    run = chain.with_options(task_runner=ProcessPoolTaskRunner()) if "processes" in sys.argv else chain
    start = time.perf_counter()
    run()
    note_seconds(time.perf_counter() - start)
