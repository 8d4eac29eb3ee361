"""The command line as a stranger meets it: a process of its own."""

import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from mssync import records
from mssync.ledger import ATTEMPTS
from mssync.params import load, stage_names
from tests.handmade import build, write_inputs


@pytest.fixture
def mssync(tmp_path):
    """Run a command in an empty folder."""

    def run(*arguments, **environment):
        return subprocess.run(
            [sys.executable, "-m", "mssync", *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | {"MSSYNC_MEDIA": str(tmp_path / "store")} | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_every_stage_has_help_with_its_inputs_and_outputs(mssync):
    text = mssync("--help").stdout
    for name in stage_names():
        assert name.replace("_", "-") in text


def test_a_wrong_parameter_names_field_value_and_bound_without_a_traceback(mssync, root, tmp_path):
    content = yaml.safe_load((root / "params.yaml").read_text())
    content["promote"]["min_sequences"] = 0
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    result = mssync("promote", "--metrics", "m.json", "--out", "d.json")
    assert result.returncode == 1
    assert "promote.min_sequences" in result.stderr
    assert "greater than or equal to 1, found 0" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_missing_input_is_one_message(mssync, root):
    params = root / "params.test.yaml"
    for command in (
        ("build-dataset", "--manifest", "m", "--landmarks", "l", "--audio", "a", "--ledger", "l",
         "--out", "o", "--card", "c"),
        ("train-syncers", "--dataset", "d", "--out", "o"),
        ("promote", "--metrics", "m.json", "--out", "d.json"),
    ):  # fmt: skip
        result = mssync(*command, "--params", params)
        assert result.returncode == 1, command
        assert "ERROR" in result.stderr
        assert "Traceback" not in result.stderr


def test_a_ledger_without_decisions_and_an_unknown_log_level_are_told(mssync):
    result = mssync("funnel", MSSYNC_LOG="loud")
    assert result.returncode == 1
    assert "there is no folder ledger: name a workspace's folder ledger/" in result.stderr
    assert "MSSYNC_LOG is 'LOUD'" in result.stderr
    assert "holds no stage's decisions" in mssync("funnel", "--ledger", ".").stderr


def test_a_folder_that_cannot_be_made_is_one_message(mssync, root, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "m.json").write_text("{}")
    result = mssync(
        "download-videos", "--sources", root / "params.yaml", "--manifest", "file/m.parquet",
        "--ledger", "file/ledger", "--params", root / "params.test.yaml",
    )  # fmt: skip
    assert result.returncode == 1
    assert "Traceback" not in result.stderr


def test_the_demo_outside_the_project_says_where_to_go(mssync):
    result = mssync("demo", "--sources", "none.csv")
    assert result.returncode == 1
    assert "is not the project's folder" in result.stderr


def test_a_stage_that_is_killed_goes_on_where_it_stopped(mssync, root, tmp_path, small_corpus):
    params = root / "params.test.yaml"
    mssync(
        "download-videos", "--sources", small_corpus / "sources.csv", "--manifest", "m.parquet",
        "--ledger", "ledger/download", "--params", params,
        MSSYNC_SOURCE_BASE=str(small_corpus / "media"),
    )  # fmt: skip
    command = ("extract-landmarks", "--manifest", "m.parquet", "--out", "landmarks", "--ledger",
               "ledger/landmarks", "--params", params)  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "mssync", *map(str, command)],
        cwd=tmp_path,
        env=os.environ | {"MSSYNC_MEDIA": str(tmp_path / "store")},
        stderr=subprocess.DEVNULL,
    )
    waiting = tmp_path / "landmarks.unfinished"
    while process.poll() is None and len(list(waiting.glob("part-*.parquet"))) < 2:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    result = mssync(*command)
    assert result.returncode == 0, result.stderr
    assert "clips are done already" in result.stderr
    attempts = records.read(tmp_path / "ledger" / "landmarks" / ATTEMPTS, None)
    assert 0 < len(attempts) < 8
    rows = [
        row["clip_id"]
        for path in (tmp_path / "landmarks").glob("part-*.parquet")
        for row in records.read(path, records.LANDMARKS)
    ]
    assert len(rows) == len(set(rows)) == 8
    assert not waiting.exists()


@pytest.fixture(scope="module")
def decided(root, tmp_path_factory):
    """A workspace in which `build_dataset` has decided on ten clips; runs `mssync funnel` in it."""
    gap, small = {"lost": range(26, 34)}, {"interocular_px": 15}
    folder = tmp_path_factory.mktemp("decided")
    return decide(root, folder, {"gap/a": gap, "small/a": small})


def decide(root, folder, special):
    """Decide on eight clips and some special ones; what runs `mssync funnel` there."""
    write_inputs(folder, {f"p{i}/a": {} for i in range(8)} | special)
    build(folder, load(root / "params.test.yaml").build_dataset)

    def funnel(*arguments):
        before = content(folder)
        command = ["funnel", *arguments, "--params", str(root / "params.test.yaml")]
        found = subprocess.run(
            [sys.executable, "-m", "mssync", *command],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert content(folder) == before
        return found

    return funnel


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_funnel_shows_what_other_thresholds_would_decide_and_writes_nothing(decided):
    plain = decided()
    assert "build_dataset           10     8  face_lost 1, face_too_small 1" in plain.stdout
    found = decided("--set", "build_dataset.max_gap_frames=10", "--set", "min_interocular_px=61")
    assert "build_dataset           10     0  face_too_small 10" in found.stdout
    assert "-8  kept -> face_too_small" in found.stdout
    assert " 1  face_lost -> face_too_small" in found.stdout
    assert "gap/a" not in found.stdout
    listed = decided("--set", "max_gap_frames=10", "--list")
    assert "+1  face_lost -> kept\n        gap/a\n" in listed.stdout
    assert "extract_audio           10    10" in listed.stdout


def test_the_funnel_knows_the_offsets_of_the_list(root, tmp_path):
    """A second of 60 frames is too much to make up for."""
    funnel = decide(root, tmp_path, {"late/a": {"listed_ms": 1000.0}})
    assert "length_mismatch 1" in funnel().stdout
    assert "No clip is decided otherwise" in funnel("--set", "min_blur=2").stdout


def test_the_funnel_says_when_nothing_changes_and_where_a_clip_fails_now(decided):
    assert "No clip is decided otherwise" in decided("--set", "min_frames=50").stdout
    listed = decided("--set", "min_interocular_px=61", "--list").stdout
    assert "p0/a: interocular_px is 60, at least 61 is kept (build_dataset.min_inter" in listed


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--set", "max_gap=3"], "max_gap=3: expected KEY=VALUE with a key of the section"),
        (["--set", "run.seed=3"], "run.seed=3: expected KEY=VALUE"),
        (["--set", "min_frames=3"], "min_frames: Input should be greater than or equal to 20"),
        (["--set", "min_frames=[3"], "cannot be read as YAML"),
        (
            ["--set", "min_frames=44", "--audio", "nowhere"],
            "there is no folder of audio-feature parts nowhere: name it with --audio",
        ),
        (["--list"], "give --set too"),
    ],
)
def test_the_funnel_refuses_what_it_cannot_do_in_one_message(decided, arguments, told):
    result = decided(*arguments)
    assert result.returncode == 1
    assert told in result.stderr
    assert "Traceback" not in result.stderr
