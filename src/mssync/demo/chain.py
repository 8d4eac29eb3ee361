"""The whole chain by one command: on the synthetic corpus, or on a user's own list.

The demo runs in the project's folder. A user's list runs in `runs/<name>/`, a DVC project of its
own that shares the demo's code and DVC cache and never touches its outputs.
"""

import logging
import os
import re
import shutil
from contextlib import nullcontext
from pathlib import Path

import platformdirs

from mssync import records, versions
from mssync.demo import corpus
from mssync.demo.server import serve
from mssync.download.addresses import MIRRORS
from mssync.download.takedown import EMPTY
from mssync.errors import InputError
from mssync.lists.placing import place_list
from mssync.lists.sources import BASE

logger = logging.getLogger(__name__)

SOURCES = Path("data/sources.csv")
TAKEDOWN = Path("data/takedown.csv")
ORIGIN = "made-from.txt"
# Kubeflow's own artifacts: the mark of a workspace that is not DVC's.
KUBEFLOW = "kfp"
DOWNLOAD = "download-videos"
# 11 minutes of 14 people: enough for the syncers to know speakers they never heard.
_CORPUS = corpus.CorpusSpec(speakers=14, clips_per_speaker=5, test_speakers=2, val_speakers=2)
_SHARED = ("params.yaml", "dvc.yaml", ".dvcignore")


def corpus_folder() -> Path:
    """Where demo corpora are kept: `$MSSYNC_DEMO`, else a folder in the user's cache."""
    named = os.environ.get("MSSYNC_DEMO")
    return Path(named) if named else Path(platformdirs.user_cache_dir("mssync")) / "demo"


def demo_corpus(*, workers: int) -> Path:
    """The demo's corpus, made or completed where it has to be."""
    return corpus.make(corpus_folder(), _CORPUS, workers=workers)


def run_demo(project: Path, *, workers: int, retry: bool = False) -> Path:
    """Make the demo corpus, serve it while it is downloaded, and run what has to be run.

    Args:
        project: The project's folder.
        workers: Processes that make the corpus.
        retry: Download again what is listed, though the list did not change.

    Returns:
        The folder with the outputs: the project's.

    Raises:
        InputError: If `project` is not the project's folder.
        ToolError: If a stage fails.
    """
    _check_project(project)
    made = demo_corpus(workers=workers)
    place_list(made / "sources.csv", project / SOURCES)
    _begin_takedown(project)
    needs_server = retry or DOWNLOAD in versions.pending(project)
    with serve(made) if needs_server else nullcontext("") as url:
        versions.repro(
            project,
            environment={BASE: url, MIRRORS: "127.0.0.1"},
            force=DOWNLOAD if retry else "",
        )
    return project


def run_sources(project: Path, sources: Path, *, name: str, retry: bool = False) -> Path:
    """Run the chain on a user's own list, in a workspace of its own.

    Args:
        project: The project's folder.
        sources: The list; relative sources start from its folder.
        name: Name of the workspace, `runs/<name>`; one that exists goes on with its own
            `params.yaml`.
        retry: Download again what is listed, though the list did not change.

    Returns:
        The workspace.

    Raises:
        InputError: If `project` is not the project's folder, the list is missing, the name could
            not be a folder's, or the folder is a workspace of the Kubeflow graph.
        ToolError: If a stage fails.
    """
    _check_project(project)
    if not sources.is_file():
        found = "is a folder" if sources.is_dir() else "does not exist"
        raise InputError(f"{sources} {found}: name a list of sources (docs/sources.md)")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise InputError(
            f"a workspace cannot be called {name!r}: name it with letters, digits, . _ - "
            "(NAME=..., --name)"
        )
    workspace = project / "runs" / name
    if (workspace / KUBEFLOW).exists():
        raise InputError(
            f"{workspace} is a workspace of `make run-local`: give this run another name (NAME=...)"
        )
    workspace.mkdir(parents=True, exist_ok=True)
    versions.init_workspace(workspace, cache=(project / ".dvc" / "cache").resolve())
    for file in _SHARED:
        if file != "params.yaml" or not (workspace / file).exists():
            shutil.copyfile(project / file, workspace / file)
    if not (workspace / "src").is_symlink():
        (workspace / "src").symlink_to(Path("..") / ".." / "src")
    warn_of_another_list(workspace / ORIGIN, sources.resolve())
    place_list(sources, workspace / SOURCES)
    _begin_takedown(workspace)
    versions.repro(
        workspace,
        environment={BASE: str(sources.resolve().parent)},
        force=DOWNLOAD if retry else "",
    )
    return workspace


def _begin_takedown(workspace: Path) -> None:
    """Make an empty list of what must not come back, where there is none."""
    if not (workspace / TAKEDOWN).exists():
        records.write_text(workspace / TAKEDOWN, EMPTY)


def _check_project(project: Path) -> None:
    if not (project / "dvc.yaml").is_file() or not (project / "src" / "mssync").is_dir():
        raise InputError(
            f"{project.resolve()} is not the project's folder (it has no dvc.yaml and src/mssync): "
            "go there"
        )


def warn_of_another_list(note: Path, sources: Path | str) -> None:
    """Note in a workspace which list it follows, and say so when that was another one."""
    before = note.read_text().strip() if note.exists() else str(sources)
    if before != str(sources):
        logger.warning(
            "%s was made from %s and now follows %s; NAME=... keeps them apart",
            note.parent,
            before,
            sources,
        )
    note.write_text(f"{sources}\n")
