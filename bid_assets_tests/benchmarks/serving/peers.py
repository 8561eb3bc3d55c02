"""What the service is measured against, besides MLflow: an endpoint that does nothing, and one that scores by DataFrame."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson
import pandas as pd
import xgboost as xgb
from fastapi import FastAPI, Request, Response

from bid_assets_tests.benchmarks.serving import BOOSTER, NAMES

app = FastAPI()
_booster = xgb.Booster(model_file=os.environ[BOOSTER])
_booster.feature_names = orjson.loads(Path(os.environ[NAMES]).read_bytes())
_booster.set_param("nthread", 1)


@app.post("/empty")
async def empty(request: Request) -> Response:
    """Takes the body and answers: no parsing, no validation, nothing."""
    await request.body()
    return Response(b"{}", media_type="application/json")


@app.post("/parsed")
async def parsed(body: dict[str, Any]) -> dict[str, Any]:
    """The usual way of writing an empty endpoint: the body as JSON, a dictionary back."""
    return {"columns": len(body)}


@app.post("/frame")
async def frame(request: Request) -> Response:
    """Rows as pandas has them (`columns`, `data`), scored by DataFrame."""
    asked = orjson.loads(await request.body())
    rows = pd.DataFrame(asked["data"], columns=asked["columns"])
    chances = _booster.predict(xgb.DMatrix(rows))
    return Response(orjson.dumps({"predictions": chances.tolist()}), media_type="application/json")
