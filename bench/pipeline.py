"""What the pipeline costs besides its work: compiling, and starting a step.

    python -m bench.pipeline [--json FILE]

A step that does nothing but what every step does (imports of `mssync`, log, report) runs on each of
Kubeflow's local runners, and as a plain process of the same code beside them.
"""

import io
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer
from kfp import dsl, local

from components._base import step
from mssync.errors import ToolError
from mssync.params import load
from mssync.steps import RUN_ID
from pipeline import compiling, graph, resources
from pipeline.local import Where, docker_runner

STEPS = 6
ROUNDS = 3
PLAIN = """
from mssync import log, steps
log.set_up()
with steps.step("nothing", {workspace!r}):
    pass
"""


@step
def nothing(workspace: str, number: int) -> None:
    """Do what every step does, and nothing else.

    Args:
        workspace: Folder that all steps share.
        number: Tells the steps apart.
    """
    from mssync import log, steps

    log.set_up()
    with steps.step("nothing", workspace):
        pass


def measure_compiling(folder: Path) -> dict[str, float]:
    """Seconds and kilobytes of the paper's graph, by number of shards."""
    params = load(Path("params.cluster.yaml"))
    figures = dict[str, float]()
    for shards in (1, 8, graph.MAX_SHARDS):
        file = folder / "pipeline.yaml"
        seconds = _best(
            lambda shards=shards, file=file: compiling.write(  # type: ignore[misc]
                graph.build(
                    params, graph.Target("mssync:dev", table=resources.load()), shards=shards
                ),
                file,
            )
        )
        figures[f"compile_{shards}_shards_s"] = seconds
        figures[f"compile_{shards}_shards_kb"] = file.stat().st_size / 1000
    return figures


def measure_steps(folder: Path, image: str) -> dict[str, float]:
    """Seconds of an empty step: plain, on the subprocess runner, on the Docker runner."""
    os.environ[RUN_ID] = "bench"
    plain = [sys.executable, "-c", PLAIN.format(workspace=str(folder))]
    figures = {
        "plain_step_s": _best(lambda: subprocess.run(plain, check=True, capture_output=True))
    }
    runners = {"subprocess": local.SubprocessRunner(use_venv=False)}
    with ExitStack() as stack:
        try:
            where = Where(folder, "docker", image)
            runners["docker"], _ = stack.enter_context(
                docker_runner(where, writable=[folder], base=str(folder))
            )
        except ToolError as error:
            typer.echo(f"docker: not measured: {error}", err=True)
        return figures | _measure_runners(runners, figures["plain_step_s"], folder, image)


def _measure_runners(
    runners: Mapping[str, Any], plain_s: float, folder: Path, image: str
) -> dict[str, float]:
    figures = dict[str, float]()
    for name, runner in runners.items():
        local.init(runner=runner, pipeline_root=str(folder / "kfp"))
        pipeline = _empty_steps(image)
        with redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
            seconds = _best(lambda pipeline=pipeline: pipeline(workspace=str(folder)))  # type: ignore[misc]
        figures[f"{name}_step_s"] = seconds / STEPS
        figures[f"{name}_over_plain"] = figures[f"{name}_step_s"] / plain_s
    return figures


def _empty_steps(image: str) -> Callable[..., object]:
    @dsl.pipeline(name="nothing")
    def pipeline(workspace: str) -> None:
        before = None
        for number in range(STEPS):
            task = nothing(workspace=workspace, number=number).set_container_image(image)
            before = task.after(before) if before else task

    made: Callable[..., object] = pipeline
    return made


def _best(work: Callable[[], object]) -> float:
    """Shortest of some rounds, in seconds."""
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="File to write.")] = None,
    image: Annotated[str, typer.Option(envvar="MSSYNC_IMAGE")] = "mssync:dev",
) -> None:
    """Measure, print, and write JSON where it is asked for."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        figures = measure_compiling(folder) | measure_steps(folder, image)
    for name, value in figures.items():
        typer.echo(f"{name:<28}{value:>10.3f}")
    if json_file:
        json_file.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
