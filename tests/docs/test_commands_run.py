"""Commands of the documentation, run as they stand in a workspace where the chain has run.

What is not run here is run by the test that is named, or says why no test can.
"""

import itertools
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from mssync import tracking
from mssync.data import dataset
from mssync.demo import portrait
from mssync.params import text
from tests.chain import run_chain
from tests.docs.commands import blocks

CLUSTER = "needs a cluster"
REGISTRY = "needs a registry"
NETWORK = "needs the network"
# In this order: what removes clips comes last. With the exit code, where it is not 0 alone.
RUN = {
    "mssync": {0, 2},
    "mssync doctor": {0, 1},
    "mssync doctor --json found.json": {0, 1},
    "mssync weights": {0, 1},
    "mssync funnel": {0},
    "mssync funnel --set min_frames=80": {0},
    "mssync funnel --set max_gap_frames=10 --set min_frames=80 --list": {0},
    "mssync validate": {0},
    "mssync versions": {0},
    "mssync diff 3fa81c": {0},
    "mssync diff 3fa81c 90be12 --list 50 --json diff.json": {0},
    "mssync preflight": {0, 1},
    "mssync offsets": {0},
    "mssync offsets --syncer models/syncers": {0},
    "mssync offsets --syncer models/syncers --sources list.csv --out next.csv": {0},
    "mssync extract-landmarks --manifest data/manifest.parquet --out data/landmarks "
    "--ledger ledger/extract_landmarks": {0},
    "mssync extract-audio --manifest data/manifest.parquet --out data/audio "
    "--ledger ledger/extract_audio": {0},
    "mssync preview CLIP": {0},
    "mssync generate --source me.jpg --audio talk.mp3 --out talk.mp4 --preview me.mp4": {0},
    "mssync promote --metrics evaluation/metrics.json --out promotion/decision.json --explain": {0},
    "mssync promote --metrics evaluation/metrics.json --out promotion/decision.json --apply": {0},
    "mssync rollback --reason 'lips stick on m and b'": {1},  # there is one version only
    "mssync send-runs --workspace .": {0},
    "mlflow artifacts download --run-id RUN --artifact-path recipe/params.yaml --dst-path .": {0},
    "mssync takedown --speaker ada --reason 'by letter, 3 May'": {0},
    "mssync takedown --source https://example.org/talk.mp4 --clip 'interviews/ben.mp4#0-4000'": {0},
}
ELSEWHERE = {
    "git clone": "every check begins with it",
    "git ": "tests/stages/test_chain.py",
    "export ": "a variable",
    "make demo": "tests/demo/test_chain.py",
    "make test": "it would be this",
    "make setup": "every test needs it",
    "make check": "CI runs it",
    "make retry": "tests/demo/test_chain.py",
    "make run-local": "tests/pipeline/test_local.py",
    "make compile": "tests/pipeline/test_graph.py",
    "make mlflow": "tests/tracking",
    "make ablation": "tests/stages/test_chain.py",
    "make image IMAGE=registry": REGISTRY,
    "docker push": REGISTRY,
    "kubectl kustomize": "tests/manifests",
    "kubectl ": CLUSTER,
    "python -m manifests.check": "tests/manifests",
    "python -m pipeline": "tests/pipeline",
    "mssync weights --fetch": NETWORK,
    "mssync evaluate": "tests/stages/test_systems.py",
    "mssync compare": "tests/stages/test_compare.py",
    "mssync reproduce": "tests/stages/test_chain.py",
    "mssync takedown --speaker ada --reason 'by letter, 3 May' --purge": (
        "tests/stages/test_remotes.py"
    ),
    "dvc exp": "tests/stages/test_chain.py",
    "dvc queue": "tests/stages/test_chain.py",
    "dvc ": "tests/stages/test_remotes.py",
    "mlflow artifacts download --run-id RUN --artifact-path recipe/data.dvc": "tests/pipeline",
    "torchrun": "tests/training/test_together.py",
}


def reason(command):
    """Why a command is not run here; empty if there is no reason."""
    begun = [start for start in ELSEWHERE if command.startswith(start)]
    return ELSEWHERE[max(begun, key=len)] if begun else ""


def test_every_command_is_run_or_it_is_said_where_or_why_not(root):
    told = {command.text for command in blocks(root)}
    assert not [command for command in told if command not in RUN and not reason(command)]
    assert not [command for command in RUN if command.startswith("mssync") and command not in told]
    tests = {where for where in ELSEWHERE.values() if where.startswith("tests/")}
    assert not [where for where in tests if not (root / where).exists()]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, small_corpus, tiny):
    """A workspace where the chain has run, and what the documents' names stand for in it."""
    folder = tmp_path_factory.mktemp("docs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        (folder / "params.yaml").write_text(text(tiny))
        run_chain(folder, small_corpus, tiny)
        made = json.loads((folder / "evaluation" / "metrics.json").read_text())["challenger"]
        run_id = tracking.recall_run(made["sha256"])
    splits = dataset.load_clips(folder / "data" / "dataset")
    clips = [clip for split in splits.values() for clip in split]
    revision = dataset.load_metadata(folder / "data" / "dataset")["revision"]
    cv2.imwrite(str(folder / "me.jpg"), cv2.cvtColor(portrait.load_image(), cv2.COLOR_RGB2BGR))
    names = {
        "RUN": run_id,
        "3fa81c": revision,
        "90be12": revision,
        "list.csv": "data/sources.csv",
        "talk.mp3": str(next((small_corpus / "media").rglob("*.mp4"))),
        "CLIP": clips[0].clip_id,
        "ada": clips[0].speaker_id,
        "https://example.org/talk.mp4": clips[1].clip_id,
        "interviews/ben.mp4#0-4000": clips[2].clip_id,
    }
    return folder, names


@pytest.mark.parametrize("command", RUN)
def test_a_command_does_what_it_says(workspace, command):
    folder, names = workspace
    program, *words = shlex.split(command)
    words = [names.get(word, word) for word in words]
    done = subprocess.run(
        [sys.executable, "-m", program, *words],
        cwd=folder,
        env=os.environ | {"MSSYNC_MEDIA": str(folder / "store"), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    said = done.stdout + done.stderr
    assert done.returncode in RUN[command], said
    assert "Traceback" not in said
    written = [word for option, word in itertools.pairwise(words) if option == "--out"]
    assert all((folder / Path(word)).exists() for word in written)
