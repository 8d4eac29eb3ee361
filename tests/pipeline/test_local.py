"""The graph on Kubeflow's subprocess runner: real steps, real files."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from filelock import FileLock

from mssync import ending, steps, tracking, versions
from mssync.data import dataset
from mssync.demo import chain
from mssync.errors import InputError, StageFailedError
from mssync.ledger import ATTEMPTS, read_attempts
from pipeline import local

SHARDS = 2


def command(root, *arguments):
    """`python -m pipeline`: exit code and all that it says."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *map(str, arguments)],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def own_stores(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MSSYNC_MEDIA", str(tmp_path_factory.mktemp("media")))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield


def run(workspace, small_corpus, params, **changes):
    return local.run(
        params,
        str(small_corpus / "sources.csv"),
        local.Where(workspace, "subprocess", "mssync:dev"),
        source_base=str(small_corpus / "media"),
        shards=SHARDS,
        **changes,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_corpus, tiny, own_stores):
    """A workspace in which the graph has run, and the reports of its steps."""
    workspace = tmp_path_factory.mktemp("graph") / "workspace"
    return workspace, run(workspace, small_corpus, tiny, apply_promotion=True)


def artifacts(workspace, task):
    """Outputs of a task: name -> path and metadata."""
    (out,) = (workspace / "kfp").glob(f"*/{task}/executor_output.json")
    found = json.loads(out.read_text()).get("artifacts", {})
    return {name: value["artifacts"][0] for name, value in found.items()}


def test_the_graph_leaves_what_the_chain_leaves(finished):
    workspace, _ = finished
    clips = dataset.load_clips(workspace / "data" / "dataset")
    assert {split: len(found) for split, found in clips.items()} == {
        "train": 5,
        "val": 1,
        "test": 2,
    }
    assert json.loads((workspace / "evaluation" / "metrics.json").read_text())["sequences"] == 3
    assert (workspace / "promotion" / "decision.json").exists()


def test_artifacts_refer_to_the_workspace_and_carry_digests(finished):
    workspace, _ = finished
    revision = dataset.load_metadata(workspace / "data" / "dataset")["revision"]
    built = artifacts(workspace, "build-dataset")
    assert built["dataset"]["metadata"] == {
        "path": str(workspace / "data" / "dataset"),
        "revision": revision,
    }
    trained = artifacts(workspace, "train-generator")["generator"]["metadata"]
    scored = json.loads((workspace / "evaluation" / "metrics.json").read_text())
    assert trained["sha256"] == scored["challenger"]["sha256"]


def test_what_people_look_at_is_an_artifact_itself(finished):
    workspace, _ = finished
    evaluated = artifacts(workspace, "evaluate")
    page = (workspace / "evaluation" / "gallery" / "index.html").read_bytes()
    (gallery,) = (workspace / "kfp").glob("*/evaluate/gallery")
    assert gallery.read_bytes() == page
    (card,) = (workspace / "kfp").glob("*/build-dataset/card")
    assert card.read_text() == (workspace / "data" / "card" / "card.html").read_text()
    assert evaluated["metrics"]["metadata"]["lse_d.all.level0.value"] > 0


def test_every_step_logs_numbers(finished):
    workspace, _ = finished
    for task in ("download-videos", "gather", "build-dataset", "train-syncers", "promote"):
        assert artifacts(workspace, task)["metrics"]["metadata"]


def test_runs_say_where_they_come_from(finished, tracked_runs, tiny):
    workspace, reports = finished
    runs = tracked_runs(workspace)
    assert sorted(run.info.run_name for run in runs) == ["train-generator", "train-syncers"]
    assert {run.data.tags["kfp_run_id"] for run in runs} == {reports.name}
    uri = f"sqlite:///{workspace / 'mlflow.db'}"
    assert tracking.champion(uri, tiny.paths.model_name).version == "1"


def test_everything_the_runner_said_is_kept(finished):
    _, reports = finished
    assert "Executing task" in (reports / local.LOG).read_text()
    spec, *_ = yaml.safe_load_all((reports / local.PIPELINE).read_text())
    assert spec["pipelineInfo"]["name"] == "mssync"


