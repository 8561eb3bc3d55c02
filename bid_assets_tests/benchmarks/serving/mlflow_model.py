"""Run by MLflow's own Python: a booster as a model that MLflow's scoring server serves.

    python mlflow_model.py BOOSTER NAMES FOLDER

MLflow's XGBoost flavor: it makes a DataFrame of each request and predicts from that. No signature, which would cost it more.
"""

import json
import sys
from pathlib import Path

import mlflow.xgboost
import xgboost

booster = xgboost.Booster(model_file=sys.argv[1])
booster.feature_names = json.loads(Path(sys.argv[2]).read_text())
mlflow.xgboost.save_model(booster, sys.argv[3])
