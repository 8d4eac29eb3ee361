"""Runs on a server that executes them: begun, followed, looked at, cancelled."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from mssync.errors import StageFailedError
from mssync.params import load
from pipeline import client, jobs, runs
from tests.pipeline.kfp_api import OVER, RefusedError


def run_of(api):
    (run,) = api.tables["runs"].values()
    return run


def until(api, condition, seconds=180):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, api.tables["runs"]
        time.sleep(0.1)


def began(api, name):
    return any(each["display_name"] == name for each in run_of(api)["run_details"]["task_details"])


def test_a_run_is_followed_step_by_step_to_its_end(command, api, packages):
    away = iter([False, False, True, True] + [False] * 1000)

    def before(method, path):
        if method == "GET" and "/runs/" in path and next(away):
            raise RefusedError(503, 14, "upstream is away")

    api.before = before
    said = command(
        *("submit", "--package", packages["good"], "--sources", "list.csv", "--poll", 0.3),
        *("--host", api.url, "--name", "first", "--experiment", "tries", "--apply-promotion"),
    )
    assert said.code == 0
    told = re.findall(r"\d\d:\d\d:\d\d ((?:prepare|work): \w+)", said.out)
    in_order = ["prepare: began", "prepare: ended", "work: began", "work: ended"]
    assert told == [line for line in in_order if line in told]
    assert {"prepare: ended", "work: ended"} <= set(told)  # a short step may end between two looks
    assert "(2 of 2 steps)" in said.out
    assert said.out.count("waiting: ") == 2
    assert "SUCCEEDED after" in said.out
    run = run_of(api)
    assert f"{api.url}/#/runs/details/{run['run_id']}" in said.out
    assert run["display_name"] == "first"
    assert run["service_account"] == "mssync-steps"
    assert run["runtime_config"]["parameters"] == {
        "sources": "list.csv",
        "source_base": "",
        "workspace": "/workspace",
        "apply_promotion": True,
    }
    (experiment,) = api.tables["experiments"].values()
    assert experiment["display_name"] == "tries"

    said = command("status", "--host", api.url)
    assert re.search(rf"SUCCEEDED +20\S+ \S+ +\d+ s +first +{run['run_id']}", said.out)
    said = command("status", run["run_id"], "--host", api.url)
    assert re.search(r"SUCCEEDED +\d\d:\d\d:\d\d +\d+ s +prepare", said.out)
    said = command("cancel", run["run_id"], "--host", api.url)
    assert said.code == 0
    assert "was over already: SUCCEEDED" in said.out


def test_a_run_that_fails_says_which_step_and_why(command, api, packages):
    said = command(
        *("submit", "--package", packages["bad"], "--sources", "list.csv"),
        *("--host", api.url, "--poll", 0.3),
    )
    assert said.code == 1
    assert re.search(r"work: FAILED after \d+ s \(2 of 2 steps\): .*prepared, and failed", said.out)
    assert f"run {run_of(api)['run_id']} FAILED:\n  work: Error (exit code 1)" in said.err
    said = command("status", run_of(api)["run_id"], "--host", api.url)
    assert re.search(r"FAILED .* work .*prepared, and failed", said.out)


def test_a_run_that_takes_too_long_goes_on_until_it_is_cancelled(command, api, packages):
    where = ("--host", api.url)
    said = command(
        *("submit", "--package", packages["slow"], "--sources", "list.csv", *where),
        *("--poll", 0.1, "--timeout", 0.01),
    )
    run = run_of(api)
    assert said.code == runs.StillRunningError.exit_code
    assert f"cancel {run['run_id']} to end it" in said.out
    assert "is not over after" in said.err
    until(api, lambda: began(api, "prepare"))
    assert re.search(r"RUNNING .* prepare", command("status", run["run_id"], *where).out)
    said = command("cancel", run["run_id"], *where)
    assert said.code == 0
    assert re.search(r"asked to end; running were: prepare \(\d+ s\)", said.out)
    until(api, lambda: run["state"] in OVER)
    assert "CANCELED" in command("status", *where).out
    ended = runs.get(client.connect(api.url), run["run_id"])
    with pytest.raises(StageFailedError, match="CANCELED:\n  prepare: cancelled"):
        runs.check(ended, runs.steps(ended, {}))


def test_ctrl_c_leaves_the_run_going_and_says_how_to_cancel_it(api, packages, root):
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "pipeline", "submit", "--host", api.url, "--poll", "0.1"),
            *("--package", packages["slow"], "--sources", "list.csv"),
        ],
        cwd=root,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(api, lambda: api.tables["runs"] and began(api, "prepare"))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=90)
    finally:
        process.kill()
    assert process.returncode == 130
    assert f"the run goes on: python -m pipeline status {run_of(api)['run_id']}" in out
    assert "Traceback" not in err
    assert run_of(api)["state"] == "RUNNING"


def test_a_token_that_expires_ends_the_wait_but_not_the_run(command, make_api, packages, tmp_path):
    api = make_api(namespaces=["mssync"], tokens={"good": {"mssync"}})
    token = tmp_path / "token"
    token.write_text("good")

    def before(method, path):
        if "/runs/" in path and began(api, "prepare"):
            api.tokens = {"other": {"mssync"}}

    api.before = before
    said = command(
        *("submit", "--package", packages["slow"], "--sources", "list.csv", "--poll", 0.1),
        *("--host", api.url, "--namespace", "mssync", "--token-file", token),
    )
    assert said.code == 1
    assert "the run goes on" in said.out
    assert "expected a token that is valid" in said.err
    assert run_of(api)["state"] == "RUNNING"
    assert next(iter(api.tables["pipelines"].values()))["namespace"] == "mssync"


def test_the_newest_runs_come_first_with_their_schedules(command, api, packages, server):
    jobs_ = [jobs.Job(jobs.read(packages["good"]), {"sources": "x"}) for _ in range(3)]
    uploaded = jobs.upload(server, jobs_[0].package)
    experiment = jobs.experiment_of(server, "mssync")
    for number, job in enumerate(jobs_):
        runs.start(server, job, uploaded, experiment_id=experiment, name=f"run-{number}")
    first, *_ = api.tables["runs"].values()
    first["recurring_run_id"] = "gone"
    said = command("status", "--host", api.url)
    assert re.findall(r"run-\d", said.out) == ["run-2", "run-1", "run-0"]
    assert re.search(r"run-0 +\(deleted\)", said.out)
    assert "run-1" not in command("status", "--host", api.url, "--count", 1).out
    said = command("status", "--host", api.url, "--experiment", "none")
    assert said.code == 1
    assert "has no experiment none" in said.err


def test_a_graph_is_uploaded_once_for_each_content(packages, server, api, tmp_path):
    first = jobs.upload(server, jobs.read(packages["good"]))
    commented = tmp_path / "again.yaml"
    commented.write_text("# the same\n" + packages["good"].read_text())
    assert jobs.upload(server, jobs.read(commented)) == first
    other = jobs.upload(server, jobs.read(packages["bad"]))
    assert other.pipeline_id == first.pipeline_id
    assert other.version_id != first.version_id
    assert len([each for each in api.writes() if "upload" in each]) == 2


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read"),
        ("a: [", "is no compiled graph"),
        ("a: 1", "is no compiled graph"),
        ("", "is no compiled graph"),
    ],
)
def test_a_package_that_is_none_is_told(command, api, tmp_path, content, told):
    package = tmp_path / "package.yaml"
    if content is not None:
        package.write_text(content)
    said = command("submit", "--package", package, "--sources", "list.csv", "--host", api.url)
    assert said.code == 1
    assert told in said.err
    assert api.writes() == []


def test_inputs_that_a_package_does_not_take_are_told(command, api, packages, root):
    said = command(
        *("submit", "--package", packages["good"], "--sources", "list.csv", "--host", api.url),
        *("--params", root / "params.test.yaml"),
    )
    assert said.code == 1
    assert "found build_dataset, which it does not take" in said.err
    assert api.writes() == []


@pytest.fixture(scope="module")
def our_graph(root, tmp_path_factory):
    """The chain itself, compiled for one shard."""
    package = tmp_path_factory.mktemp("graph") / "pipeline.yaml"
    subprocess.run(
        [
            *(sys.executable, "-m", "pipeline", "compile", "--shards", "1", "--output", package),
            *("--params", "params.test.yaml"),
        ],
        cwd=root,
        check=True,
        capture_output=True,
    )
    return package


def test_our_graph_is_taken_and_its_first_step_says_what_is_wrong(
    command, api, our_graph, root, tmp_path
):
    said = command(
        *("submit", "--package", our_graph, "--params", root / "params.test.yaml"),
        *("--sources", tmp_path / "no-list.csv", "--workspace", tmp_path / "workspace"),
        *("--host", api.url, "--poll", 0.5),
    )
    assert said.code == 1
    run = run_of(api)
    given = load(root / "params.test.yaml").model_dump(mode="json")
    assert {name: run["runtime_config"]["parameters"][name] for name in given} == given
    assert re.search(r"shard: FAILED after .*no-list\.csv", said.out)
    assert re.search(r"notify: ended .*\(2 of 12 steps\)", said.out)
    assert "shard: Error (exit code 1): " in said.err
    # tried three times, as the graph asks
    tries = [each["display_name"] for each in run["run_details"]["task_details"]]
    assert {"executor(0)", "executor(1)", "executor(2)"} <= set(tries)
    report = tmp_path / "workspace" / "runs" / run["run_id"] / "shard" / "failure.json"
    assert json.loads(report.read_text())["reason"] == "input"


def test_links_name_no_secret_of_the_address(make_api):
    api = make_api()
    server = client.connect(api.url.replace("127.0.0.1", "me:secret@127.0.0.1"))
    assert "secret" not in server.run_page("x")
