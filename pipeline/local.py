"""The graph on this machine: as subprocesses, or each step in a container of the image."""

import io
import logging
import os
import re
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

import psutil
from filelock import FileLock, Timeout
from kfp import local
from kfp.components import load_component_from_file

from mssync import finished, steps
from mssync.demo.chain import KUBEFLOW, ORIGIN, warn_of_another_list
from mssync.errors import InputError, StageFailedError, ToolError
from mssync.lists.locations import scheme_of, without_secrets
from mssync.lists.placing import fetch_list
from mssync.media.store import default_folder
from mssync.params import Params
from pipeline import compiling, graph, resources

logger = logging.getLogger(__name__)

Runner = Literal["subprocess", "docker"]
LIST = Path("list/sources.csv")
LOG, PIPELINE = "log.txt", "pipeline.yaml"
LABEL = "mssync.run"
_PASSED_ON = ("MLFLOW_TRACKING_URI", "MSSYNC_LOCAL_MIRRORS", "MSSYNC_LOG")


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
    sources: str,
    where: Where,
    *,
    source_base: str = "",
    shards: int = 1,
    apply_promotion: bool = False,
    dvc_remote: str = "",
    repeat: bool = False,
) -> Path:
    """Run the whole graph; called again on the same workspace, it goes on from what is finished.

    Args:
        params: The whole file.
        sources: The list: a path, or a URL.
        where: Where and how.
        source_base: Folder or URL that relative sources start from; empty: the list's folder.
        shards: Parts that the list is cut into.
        apply_promotion: Write a promotion into the model registry.
        dvc_remote: Where the version of the data is pushed; empty: nowhere.
        repeat: Work also if nothing changed since the last finished run of the workspace.

    Returns:
        The folder of the run's reports.

    Raises:
        InputError: If the list is missing, a folder cannot be written, or another run is at work.
        ToolError: If there is no Docker engine, or no such image.
        StageFailedError: If a step failed; its report stands in the message.
    """
    graph.check_shards(shards)
    workspace, media = where.workspace.resolve(), default_folder().resolve()
    if (workspace / "dvc.yaml").exists():
        raise InputError(
            f"{workspace} is a workspace of `make demo`, whose outputs DVC keeps: give this run "
            "another name (NAME=..., --workspace)"
        )
    run_id = f"local-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    root, reports = workspace / KUBEFLOW, workspace / "runs" / run_id
    _make_writable(workspace)
    with ExitStack() as stack:
        stack.enter_context(_alone(workspace))
        base = fetch_list(sources, workspace / LIST, base=source_base)
        listed = without_secrets(sources) if scheme_of(sources) else str(Path(sources).resolve())
        warn_of_another_list(workspace / ORIGIN, listed)
        for folder in (root, reports, media):
            _make_writable(folder)
        environment = {steps.RUN_ID: run_id, "MSSYNC_MEDIA": str(media)}
        environment |= {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        if where.runner == "docker":
            environment |= resources.caches(str(workspace))
            _give([root, reports], where.user)
            runner, environment["MSSYNC_IMAGE_DIGEST"] = stack.enter_context(
                docker_runner(where, writable=[workspace, root, reports, media], base=base)
            )
        else:
            runner = local.SubprocessRunner(use_venv=False)
        local.init(runner=runner, pipeline_root=str(root), raise_on_error=True)
        target = graph.Target(where.image, environment)
        compiling.write(graph.build(params, target, shards=shards), reports / PIPELINE)
        pipeline = load_component_from_file(str(reports / PIPELINE))
        with _followed(reports / LOG), _no_step_left():
            try:
                pipeline(
                    sources=str(workspace / LIST),
                    workspace=str(workspace),
                    source_base=base,
                    apply_promotion=apply_promotion,
                    dvc_remote=dvc_remote,
                    repeat=repeat,
                )
            # ValueError: a step that ended too soon for the runner to see has left no output
            except (RuntimeError, ValueError) as error:
                raise StageFailedError(_told(reports, str(error))) from error
            except KeyboardInterrupt as error:
                raise StageFailedError(_told(reports, "the run was stopped")) from error
    given = finished.given_to(reports)
    expected = ["shard"] if given and given.like else graph.reports(shards)
    # a container that is gone before it is asked counts as a success for the runner
    if not all((reports / name / steps.DONE).exists() for name in expected):
        raise StageFailedError(_told(reports, "a step ended without a report"))
    return reports


def _told(reports: Path, otherwise: str) -> str:
    failed = [f"  {failure}" for failure in steps.failures(reports)] or [f"  {otherwise}"]
    return "\n".join(
        [
            f"the run failed ({reports}):",
            *failed,
            "Finished clips and models are kept: the same command goes on from here",
        ]
    )


@contextmanager
def _alone(workspace: Path) -> Iterator[None]:
    """Within, no other run works in the workspace."""
    try:
        with FileLock(workspace / ".lock", blocking=False):
            yield
    except Timeout as error:
        raise InputError(
            f"another run works in {workspace}: wait for it, or take another workspace (NAME=..., "
            "--workspace)"
        ) from error


@contextmanager
def _no_step_left() -> Iterator[None]:
    """Within, SIGTERM is an interrupt; in the end, no step works on without its run."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                process.terminate()


def _give(folders: Sequence[Path], user: str) -> None:
    """Make folders those of the containers' user, where it is not this one."""
    if not user:
        return
    try:
        uid, gid = (int(part) for part in user.split(":"))
        for folder in folders:
            os.chown(folder, uid, gid)
    except ValueError as error:
        raise InputError(f"--user is uid:gid in numbers, found {user!r}") from error
    except PermissionError as error:
        raise InputError(
            f"only root may run containers as another user ({user}): leave --user out"
        ) from error


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


@contextmanager
def docker_runner(
    where: Where, *, writable: Sequence[Path], base: str
) -> Iterator[tuple[local.DockerRunner, str]]:
    """A runner as strict as the cluster's pods, and the image's digest.

    In the end no container of it is left, whatever happened.

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
    outermost = [one for one in writable if not set(one.parents) & set(writable)]
    mounts = [Mount(str(folder), str(folder), type="bind") for folder in outermost]
    if not scheme_of(base) and not any(Path(base).is_relative_to(one) for one in outermost):
        mounts.append(Mount(base, base, type="bind", read_only=True))
    name = f"{os.getpid()}-{time.time_ns()}"
    strict: Mapping[str, Any] = {
        "user": user,
        "network_mode": where.network,
        "mounts": mounts,
        "read_only": True,
        "tmpfs": {"/tmp": ""},
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "labels": {LABEL: name},
    }
    try:
        client = docker.from_env()
        image = client.images.get(where.image)
    except docker.errors.ImageNotFound as error:
        raise ToolError(
            f"the engine has no image {where.image}: build it (make image), or name one (--image)"
        ) from error
    except docker.errors.DockerException as error:
        raise ToolError(
            f"no Docker engine answers ({error}): start one, set DOCKER_HOST, or take "
            "--runner subprocess"
        ) from error
    check = "import os, sys; sys.exit(next((f for f in sys.argv[1:] if not os.access(f, 2)), 0))"
    folders = [str(folder) for folder in writable]
    try:
        client.containers.run(where.image, ["python", "-c", check, *folders], remove=True, **strict)
        yield local.DockerRunner(**strict), str(image.id)
    except docker.errors.ContainerError as error:
        raise InputError(
            f"user {user} cannot write {error.stderr.decode().strip()} from within a container: "
            "make the folder theirs, or name another user (--user) or --workspace"
        ) from error
    except docker.errors.DockerException as error:
        raise ToolError(f"{where.image} does not run: {error}") from error
    finally:
        for container in client.containers.list(filters={"label": f"{LABEL}={name}"}):
            container.kill()
        client.close()


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
        for handler in logging.getLogger().handlers:
            handler.addFilter(_not_of_kubeflow)
        yield


def _not_of_kubeflow(record: logging.LogRecord) -> bool:
    """Kubeflow speaks through the root logger, of folders that it calls workspaces."""
    return record.name != "root" or record.levelno >= logging.WARNING
