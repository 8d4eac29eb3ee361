"""Where does an evaluation spend its time?

    python -m bench.evaluate WORKSPACE [--media FOLDER] [--params FILE] [--json FILE]

Runs `mssync.stages.evaluate` as it is on a finished workspace (`data/dataset`, `models/`) and
takes the time of its parts, each without those it calls. Nothing in the workspace is changed:
results go to a folder that is removed, no champion is asked for, nothing is tracked.
"""

import functools
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import torch
import typer

from mssync.cli import guarded
from mssync.media.store import MediaStore, default_folder
from mssync.metrics import bootstrap
from mssync.params import load
from mssync.records import GALLERY
from mssync.stages import _failures, _gallery, _rollouts, _scores, evaluate
from mssync.timing import FRAME_RATE_HZ

# What is timed: module, function, and the part that it is counted with.
PARTS: tuple[tuple[ModuleType, str, str], ...] = (
    (_scores, "generate", "generation"),
    (_scores, "baselines_of", "baselines"),
    (_scores, "score_sync", "synchrony: syncers"),
    (_scores, "score_frechet", "Fréchet distances"),
    (_scores, "score_dynamics", "dynamics"),
    (_scores, "coupling_values", "dynamics"),
    (_scores, "rigidity_values", "dynamics"),
    (bootstrap, "mean", "bootstrap"),
    (bootstrap, "clustered_mean", "bootstrap"),
    (bootstrap, "normalised", "bootstrap"),
    (_failures, "judge", "failure detectors"),
    (_rollouts, "roll_out", "long roll-outs"),
    (_gallery, "entries", "page: clips"),
    (_gallery, "page", "page: tables and curves"),
    (evaluate, "write_gallery", "page: written"),
)
REST = "everything else: reading, models, reports"


class Stopwatch:
    """Time by part; a part that another one calls is not counted with it."""

    def __init__(self) -> None:
        self.wall_s: dict[str, float] = defaultdict(float)
        self.processor_s: dict[str, float] = defaultdict(float)
        self._parts = [REST]
        self._since = (time.perf_counter(), time.process_time())

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Count what runs within with a part."""
        self._stop()
        self._parts.append(part)
        try:
            yield
        finally:
            self._stop()
            self._parts.pop()

    def _stop(self) -> None:
        now = (time.perf_counter(), time.process_time())
        self.wall_s[self._parts[-1]] += now[0] - self._since[0]
        self.processor_s[self._parts[-1]] += now[1] - self._since[1]
        self._since = now

    def timed(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        """The function, counted with a part."""

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the function takes
            with self.of(part):
                return function(*args, **kwargs)

        return run


@contextmanager
def watched(watch: Stopwatch) -> Iterator[None]:
    """Time the functions of `PARTS` wherever they are called."""
    with ExitStack() as back:
        for module, name, part in PARTS:
            function = getattr(module, name)
            setattr(module, name, watch.timed(function, part))
            back.callback(setattr, module, name, function)
        yield


def measure(workspace: Path, params_file: Path, media: Path) -> dict[str, Any]:
    """Evaluate once, and say what took how long."""
    params = load(params_file)
    run = params.run.model_copy(update={"device": "cpu"})
    with tempfile.TemporaryDirectory() as folder:
        paths = params.paths.model_copy(update={"tracking_uri": f"sqlite:///{folder}/mlflow.db"})
        watch = Stopwatch()
        with watched(watch), watch.of(REST):
            report = evaluate.run(
                workspace / "data" / "dataset",
                workspace / "models" / "syncers",
                workspace / "models" / "generator",
                Path(folder) / "evaluation",
                params.evaluate,
                run=run,
                paths=paths,
                store=MediaStore(media),
            )
        page_bytes = (Path(folder) / "evaluation" / GALLERY).stat().st_size
    minutes = report["sequences"] * report["frames"] / FRAME_RATE_HZ / 60
    wall_s, processor_s = sum(watch.wall_s.values()), sum(watch.processor_s.values())
    return {
        "sequences": report["sequences"],
        "frames": report["frames"],
        "minutes": minutes,
        "systems": 1 + len(report["baselines"]),
        "threads": torch.get_num_threads(),
        "page_mb": page_bytes / 1e6,
        "wall_s": wall_s,
        "processor_s": processor_s,
        "processor_s_a_sequence": processor_s / report["sequences"],
        "processor_s_a_minute": processor_s / minutes,
        "parts": {
            part: {"wall_s": watch.wall_s[part], "processor_s": watch.processor_s[part]}
            for part in sorted(watch.wall_s, key=lambda each: -watch.processor_s[each])
        },
    }


def main(
    workspace: Annotated[Path, typer.Argument(help="Folder that the chain ran in.")],
    media: Annotated[Path | None, typer.Option(help="Media store; else MSSYNC_MEDIA.")] = None,
    params: Annotated[Path, typer.Option(help="Parameter file.")] = Path("params.yaml"),
    out: Annotated[Path | None, typer.Option("--json", help="File to write.")] = None,
) -> None:
    """Measure the parts of an evaluation."""
    text = json.dumps(measure(workspace, params, media or default_folder()), indent=1)
    typer.echo(text)
    if out:
        out.write_text(text + "\n")


if __name__ == "__main__":
    guarded(lambda: typer.run(main))
