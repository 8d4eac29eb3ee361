"""Revision of the dataset, version of the code, and DVC: the only file that calls dvc."""

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import yaml

from mssync import records
from mssync.errors import InputError, ToolError
from mssync.ledger import Decision

logger = logging.getLogger(__name__)

# Which part holds a clip is nothing that a model sees.
_SEEN = (
    *("clip_id", "speaker_id", "split", "first_frame", "frames", "audio_shift_rows"),
    *("crop_left_px", "crop_top_px", "crop_side_px", "landmarks_content", "audio_content"),
)


def dataset_revision(
    clips: Iterable[str], decisions: Iterable[Decision], *, smoothing_frames: int
) -> str:
    """The dataset's name: SHA-256 over its sorted logical rows, decisions and split.

    Independent of parts, compression and order; a change of any value that a model sees changes it.

    Args:
        clips: Digests of its clips (`clip_digest`).
        decisions: What `build_dataset` decided.
        smoothing_frames: How landmarks are smoothed as they are read.
    """
    verdicts = sorted(f"{decision.clip_id}\t{decision.reason}" for decision in decisions)
    return records.digest(sorted(clips), verdicts, str(smoothing_frames))


def clip_digest(row: records.Row) -> str:
    """SHA-256 over what a model sees of a row of `records.CLIPS`.

    Digests stand for landmarks and sound.
    """
    return records.digest(*(str(row[name]) for name in _SEEN))


def source_digest(*names: str) -> str:
    """SHA-256 over the library's own source: a model's key changes with the code that makes it.

    Args:
        names: Modules (`pyramid.py`) and packages (`models`) of `mssync`.
    """
    package = Path(__file__).parent
    files = [
        file
        for name in names
        for file in ([package / name] if name.endswith(".py") else (package / name).rglob("*.py"))
    ]
    return records.digest(
        *(
            content
            for file in sorted(files)
            for content in (file.relative_to(package).as_posix(), file.read_bytes())
        )
    )