def test_the_data_are_a_version_that_can_be_had_elsewhere(finished, tracked_runs, tmp_path):
    workspace, _ = finished
    published = artifacts(workspace, "publish")["version"]
    version = Path(published["uri"]).read_text()
    md5 = published["metadata"]["md5"]
    assert md5 in version
    assert {run.data.tags["dataset_dvc_md5"] for run in tracked_runs(workspace)} == {md5}
    versions.init_workspace(tmp_path, cache=workspace / ".dvc" / "cache")
    (tmp_path / "data.dvc").write_text(version)
    versions.dvc(tmp_path, "checkout")
    assert (
        dataset.load_metadata(tmp_path / "data" / "dataset")["revision"]
        == (published["metadata"]["revision"])
    )
    assert not (tmp_path / "data" / "sources.csv").exists()


def test_the_runs_say_how_the_pipeline_ended(finished, tracked_runs):
    workspace, _ = finished
    tags = [run.data.tags for run in tracked_runs(workspace)]
    assert [tag["pipeline.state"] for tag in tags] == ["SUCCEEDED", "SUCCEEDED"]


def test_a_second_run_extracts_and_trains_nothing_again(finished, small_corpus, tiny):
    workspace, _ = finished
    weights = workspace / "models" / "generator" / "generator" / "weights.safetensors"
    ledger = workspace / "ledger" / "extract_landmarks" / ATTEMPTS
    before = weights.stat().st_mtime_ns, len(read_attempts(ledger))
    run(workspace, small_corpus, tiny, apply_promotion=True, repeat=True)
    assert (weights.stat().st_mtime_ns, len(read_attempts(ledger))) == before


def test_a_run_that_is_given_the_same_ends_at_once_and_says_so(finished, small_corpus, tiny):
    workspace, _ = finished
    decision = workspace / "promotion" / "decision.json"
    before = decision.stat().st_mtime_ns
    reports = run(workspace, small_corpus, tiny, apply_promotion=True)
    assert sorted(path.name for path in reports.iterdir() if path.is_dir()) == ["shard"]
    assert "nothing has changed since the run local-" in (reports / local.LOG).read_text()
    assert "Nothing was done" in (reports / ending.REPORT).read_text()
    assert decision.stat().st_mtime_ns == before


def test_a_step_that_fails_is_named_with_its_reason(tmp_path, small_corpus, tiny, own_stores):
    (tmp_path / "list.csv").write_text("source\nnone.mp4\n")
    with pytest.raises(StageFailedError) as error:
        local.run(
            tiny,
            str(tmp_path / "list.csv"),
            local.Where(tmp_path / "workspace", "subprocess", "mssync:dev"),
        )
    assert "gather: stage_failed: 0 of 1 clips survive" in str(error.value)
    assert "none.mp4: not_found" in str(error.value)
    assert "the same command goes on from here" in str(error.value)
    (report,) = (tmp_path / "workspace" / "kfp").glob("*/notify/report")
    assert "**gather: stage_failed: 0 of 1 clips survive" in report.read_text()


def test_a_list_that_does_not_exist_is_told_before_anything_runs(tmp_path, tiny):
    with pytest.raises(InputError, match=r"none\.csv does not exist"):
        local.run(
            tiny,
            str(tmp_path / "none.csv"),
            local.Where(tmp_path / "w", "subprocess", "mssync:dev"),
        )
    assert not (tmp_path / "w" / "runs").exists()


def test_a_pipeline_root_that_cannot_be_written_is_told(root, tmp_path, small_corpus):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "kfp").write_text("")
    code, said = command(
        root,
        *("run-local", "--sources", small_corpus / "sources.csv"),
        *("--workspace", tmp_path / "w"),
    )
    assert code == 1
    assert f"{tmp_path / 'w' / 'kfp'} cannot be written" in said
    assert "Traceback" not in said


def test_a_list_of_ones_own_needs_a_workspace_of_its_own(root, tmp_path, small_corpus):
    for arguments in (("--sources", small_corpus / "sources.csv"), ("--workspace", tmp_path / "w")):
        code, said = command(root, "run-local", *arguments)
        assert code == 1
        assert "--sources and --workspace come together" in said


def test_a_workspace_that_dvc_keeps_is_left_alone(tmp_path, small_corpus, tiny):
    (tmp_path / "dvc.yaml").write_text("")
    with pytest.raises(InputError, match="is a workspace of `make demo`"):
        run(tmp_path, small_corpus, tiny)


