"""The SageMaker SDK's own driver scripts, laid out as its ModelTrainer lays them out, run unchanged."""

from __future__ import annotations

import importlib.util
import json
import runpy
from pathlib import Path

from embedded_cloud import Cloud
from test_local_jobs import channel, client, embedded, members  # noqa: F401  # fixtures: these tests run on both kinds

SCRIPT = """
import argparse, json, os, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int)
epochs = parser.parse_args().epochs
seen = {name: os.environ[name] for name in ("SM_CHANNELS", "SM_HOSTS", "SM_CURRENT_HOST", "SM_MODEL_DIR")}
seen["data"] = (pathlib.Path(os.environ["SM_CHANNEL_TRAIN"]) / "rows").read_text()
(pathlib.Path(os.environ["SM_MODEL_DIR"]) / "seen").write_text(json.dumps({"epochs": epochs, **seen}))
"""


def upload_drivers(cloud: Cloud) -> None:
    """Put what ModelTrainer would put into the channel ``sm_drivers``, without the seconds that importing it takes."""
    specification = importlib.util.find_spec("sagemaker")
    assert specification is not None
    assert specification.submodule_search_locations
    sdk = Path(specification.submodule_search_locations[0]) / "train"
    for path in (sdk / "container_drivers").rglob("*.py"):
        cloud.put({f"drivers/{path.relative_to(sdk / 'container_drivers')}": path.read_bytes()})
    templates = runpy.run_path(str(sdk / "templates.py"))
    train_script = templates["TRAIN_SCRIPT_TEMPLATE"].format(
        working_dir="cd /opt/ml/input/data/code \n",
        install_requirements="",
        execute_driver=templates["EXECUTE_BASIC_SCRIPT_DRIVER"],
    )
    cloud.put({"drivers/sm_train.sh": train_script, "drivers/distributed.json": "{}"})
    cloud.put({"drivers/sourcecode.json": json.dumps({"entry_script": "train.py"})})


def test_the_sdks_drivers_find_a_container(cloud: Cloud) -> None:
    upload_drivers(cloud)
    cloud.put({"code/train.py": SCRIPT, "train/rows": "1,2"})
    start = "chmod +x /opt/ml/input/data/sm_drivers/sm_train.sh && /opt/ml/input/data/sm_drivers/sm_train.sh"
    described = cloud.train(
        start,
        HyperParameters={"epochs": "3"},
        InputDataConfig=[
            channel(name, cloud.s3(f"{prefix}/"))
            for name, prefix in (("sm_drivers", "drivers"), ("code", "code"), ("train", "train"))
        ],
    )
    assert described["TrainingJobStatus"] == "Completed", described["FailureReason"]
    seen = json.loads(members(cloud.get(described["ModelArtifacts"]["S3ModelArtifacts"]))["seen"])
    assert (seen["epochs"], seen["data"]) == (3, "1,2")
    assert seen["SM_MODEL_DIR"].endswith("/opt/ml/model")
    assert (json.loads(seen["SM_HOSTS"]), seen["SM_CURRENT_HOST"]) == (["algo-1"], "algo-1")
