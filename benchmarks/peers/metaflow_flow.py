"""Five steps that do nothing, as a Metaflow flow; its local runner gives each a process of its own."""

from evidence import note_process
from metaflow import FlowSpec, step


class NoopFlow(FlowSpec):
    """A chain of five."""

    @step
    def start(self) -> None:
        """Run first."""
        note_process()
        self.next(self.second)

    @step
    def second(self) -> None:
        """Run second."""
        note_process()
        self.next(self.third)

    @step
    def third(self) -> None:
        """Run third."""
        note_process()
        self.next(self.fourth)

    @step
    def fourth(self) -> None:
        """Run fourth."""
        note_process()
        self.next(self.end)

    @step
    def end(self) -> None:
        """Run last."""
        note_process()


if __name__ == "__main__":
    NoopFlow()