def test_a_workspace_of_the_graph_is_left_alone_by_dvc(finished, small_corpus, root, tmp_path):
    project = tmp_path / "project"
    (project / "src" / "mssync").mkdir(parents=True)
    (project / "dvc.yaml").write_text("")
    (project / "runs").mkdir()
    (project / "runs" / "mine").symlink_to(finished[0])
    with pytest.raises(InputError, match="is a workspace of `make run-local`"):
        chain.run_sources(project, small_corpus / "sources.csv", name="mine")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_leaves_no_step_behind_and_says_how_to_go_on(
    root, tmp_path, small_corpus, number, own_stores
):
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "pipeline", "run-local", "--params", "params.test.yaml"),
            *("--sources", small_corpus / "sources.csv", "--workspace", tmp_path / "w"),
            *("--source-base", small_corpus / "media"),
        ],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while not list((tmp_path / "w" / "runs").glob(f"*/extract_*/{steps.BEGUN}")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.send_signal(number)
    said = process.communicate()[0]
    assert process.returncode == 1
    assert "the same command goes on from here" in said
    assert "Traceback" not in said
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


def test_two_runs_at_a_time_do_not_share_a_workspace(tmp_path, small_corpus, tiny, own_stores):
    with FileLock(tmp_path / ".lock"), pytest.raises(InputError, match="another run works in"):
        run(tmp_path, small_corpus, tiny)


@pytest.mark.parametrize("image", ["", "name@", "name@sha256:...", "two words"])
def test_an_image_without_a_name_is_refused(root, tmp_path, image):
    code, said = command(root, "compile", "--image", image, "--output", tmp_path / "p.yaml")
    assert code == 1
    assert "expected NAME:TAG" in said
    assert not (tmp_path / "p.yaml").exists()


def test_a_folder_is_no_file_to_compile_to(root, tmp_path):
    code, said = command(root, "compile", "--output", tmp_path)
    assert code == 1
    assert f"{tmp_path} cannot be written (it is a folder)" in said
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_parameter_is_told_with_its_field(root, tmp_path, small_corpus):
    wrong = tmp_path / "params.yaml"
    wrong.write_text((root / "params.test.yaml").read_text().replace("seed: 0", "seed: soon"))
    for arguments in (
        ("compile", "--output", tmp_path / "pipeline.yaml"),
        ("run-local", "--sources", small_corpus / "sources.csv", "--workspace", tmp_path / "w"),
    ):
        code, said = command(root, *arguments, "--params", wrong)
        assert code == 1
        assert "run.seed" in said
        assert "'soon'" in said
        assert "Traceback" not in said


def test_without_a_docker_engine_the_way_out_is_told(root, tmp_path, small_corpus, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    code, said = command(
        root,
        *("run-local", "--runner", "docker", "--sources", small_corpus / "sources.csv"),
        *("--workspace", tmp_path / "w"),
    )
    assert code == 1
    assert "no Docker engine answers" in said
    assert "--runner subprocess" in said
    assert "Traceback" not in said


def test_the_parameters_that_a_run_is_given_are_checked_by_its_first_step(tmp_path, root, tiny):
    """Kubeflow takes any dictionary: a number too many, a word for a number."""
    from pipeline.steps.shard import shard

    sections = tiny.model_dump(mode="json")
    sections["evaluate"]["frames"] = "many"
    (tmp_path / "list.csv").write_text("source\na.mp4\n")
    with pytest.raises(SystemExit):
        shard.python_func(
            workspace=str(tmp_path / "w"),
            sources=str(tmp_path / "list.csv"),
            source_base="",
            shards=2.0,
            repeat=False,
            apply_promotion=False,
            dvc_remote="",
            params_hash=str(tmp_path / "hash"),
            base=str(tmp_path / "base"),
            **sections,
        )
    (failure,) = (tmp_path / "w" / "runs").glob("*/shard/failure.json")
    told = json.loads(failure.read_text())
    assert told["reason"] == "params"
    assert "evaluate.frames" in told["message"]
    assert "'many'" in told["message"]
    assert not (tmp_path / "w" / "shards").exists()
