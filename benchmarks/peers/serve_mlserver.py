"""MLServer, the model in its own process; its requests are the V2 protocol's JSON, so the picture comes in base64."""

import asyncio
import base64
import json
import sys

from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput
from serve_engine import Model


class Signs(MLModel):
    """The engine as MLServer wants it."""

    async def load(self) -> bool:
        """Load the model."""
        self.model = Model()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer a picture."""
        data = payload.inputs[0].data
        picture = base64.b64decode((data.root if hasattr(data, "root") else data)[0])
        answer = json.dumps({"predictions": self.model.answer(picture)})
        output = ResponseOutput(name="answer", shape=[1], datatype="BYTES", data=[answer])
        return InferenceResponse(model_name=self.name, outputs=[output])


async def main(port: int) -> None:
    """Serve on a port, the other protocols on the two behind it."""
    settings = Settings(
        host="127.0.0.1", http_port=port, grpc_port=port + 1, metrics_port=port + 2, parallel_workers=0, debug=False
    )
    server = MLServer(settings)
    await server.start([ModelSettings(name="signs", implementation=Signs)])


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