def code_version(folder: Path) -> dict[str, str]:
    """Git commit of a folder and whether tracked files differ from it.

    Outside git what the image was built from: `$MSSYNC_GIT_SHA` and `$MSSYNC_GIT_DIRTY`, else
    `unknown`.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        built_from = {"git_sha": "MSSYNC_GIT_SHA", "git_dirty": "MSSYNC_GIT_DIRTY"}
        return {name: os.environ.get(built, "unknown") for name, built in built_from.items()}
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no") or ""
    changed = [line for line in changes.splitlines() if not line.endswith("dvc.lock")]
    return {"git_sha": commit.strip(), "git_dirty": str(bool(changed)).lower()}


def _git(folder: Path, *arguments: str) -> str | None:
    if shutil.which("git") is None:
        return None
    result = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False
    )
    return result.stdout if result.returncode == 0 else None


def add_worktree(folder: Path, commit: str) -> None:
    """Check a commit of the project out into a folder of its own; this one stays as it is.

    Args:
        folder: Must not exist.
        commit: SHA-1.

    Raises:
        ToolError: If git fails.
    """
    _git_or_error("worktree", "add", "--detach", str(folder.resolve()), commit)


def _git_or_error(*arguments: str) -> None:
    here = str(Path(__file__).parent)
    try:
        result = subprocess.run(
            ["git", "-C", here, *arguments], capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise ToolError("git is not installed") from error
    if result.returncode:
        raise ToolError(
            f"git {' '.join(arguments)} failed: {result.stderr.strip()}; the code has to be a "
            "clone of the project that has the commit (git fetch --all)"
        )


def share_objects(folder: Path, workspace: Path) -> None:
    """Give a folder the DVC cache and the remotes of a workspace, in place of its own.

    Raises:
        ToolError: If DVC fails.
    """
    shutil.rmtree(folder / ".dvc", ignore_errors=True)
    init_workspace(folder, cache=Path(dvc(workspace, "cache", "dir").strip()))
    for line in dvc(workspace, "config", "--list").splitlines():
        name, _, value = line.partition("=")
        if name.startswith("remote.") or name == "core.remote":
            if name.endswith(".url") and "://" not in value:
                value = str((workspace / ".dvc" / value).resolve())
            dvc(folder, "config", name, value)


def restore(folder: Path, targets: Sequence[str]) -> None:
    """Bring outputs that a folder's `dvc.lock` names out of the cache, or a remote.

    Raises:
        ToolError: If neither has them.
    """
    try:
        dvc(folder, "checkout", "--force", *targets)
    except ToolError:
        dvc(folder, "pull", "--force", *targets)


def commands(folder: Path) -> dict[str, str]:
    """The command of each stage, as the `dvc.yaml` of a folder has it."""
    described = yaml.safe_load((folder / "dvc.yaml").read_text())["stages"]
    return {name: str(stage["cmd"]) for name, stage in described.items()}


def init_workspace(folder: Path, *, cache: Path) -> None:
    """Make a folder a DVC project of its own, without git, that shares a cache.

    Raises:
        ToolError: If DVC fails.
    """
    if (folder / ".dvc").is_dir():
        return
    dvc(folder, "init", "--no-scm")
    for setting in ("core.analytics", "core.check_update"):
        dvc(folder, "config", setting, "false")
    dvc(folder, "cache", "dir", str(cache))


PUBLISHED = Path("data.dvc")
_REMOTE = "published"
# Whose list it is, and who wants out, are not part of a version; nor what is made again from the
# rest: packed windows and measurements, which come and go.
_UNPUBLISHED = (
    *("/data/sources.csv", "/data/takedown.csv", "/data/.*.writing"),
    *("/data/dataset.pack", "/data/dataset.evidence"),
)


def publish(workspace: Path, *, remote: str) -> str:
    """Keep `data/` as a version of DVC, without git and without a stage, and push it.

    `data.dvc` then names the version: `dvc pull` beside it brings the data back. Files are linked
    into DVC's cache where the file system can.

    Args:
        workspace: Its `data/` holds the dataset, its parts and the manifest.
        remote: URL of a remote; empty: nothing is pushed. Keys come from the environment
            (`AWS_ACCESS_KEY_ID` and the like), never from the URL.

    Returns:
        DVC's digest of the data.

    Raises:
        InputError: If the remote's URL holds a password.
        ToolError: If DVC fails.
    """
    if "@" in urlsplit(remote).netloc:
        raise InputError(
            "the DVC remote's URL holds a user name or password: put them into the secret that the "
            "step gets (manifests/README.md), and leave them out of the URL"
        )
    init_workspace(workspace, cache=Path(".dvc") / "cache")
    dvc(workspace, "config", "cache.type", "reflink,hardlink,copy")
    (workspace / ".dvcignore").write_text("\n".join(_UNPUBLISHED) + "\n")
    dvc(workspace, "add", "data")
    if remote:
        dvc(workspace, "remote", "add", "--force", "--default", _REMOTE, remote)
        dvc(workspace, "push", "--remote", _REMOTE, str(PUBLISHED))
    md5 = _published_md5(workspace)
    logger.info("the data are %s %s", md5, f"in {remote}" if remote else "in this workspace alone")
    return md5


@dataclass(frozen=True)
class Objects:
    """A place where DVC keeps files by their digest.

    Attributes:
        url: Of the folder that holds `files/md5`; a path or an address.
        options: What fsspec needs to open it.
    """

    url: str
    options: Mapping[str, str]


_OPTIONS = {"endpointurl": "endpoint_url", "access_key_id": "key", "secret_access_key": "secret"}


def object_stores(folder: Path) -> list[Objects]:
    """The cache of a DVC project, and its remotes; none where the folder is no DVC project.

    Raises:
        ToolError: If DVC fails.
    """
    if not (folder / ".dvc").is_dir():
        return []
    found = [Objects(dvc(folder, "cache", "dir").strip(), {})]
    settings = dict[str, dict[str, str]]()
    for line in dvc(folder, "config", "--list").splitlines():
        name, _, value = line.partition("=")
        if name.startswith("remote."):
            _, remote, setting = name.split(".", 2)
            settings.setdefault(remote, {})[setting] = value
    for given in settings.values():
        url = given.get("url", "")
        if "://" not in url:
            url = str((folder / ".dvc" / url).resolve())
        options = {_OPTIONS[name]: value for name, value in given.items() if name in _OPTIONS}
        found.append(Objects(url, options))
    return found


def pending(folder: Path) -> dict[str, object]:
    """Stages that `repro` would run, with what changed, as `dvc status --json` tells.

    Raises:
        ToolError: If DVC fails.
    """
    status: dict[str, object] = json.loads(dvc(folder, "status", "--json") or "{}")
    return status


def repro(folder: Path, *, environment: Mapping[str, str], force: str = "") -> None:
    """Run the stages whose inputs changed, in order; their output goes to this process's own.

    Args:
        folder: The workspace.
        environment: Variables for the stages.
        force: A stage that runs though nothing changed, before the others.

    Raises:
        ToolError: If a stage fails.
    """
    _release_locks_of_the_dead(folder)
    calls = [["repro", "--force", "--single-item", force]] if force else []
    for arguments in [*calls, ["repro"]]:
        _run_stages(folder, arguments, environment)


def _release_locks_of_the_dead(folder: Path) -> None:
    """Forget DVC's locks if nobody who holds one is alive.

    DVC does so itself, but takes a killed process that its parent has not reaped yet, or another
    process of the same number, for alive.
    """
    path = folder / ".dvc" / "tmp" / "rwlock"
    try:
        locks = json.loads(path.read_text())
        holders = {
            holder["pid"]
            for lock in locks.values()
            for holder in [*lock.get("read", []), lock.get("write")]
            if holder
        }
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return
    if not any(_is_dvc(pid) for pid in holders):
        path.unlink(missing_ok=True)


def _is_dvc(pid: int) -> bool:
    """Whether a live process of that number runs DVC."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and "dvc" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def _run_stages(folder: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    result = subprocess.run(
        _command(*arguments), cwd=folder, env=_environment() | dict(environment), check=False
    )
    if result.returncode:
        raise ToolError(
            "a stage failed; its own message stands above. Finished stages and clips are kept: "
            "the same command goes on from here"
        )


