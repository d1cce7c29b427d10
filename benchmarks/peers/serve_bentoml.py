"""BentoML, one worker; the picture comes as the body, in a file as BentoML hands it over."""

from pathlib import Path
from typing import Annotated

import bentoml
from bentoml.validators import ContentType
from serve_engine import Model


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Signs:
    """The engine as BentoML wants it."""

    def __init__(self) -> None:
        self.model = Model()

    @bentoml.api(route="/invocations")
    def invocations(self, image: Annotated[Path, ContentType("image/png")], /) -> dict:
        """Answer a picture."""
        return {"predictions": self.model.answer(image.read_bytes())}
