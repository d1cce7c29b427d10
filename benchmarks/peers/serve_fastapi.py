"""FastAPI with the engine called in the path function, unbatched: what people write first."""

from fastapi import FastAPI, Request
from serve_engine import Model

model = Model()
app = FastAPI()


@app.post("/invocations")
async def invocations(request: Request) -> dict:
    """Answer a picture."""
    return {"predictions": model.answer(await request.body())}
