"""The image as a hardened cluster runs it: any user, read-only root, offline, no privileges."""

import json
import os
import shutil
import subprocess
from functools import partial

import numpy as np
import pytest

from mssync import records
from mssync.demo.server import serve
from mssync.download.access import Access
from mssync.download.addresses import Policy
from mssync.media.store import MediaStore
from mssync.parts import read_parts
from mssync.stages import download_videos, extract_audio, extract_landmarks

pytestmark = pytest.mark.docker

DOCKER = os.environ.get("DOCKER", "docker")
IMAGE = os.environ.get("MSSYNC_IMAGE", "mssync:dev")
ANYONE = "54321:0"
HARDENED = (
    "--read-only --tmpfs=/tmp --cap-drop=ALL --security-opt=no-new-privileges --network=none"
    f" --user={ANYONE}"
).split()
# Debian's own; a tmpfs or nothing in a cluster, where the root is read-only.
WRITABLE = {"/tmp", "/var/tmp", "/run/lock", "/workspace"}

IMPORT_EVERYTHING = """
import getpass, importlib, pkgutil
import kfp, kfp.dsl.executor_main, kfp.kubernetes, dvc.api, s3fs, yt_dlp, face_alignment
import mssync
names = [module.name for module in pkgutil.walk_packages(mssync.__path__, "mssync.")]
for name in names:
    importlib.import_module(name)
print(len(names), getpass.getuser())
"""

LIST_PACKAGES = """
import importlib.metadata
for distribution in importlib.metadata.distributions():
    print(distribution.name.lower())
"""


def docker(*arguments, check=True):
    done = subprocess.run(
        [DOCKER, *arguments], capture_output=True, text=True, check=False, timeout=600
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def run(*command, options=HARDENED, check=True):
    return docker("run", "--rm", *options, IMAGE, *command, check=check)


def lines(script):
    """What a shell in the image prints, as anyone, on a root that is not mounted read-only."""
    shell = ("sh", "-c", f"{{ {script}; }} 2>/dev/null; true")
    return run(*shell, options=["--network=none", f"--user={ANYONE}"]).stdout.split()


def inspect(image):
    return json.loads(docker("image", "inspect", image).stdout)[0]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, small_corpus, root, tiny):
    """A folder that anyone may write, with a manifest, its media, and features made on the host."""
    folder = tmp_path_factory.mktemp("image")
    data, store = folder / "data", MediaStore(folder / "media")
    data.mkdir()
    shutil.copy(root / "params.test.yaml", folder / "params.yaml")
    shutil.copy(small_corpus / "sources.csv", data)
    manifest = data / "manifest.parquet"
    with serve(small_corpus) as url:
        download_videos.run(
            data / "sources.csv",
            manifest,
            folder / "ledger" / "download_videos",
            tiny.download_videos,
            store=store,
            workers=2,
            base=url,
            access=Access(policy=Policy(mirrors=("127.0.0.1",))),
        )
    for run_stage, out, section in (
        (partial(extract_landmarks.run, device="cpu"), "extract_landmarks", tiny.extract_landmarks),
        (extract_audio.run, "extract_audio", tiny.extract_audio),
    ):
        host = folder / "host"
        run_stage(manifest, host / out, host / "ledger" / out, section, store=store, workers=2)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o777 if path.is_dir() else 0o666)
    yield folder
    # What the container wrote belongs to somebody whose files only root may remove.
    theirs = ["find", "/workspace", "-mindepth", "1", "-user", "54321", "-delete"]
    run(*theirs, options=["--user=0", f"--volume={folder}:/workspace"])


@pytest.mark.parametrize(
    ("stage", "schema"),
    [("extract_landmarks", records.LANDMARKS), ("extract_audio", records.AUDIO)],
)
def test_a_stage_run_by_anyone_writes_what_the_host_writes_bit_for_bit(workspace, stage, schema):
    paths = f"--manifest data/manifest.parquet --out data/{stage} --ledger ledger/{stage}"
    run(
        *("mssync", stage.replace("_", "-"), *paths.split()),
        options=[*HARDENED, f"--volume={workspace}:/workspace"],
    )
    inside = sorted(read_parts(workspace / "data" / stage, schema), key=lambda row: row["clip_id"])
    host = sorted(read_parts(workspace / "host" / stage, schema), key=lambda row: row["clip_id"])
    assert len(inside) == 8
    for row, expected in zip(inside, host, strict=True):
        for name in schema.names:
            np.testing.assert_array_equal(row[name], expected[name], err_msg=name)


