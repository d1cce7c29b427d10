"""LitServe on a port with a number of workers; its requests are JSON, so the picture comes in base64."""

import base64
import sys

import litserve
from serve_engine import Model


class Signs(litserve.LitAPI):
    """The engine as LitServe wants it."""

    def setup(self, device: str) -> None:
        """Load the model."""
        self.model = Model()

    def decode_request(self, request: dict) -> bytes:
        """Take the picture out of a request."""
        return base64.b64decode(request["image"])

    def predict(self, picture: bytes) -> dict:
        """Answer a picture."""
        return {"predictions": self.model.answer(picture)}

    def encode_response(self, output: dict) -> dict:
        """Return what predict did."""
        return output


if __name__ == "__main__":
    server = litserve.LitServer(Signs(), accelerator="cpu", workers_per_device=int(sys.argv[2]))
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