def dvc(folder: Path, *arguments: str) -> str:
    """Run a DVC command and return what it prints.

    Raises:
        ToolError: If it fails, with its own words.
    """
    result = subprocess.run(
        _command(*arguments),
        cwd=folder,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise ToolError(
            f"dvc {' '.join(arguments)} failed: {(result.stderr or result.stdout).strip()}"
        )
    return result.stdout


def _command(*arguments: str) -> Sequence[str]:
    return [sys.executable, "-m", "dvc", *arguments]


def _environment() -> dict[str, str]:
    """DVC's stages find `mssync` where this interpreter is, whatever PATH says."""
    here = str(Path(sys.executable).parent)
    return os.environ | {
        "PATH": f"{here}{os.pathsep}{os.environ.get('PATH', '')}",
        "DVC_NO_ANALYTICS": "1",
    }


def lineage(
    *, dataset_revision: str, params_hash: str, seed: int, workspace: Path
) -> dict[str, str]:
    """Where a run comes from: the tags that every run carries.

    What is not known has no tag: `dataset_dvc_md5` without DVC, `image_digest` where no image, or
    one that was not named by its digest, runs the stage (`$MSSYNC_IMAGE_DIGEST`), `kfp_run_id`
    outside Kubeflow (`$KFP_RUN_ID`).

    Args:
        dataset_revision: Of the dataset it is trained or scored on.
        params_hash: Of the whole parameter file's values.
        seed: Seed of the run.
        workspace: Folder whose `dvc.lock` or `data.dvc`, where there is one, names the DVC hash of
            the dataset, or of all data.
    """
    tags = {
        **code_version(Path(__file__).parent),
        "dataset_revision": dataset_revision,
        "dataset_dvc_md5": _dvc_md5(workspace, "build-dataset") or _published_md5(workspace),
        "params_hash": params_hash,
        "seed": str(seed),
        "image_digest": os.environ.get("MSSYNC_IMAGE_DIGEST", ""),
        "kfp_run_id": os.environ.get("KFP_RUN_ID", ""),
    }
    return {name: value for name, value in tags.items() if value}


def _dvc_md5(workspace: Path, stage: str) -> str:
    """DVC's hash of a stage's first folder; empty where DVC did not run it."""
    try:
        lock = yaml.safe_load((workspace / "dvc.lock").read_text())
        outs = lock["stages"][stage]["outs"]
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return ""
    return next((str(out["md5"]) for out in outs if str(out.get("md5", "")).endswith(".dir")), "")


def _published_md5(workspace: Path) -> str:
    """DVC's hash of what `publish` kept; empty where it did not."""
    try:
        return str(yaml.safe_load((workspace / PUBLISHED).read_text())["outs"][0]["md5"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, IndexError):
        return ""