def test_everything_imports_for_a_user_without_a_name(root):
    modules, user = run("python", "-c", IMPORT_EVERYTHING).stdout.split()
    assert int(modules) >= len(list((root / "src" / "mssync").rglob("[!_]*.py")))
    assert user == "mssync"


def test_it_holds_no_compiler_no_git_and_no_tools_of_development():
    tools = "gcc cc g++ c++ make ld git curl wget uv pytest mypy ruff hadolint python"
    found = lines(f"for tool in {tools}; do command -v $tool; done")
    assert found == ["/opt/venv/bin/python"]
    packages = set(run("python", "-c", LIST_PACKAGES).stdout.split())
    assert {"torch", "kfp", "mssync"} <= packages
    assert not {"pytest", "mypy", "ruff", "moto", "playwright", "hypothesis", "pip"} & packages


def test_it_holds_no_cache_of_pip_and_nothing_of_the_build():
    caches = "/root/.cache /tmp/.cache /build /library"
    assert lines(f"ls -d {caches} /workspace; ls -A /tmp") == ["/workspace"]


def test_what_it_adds_to_its_base_has_no_setuid_files_and_belongs_to_root():
    assert lines("find /opt/venv -maxdepth 1 -user 0")
    assert not lines("find /opt /workspace -perm /6000")
    assert not lines("find /opt /workspace ! -user 0")
    assert not lines("find / -xdev -user 10001")


def test_only_the_workspace_and_temporary_folders_can_be_written():
    writable = set(lines("find / -xdev -writable ! -type l"))
    assert {"/tmp", "/workspace"} <= writable <= WRITABLE


def test_it_carries_a_list_of_all_that_is_in_it():
    bom = json.loads(run("cat", "/opt/sbom/python.cdx.json").stdout)
    assert bom["bomFormat"] == "CycloneDX"
    listed = {component["name"].lower() for component in bom["components"]}
    installed = set(run("python", "-c", LIST_PACKAGES).stdout.split()) - {"mssync"}
    assert listed == installed
    debian = run("cat", "/opt/sbom/debian.tsv").stdout.splitlines()
    names = {line.split("\t")[0] for line in debian}
    assert {"libc6", "ca-certificates"} <= names
    assert all(len(line.split("\t")) == 4 for line in debian)


def test_weights_are_brought_only_where_it_is_asked_for():
    assert lines("ls -A /opt/weights") == []


def test_by_default_it_is_nobody_and_shows_the_commands():
    config = inspect(IMAGE)["Config"]
    assert not config["Entrypoint"]
    assert config["User"] == "10001:0"
    assert "extract-landmarks" in run(options=["--network=none"]).stdout


def test_it_says_which_commit_it_is_made_from():
    config = inspect(IMAGE)["Config"]
    said = run("printenv", "MSSYNC_GIT_SHA", "MSSYNC_GIT_DIRTY").stdout.split()
    assert len(said[0]) == 40
    assert said[0] == config["Labels"]["org.opencontainers.image.revision"]
    assert said[1] in {"true", "false", "unknown"}


def test_a_wrong_option_ends_with_code_2_and_a_missing_file_with_code_1():
    assert run("mssync", "--no-such-option", check=False).returncode == 2
    missing = run("mssync", "funnel", "--ledger", "nowhere", check=False)
    assert missing.returncode == 1
    assert "Traceback" not in missing.stderr


@pytest.fixture
def touched(root, tmp_path):
    """An image made after a change of one source file."""
    for name in ("src", "requirements"):
        # bytecode comes and goes while other tests run
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(root / name, tmp_path / name, ignore=ignore)
    files = "Dockerfile .dockerignore Makefile pyproject.toml README.md LICENSE"
    for name in (*files.split(), "requirements.lock", "requirements-dev.lock"):
        shutil.copy(root / name, tmp_path)
    with (tmp_path / "src" / "mssync" / "errors.py").open("a") as source:
        source.write("\n# Touched.\n")
    image = f"mssync-test:{os.getpid()}"
    make = ["make", "--silent", "image", f"IMAGE={image}"]
    done = subprocess.run(make, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    yield image
    docker("image", "rm", image)


def test_a_change_of_the_source_changes_the_last_layer_only(touched):
    before, after = (inspect(image)["RootFS"]["Layers"] for image in (IMAGE, touched))
    assert after[:-1] == before[:-1]
    assert after[-1] != before[-1]
