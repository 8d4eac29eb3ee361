"""What the card of a registered model tells: from the files of the chain that made it."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from mssync import tracking
from mssync.params import Paths
from mssync.render.model_card import Facts, markdown
from mssync.trained import checkpoint

# Where a chain keeps things in its workspace (`dvc.yaml`).
_CHECKPOINT = Path("models/generator/generator")
_DATASET = Path("data/dataset/dataset.json")
_DATA_CARD = Path("data/card/card.json")


def card(
    decision: Mapping[str, Any],
    *,
    workspace: Path,
    metrics: Path,
    run_id: str,
    artifact: str,
    paths: Paths,
) -> str:
    """Put a card together, in Markdown.

    A file that is not there, or is of another model or version, is left out, and the card says so.

    Args:
        decision: What `promote` decided.
        workspace: Folder that the chain ran in.
        metrics: `metrics.json` of `evaluate`.
        run_id: The MLflow run that holds the checkpoint.
        artifact: Its folder among the run's artifacts.
        paths: Names the MLflow store and the model.

    Raises:
        ToolError: If the store cannot be used.
    """
    sha256 = str(decision["challenger"]["sha256"])
    lineage = tracking.lineage_of(paths.tracking_uri, run_id)
    revision = lineage.get("dataset_revision", decision["dataset_revision"])
    missing = list[str]()
    sizes, parameters = None, None
    folder = workspace / _CHECKPOINT
    if not (folder / checkpoint.WEIGHTS).exists():
        missing.append(f"Sizes and parameters: there is no {_CHECKPOINT}.")
    elif checkpoint.sha256(folder) != sha256:
        missing.append(f"Sizes and parameters: {_CHECKPOINT} holds another model.")
    else:
        sizes = _read(folder / checkpoint.METADATA, "Sizes", missing)
        parameters = _parameters(folder / checkpoint.WEIGHTS, missing)
    dataset = _read(workspace / _DATASET, "Splits", missing, revision=revision)
    data_card = _read(workspace / _DATA_CARD, "Licences, languages", missing, revision=revision)
    scored = _read(metrics, "Scores", missing)
    if scored is not None and scored["challenger"]["sha256"] != sha256:
        missing.append(f"Scores: {metrics.name} is of another model.")
        scored = None
    if "image_digest" not in lineage:
        missing.append("Container image: none, or one that MSSYNC_IMAGE_DIGEST did not name.")
    return markdown(
        Facts(
            name=paths.model_name,
            sha256=sha256,
            run_id=run_id,
            artifact=artifact,
            decision=decision,
            lineage=lineage,
            checkpoint=sizes,
            parameters=parameters,
            dataset=dataset,
            data_card=data_card,
            scored=scored,
            missing=missing,
        )
    )


def _read(
    path: Path, what: str, missing: list[str], *, revision: str | None = None
) -> dict[str, Any] | None:
    """What a JSON file holds; None, and a sentence more in `missing`, where it is of no use."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        missing.append(f"{what}: {path.name} cannot be read ({type(error).__name__}).")
        return None
    if revision is not None and content.get("revision") != revision:
        missing.append(f"{what}: {path.name} is of another version of the dataset.")
        return None
    return content


def _parameters(weights: Path, missing: list[str]) -> int | None:
    """How many numbers a file of weights holds, by its header."""
    try:
        with safe_open(weights, framework="numpy") as file:
            names = file.keys()
            return sum(int(math.prod(file.get_slice(name).get_shape())) for name in names)
    except (OSError, SafetensorError) as error:
        missing.append(f"Parameters: {weights.name} cannot be read ({type(error).__name__}).")
        return None
