"""Is what the chain uses here in order: parameters, DVC, git, tracking store, media store?"""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mssync import versions
from mssync.doctor.finding import Finding, ok, problem, warning
from mssync.doctor.machine import existing
from mssync.download import secrets
from mssync.errors import MsSyncError
from mssync.media.store import default_folder
from mssync.params import Params, load

STORE_S = 30.0  # importing MLflow takes some seconds of it
_SQLITE = "sqlite:///"
_PASSWORD = re.compile(r"(?<=://)[^@/\s]*@")
_ASK = (
    "import sys\n"
    "from mssync import tracking\n"
    "from mssync.errors import MsSyncError\n"
    "try:\n"
    "    tracking.check(sys.argv[1])\n"
    "except MsSyncError as error:\n"
    "    sys.exit(str(error))\n"
)
_ONE_TRY = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}

# What the chain, its tools and its container read.
VARIABLES = {
    "MSSYNC_MEDIA": "the media store",
    "MSSYNC_DEMO": "the demo's corpus",
    "MSSYNC_LOG": "level of the log",
    "MSSYNC_SECRETS": "file with cookies, proxy, headers",
    "MSSYNC_SECRET_COOKIES": "file with cookies",
    "MSSYNC_SECRET_PROXY": "address of a proxy",
    "MSSYNC_SOURCE_BASE": "where relative sources start from",
    "MSSYNC_LOCAL_MIRRORS": "hosts that may be asked though not public",
    "MSSYNC_AGAIN": "reason codes to try again",
    "MSSYNC_DLIB_MODEL": "the model of the backend dlib",
    "MSSYNC_IMAGE": "the image of Kubeflow's steps",
    "MSSYNC_IMAGE_DIGEST": "its digest, for the lineage",
    "MSSYNC_GIT_SHA": "commit that the image was built from",
    "MSSYNC_GIT_DIRTY": "whether files differed from it",
    "MSSYNC_TEST_CLIPS": "real clips, for tests",
    "MSSYNC_CHROMIUM": "browser, for tests",
    "MLFLOW_TRACKING_URI": "wins over paths.tracking_uri",
    "IMAGEIO_FFMPEG_EXE": "ffmpeg, where none is on PATH",
    "TORCH_HOME": "weights of face_alignment",
    "MSSYNC_WEIGHTS": "weights of face_alignment that an image brings",
    "CUDA_VISIBLE_DEVICES": "GPUs that torch sees",
    "XDG_CACHE_HOME": "caches, the media store among them",
    "TMPDIR": "temporary files",
}
_FILES = ("MSSYNC_DLIB_MODEL", "IMAGEIO_FFMPEG_EXE", "MSSYNC_TEST_CLIPS")
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def params_files(named: Path) -> Iterator[Finding]:
    """The parameter file that is used, and those beside it.

    Args:
        named: The one that is used.
    """
    others = sorted(set(named.parent.glob("params*.yaml")) - {named})
    for file in (named, *others):
        try:
            load(file)
        except MsSyncError as error:
            tell = problem if file == named else warning
            yield tell("parameters", str(error), "set what it names to what it expects")
        else:
            yield ok("parameters", f"{file} fits the schema")


def tools() -> Iterator[Finding]:
    """Whether git and DVC can be used."""
    if shutil.which("git") is None:
        yield warning("git", "there is none", "install git: runs are tagged with the commit")
    else:
        commit = versions.code_version(Path())["git_sha"]
        if commit == "unknown":
            yield warning(
                "git",
                f"{Path.cwd()} is in no git repository, or git does not trust it",
                "runs will not know their code; git says why: git status",
            )
        else:
            yield ok("git", f"commit {commit[:12]}")
    version = versions.dvc(Path(), "--version").strip()
    if not Path(".dvc").is_dir():
        yield warning(
            "dvc",
            f"DVC {version}, but {Path.cwd()} is no DVC project",
            "make demo and make repro run in the project's folder",
        )
    else:
        root = versions.dvc(Path(), "root").strip()
        yield ok("dvc", f"DVC {version}, project {Path(root).resolve()}")


