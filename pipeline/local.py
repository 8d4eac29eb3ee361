"""The graph on this machine: as subprocesses, or each step in a container of the image."""

import io
import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from kfp import local
from kfp.components import load_component_from_file

from mssync import steps
from mssync.errors import InputError, StageFailedError, ToolError
from mssync.media.fetch import is_url
from mssync.media.store import default_folder
from mssync.params import Params
from pipeline import compiling, graph, resources

logger = logging.getLogger(__name__)

Runner = Literal["subprocess", "docker"]
LIST = Path("list/sources.csv")
LOG, PIPELINE = "log.txt", "pipeline.yaml"
_PASSED_ON = ("MLFLOW_TRACKING_URI", "MSSYNC_LOG")


@dataclass(frozen=True)
class Where:
    """Where and how a run takes place.

    Attributes:
        workspace: Folder that all steps share; created.
        runner: Steps as subprocesses of this interpreter, or as containers.
        image: Image of the containers.
        network: Docker network of the containers; `none` unless sources are URLs.
        user: `uid:gid` of the containers; empty: this process's own.
    """

    workspace: Path
    runner: Runner
    image: str
    network: str = "none"
    user: str = ""


def run(
    params: Params,
    sources: Path,
    where: Where,
    *,
    source_base: str = "",
    shards: int = 1,
    apply_promotion: bool = False,
) -> Path:
    """Run the whole graph; called again on the same workspace, finished work is not done again.

    Args:
        params: The whole file.
        sources: The list.
        where: Where and how.
        source_base: Folder or URL that relative sources start from; empty: the list's folder.
        shards: Parts that the list is cut into.
        apply_promotion: Write a promotion into the model registry.

    Returns:
        The folder of the run's reports.

    Raises:
        InputError: If the list is missing, or a folder cannot be written.
        ToolError: If there is no Docker engine, or no such image.
        StageFailedError: If a step failed; its report stands in the message.
    """
    workspace, media = where.workspace.resolve(), default_folder().resolve()
    run_id = f"local-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    root, reports = workspace / "kfp", workspace / "runs" / run_id
    base = source_base or str(sources.resolve().parent)
    base = base if is_url(base) else str(Path(base).resolve())
    listed = _place(sources, workspace / LIST)
    for folder in (root, reports, media):
        _make_writable(folder)
    environment = {steps.RUN_ID: run_id, "MSSYNC_MEDIA": str(media)}
    environment |= {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    if where.runner == "docker":
        environment |= resources.caches(str(workspace))
        if where.user:
            for folder in (root, reports):
                folder.chmod(0o777)
        runner, environment["MSSYNC_IMAGE_DIGEST"] = docker_runner(
            where, writable=[workspace, root, reports, media], base=base
        )
    else:
        runner = local.SubprocessRunner(use_venv=False)
    local.init(runner=runner, pipeline_root=str(root), raise_on_error=True)
    target = graph.Target(where.image, environment, cluster=False)
    compiling.write(graph.build(params, target, shards=shards), reports / PIPELINE)
    pipeline = load_component_from_file(str(reports / PIPELINE))
    try:
        with _followed(reports / LOG):
            pipeline(
                sources=str(listed),
                workspace=str(workspace),
                source_base=base,
                apply_promotion=apply_promotion,
            )
    except RuntimeError as error:
        failed = "\n".join(f"  {failure}" for failure in steps.failures(reports))
        raise StageFailedError(
            f"the run failed ({reports}):\n{failed or f'  {error}'}\n"
            "Finished clips and models are kept: the same command goes on from here"
        ) from error
    # a container that is gone before it is asked counts as a success for the runner
    if not (reports / "promote" / steps.DONE).exists():
        raise StageFailedError(f"the runner says that all is well, but {reports} tells otherwise")
    return reports


def _place(sources: Path, target: Path) -> Path:
    try:
        content = sources.read_bytes()
    except OSError as error:
        raise InputError(
            f"the list {sources} cannot be read ({error.strerror}): name a list of sources "
            "(docs/sources.md)"
        ) from error
    _make_writable(target.parent)
    target.write_bytes(content)
    return target


def _make_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written ({error.strerror}): name another --workspace, or make it "
            "yours"
        ) from error


def docker_runner(
    where: Where, *, writable: Sequence[Path], base: str
) -> tuple[local.DockerRunner, str]:
    """A runner as strict as the cluster's pods, and the image's digest.

    Args:
        where: Image, network and user.
        writable: Folders that the steps write, seen under their own paths.
        base: Folder of the sources, mounted for reading; or a URL.

    Raises:
        ToolError: If there is no Docker engine, or no such image.
        InputError: If the user of the containers cannot write a folder.
    """
    import docker
    from docker.types import Mount

    user = where.user or f"{os.getuid()}:{os.getgid()}"
    folders = [str(folder) for folder in writable]
    outermost = [str(one) for one in writable if not set(one.parents) & set(writable)]
    mounts = [Mount(folder, folder, type="bind") for folder in outermost]
    if not is_url(base) and base not in outermost:
        mounts.append(Mount(base, base, type="bind", read_only=True))
    strict: Mapping[str, Any] = {
        "user": user,
        "network_mode": where.network,
        "mounts": mounts,
        "read_only": True,
        "tmpfs": {"/tmp": ""},
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
    }
    try:
        client = docker.from_env()
        found = [image for image in client.images.list() if where.image in image.tags]
    except docker.errors.DockerException as error:
        raise ToolError(
            f"no Docker engine answers ({error}): start one, set DOCKER_HOST, or take "
            "--runner subprocess"
        ) from error
    if not found:
        raise ToolError(
            f"the engine has no image {where.image}: build it (make image), or name one (--image)"
        )
    check = "import os, sys; sys.exit(next((f for f in sys.argv[1:] if not os.access(f, 2)), 0))"
    try:
        client.containers.run(where.image, ["python", "-c", check, *folders], remove=True, **strict)
    except docker.errors.ContainerError as error:
        raise InputError(
            f"user {user} cannot write {error.stderr.decode().strip()} from within a container: "
            "make the folder theirs, or name another user (--user) or --workspace"
        ) from error
    except docker.errors.DockerException as error:
        raise ToolError(f"{where.image} does not start: {error}") from error
    return local.DockerRunner(**strict), str(found[0].id)


class _Console(io.TextIOBase):
    """Keeps all that the runner prints, and shows what a person follows."""

    _SHOWN = re.compile(r"\s*\d\d:\d\d:\d\d( \w+ +mssync|\.\d+ - \w+ - (Executing|.*finished))")
    _COLOUR = re.compile(r"\x1b\[\d*m")

    def __init__(self, kept: TextIO, screen: TextIO) -> None:
        super().__init__()
        self._kept, self._screen, self._line = kept, screen, ""

    def write(self, text: str) -> int:
        """Take a piece of the output."""
        self._kept.write(text)
        *lines, self._line = (self._line + text).split("\n")
        for line in filter(self._SHOWN.match, lines):
            self._screen.write(f"{self._COLOUR.sub('', line).strip()}\n")
        return len(text)


@contextmanager
def _followed(log: Path) -> Iterator[None]:
    """All output of the runner goes to a file, and what matters of it to the screen."""
    with (
        log.open("w") as kept,
        redirect_stdout(_Console(kept, sys.stderr)),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message=".*custom or non-Python base image.*")
        yield