def tracking_store(params: Params | None, *, wall_s: float = STORE_S) -> Iterator[Finding]:
    """Whether the MLflow store answers.

    Args:
        params: Where `paths.tracking_uri` is; `$MLFLOW_TRACKING_URI` wins.
        wall_s: Longest time it may take to answer.
    """
    named = os.environ.get("MLFLOW_TRACKING_URI")
    uri = named or (params.paths.tracking_uri if params else "")
    whose = "$MLFLOW_TRACKING_URI" if named else "paths.tracking_uri"
    if not uri:
        yield warning("tracking", "not looked at: no parameter file names it", "see parameters")
        return
    shown = f"{_PASSWORD.sub('', uri)} ({whose})"
    file = Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None
    if file and not file.exists():
        if os.access(existing(file.parent), os.W_OK):
            yield ok("tracking", f"{shown} is not there yet: the first training makes it")
        else:
            yield problem("tracking", f"{shown} cannot be made", f"name another one: {whose}")
        return
    error = _database_error(file) if file else ""
    error = error or _ask(uri, wall_s)
    if error:
        yield problem(
            "tracking",
            f"{shown}: {_PASSWORD.sub('', error)}",
            f"start it, or name a store that answers: {whose}",
        )
    else:
        yield ok("tracking", f"{shown} answers")


def _database_error(file: Path) -> str:
    """Why a file is no SQLite database; empty if it is one."""
    try:
        connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=5)
        try:
            connection.execute("PRAGMA schema_version").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        return str(error)
    return ""


def _ask(uri: str, wall_s: float) -> str:
    """Why a store does not answer; empty if it does. Asked in a process that can be given up."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _ASK, uri],
            env=os.environ | _ONE_TRY,
            capture_output=True,
            text=True,
            check=False,
            timeout=wall_s,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {wall_s:g} s"
    if not done.returncode:
        return ""
    lines = done.stderr.strip().splitlines()
    return next((line for line in lines if "cannot be used" in line), lines[-1] if lines else "")


def media_store() -> Iterator[Finding]:
    """Whether media can be kept."""
    folder = default_folder()
    there = existing(folder)
    if not there.is_dir():
        yield problem(
            "media store", f"{there} is a file", "name a folder: MSSYNC_MEDIA=/path/to/media"
        )
        return
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        yield problem(
            "media store",
            f"{there} cannot be written: {error.strerror}",
            "name a folder that can: MSSYNC_MEDIA=/path/to/media",
        )
        return
    yield ok("media store", str(folder) if folder.exists() else f"{folder}, not there yet")


def environment() -> Iterator[Finding]:
    """The variables that are set, and whether they can be what they say."""
    for name, meaning in VARIABLES.items():
        if value := os.environ.get(name):
            yield _variable(name, _PASSWORD.sub("", value), meaning)
    for name in sorted(os.environ):
        if name.startswith("MSSYNC_") and name not in VARIABLES:
            yield warning(
                f"${name}", "nothing reads it", f"known are {', '.join(_like(name) or VARIABLES)}"
            )


def _variable(name: str, value: str, meaning: str) -> Finding:
    shown = f"set ({meaning})" if name == secrets.PROXY else f"{value} ({meaning})"
    if name == "MSSYNC_LOG" and value.upper() not in _LEVELS:
        return warning(f"${name}", shown, f"expected one of {', '.join(_LEVELS)}")
    if name in (secrets.FILE, secrets.PROXY, secrets.COOKIES):
        try:
            secrets.load()
        except MsSyncError as error:
            return problem(f"${name}", str(error), "docs/sources.md says what it holds")
    if name in _FILES and not Path(value).exists():
        return problem(f"${name}", f"{shown} does not exist", "name what is there, or unset it")
    return ok(f"${name}", shown)


def _like(name: str) -> list[str]:
    """Known variables of the same second word."""
    return [known for known in VARIABLES if known.split("_")[:2] == name.split("_")[:2]]
