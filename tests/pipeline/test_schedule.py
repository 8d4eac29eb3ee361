"""Schedules: made, left, replaced, switched, deleted; and what a killed call leaves."""

import os
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime

import pytest
import yaml

from mssync.errors import InputError
from pipeline import client, cluster, jobs, schedule
from tests.pipeline.kfp_api import RefusedError


@pytest.fixture
def weekly(command, api, packages):
    """Runs `schedule` for a schedule named weekly, with other options where they are given."""

    def run(*more, package="good", time="0 3 * * 1", sources="list.csv"):
        return command(
            *("schedule", "--name", "weekly", "--cron", time, "--sources", sources),
            *("--package", packages[package], "--host", api.url, *more),
        )

    return run


def schedules(api):
    return list(api.tables["recurringruns"].values())


def wanted(packages, package="good", **fields):
    found = schedule.read(
        None,
        {"name": "weekly", "cron": "0 3 * * 1", "sources": "list.csv"}
        | {"package": packages[package], **fields},
    )
    return found, found.job(None)


def test_a_schedule_is_made_as_kubeflow_wants_it(weekly, api):
    said = weekly()
    assert said.code == 0
    assert "weekly: at 03:00, on Monday, in UTC (0 0 3 * * 1)" in said.out
    times = re.findall(r"  Mon (\S+) 03:00:00 UTC", said.out)
    assert len(times) == 3
    assert datetime.fromisoformat(times[0]).replace(hour=3, tzinfo=UTC) > datetime.now(UTC)
    assert "not there yet" in said.out
    (made,) = schedules(api)
    assert made["status"] == "ENABLED"
    assert made["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * 1"
    assert (int(made["max_concurrency"]), made["no_catchup"]) == (1, True)
    assert made["service_account"] == "mssync-steps"
    assert made["runtime_config"]["parameters"]["sources"] == "list.csv"


def test_the_same_again_changes_nothing(weekly, api):
    weekly()
    before = api.writes()
    said = weekly()
    assert "as it shall be: nothing to do" in said.out
    assert api.writes() == before
    assert weekly("--dry-run").code == 0


def test_a_changed_schedule_is_replaced_and_the_difference_told(weekly, api):
    weekly()
    (old,) = schedules(api)
    said = weekly(time="30 4 * * 1", sources="other.csv", package="bad")
    assert "  cron: '0 0 3 * * 1' -> '0 30 4 * * 1'" in said.out
    assert "  sources: 'list.csv' -> 'other.csv'" in said.out
    assert re.search(r"  pipeline: 'tiny sha256-\w{16}' -> 'tiny sha256-\w{16}'", said.out)
    assert "workspace" not in said.out
    (new,) = schedules(api)
    assert new["recurring_run_id"] != old["recurring_run_id"]
    assert new["status"] == "ENABLED"
    made, deleted, switched = api.writes()[-3:]
    assert made == "POST /apis/v2beta1/recurringruns"
    assert deleted == f"DELETE /apis/v2beta1/recurringruns/{old['recurring_run_id']}"
    assert switched.endswith(f"{new['recurring_run_id']}:enable")
    # the graph changed, so it was uploaded; another time alone uploads nothing
    weekly(time="0 5 * * 1", package="bad")
    assert sum("upload_version" in each for each in api.writes()) == 2


def test_a_dry_run_changes_nothing_and_says_so_by_its_code(weekly, api):
    said = weekly("--dry-run")
    assert said.code == cluster.WOULD_CHANGE
    assert api.writes() == []
    weekly()
    before = api.writes()
    said = weekly("--dry-run", time="0 4 * * 1")
    assert said.code == cluster.WOULD_CHANGE
    assert "cron: '0 0 3 * * 1' -> '0 0 4 * * 1'" in said.out
    assert weekly("--dry-run", "--delete").code == cluster.WOULD_CHANGE
    assert api.writes() == before


def test_switching_off_and_on_keeps_the_schedule(weekly, api):
    weekly()
    (made,) = schedules(api)
    said = weekly("--disabled")
    assert "enabled: True -> False" in said.out
    assert made["status"] == "DISABLED"
    weekly()
    assert schedules(api) == [made]
    assert made["status"] == "ENABLED"


def test_delete_takes_all_of_that_name_on_every_page(weekly, api, packages, server):
    weekly()
    found, job = wanted(packages)
    experiment = jobs.experiment_of(server, "mssync")
    (first,) = schedules(api)
    for number in range(120):
        api.tables["recurringruns"][f"copy-{number}"] = first | {
            "recurring_run_id": f"copy-{number}"
        }
    api.tables["recurringruns"]["other"] = first | {
        "recurring_run_id": "other",
        "display_name": "daily",
    }
    assert experiment
    assert schedule.plan(server, found, job).left_over == 120
    said = weekly("--delete")
    assert "there, and to be deleted" in said.out
    assert [each["display_name"] for each in schedules(api)] == ["daily"]
    assert weekly("--delete").code == 0


def test_a_version_that_is_gone_is_a_reason_to_replace(weekly, api):
    weekly()
    api.tables["pipeline_versions"].clear()
    said = weekly()
    assert "which is gone' -> 'tiny sha256-" in said.out
    assert len(schedules(api)) == 1


@pytest.mark.parametrize("at", range(1, 6))
def test_killed_at_any_request_the_schedule_is_there_and_the_next_call_goes_on(
    api, packages, server, at
):
    """Requests that change something: upload, make, delete, switch on; the fifth does not come."""
    schedule.apply(server, *wanted(packages))
    (old,) = schedules(api)
    change = {"package": "bad", "cron": "0 4 * * *"}
    writes, switched_on = 0, []

    child = os.fork()
    if not child:
        try:
            schedule.apply(client.connect(api.url), *wanted(packages, **change))
        finally:
            os._exit(0)

    def kill(method, path):
        nonlocal writes
        switched_on.append(sum(each["status"] == "ENABLED" for each in schedules(api)))
        writes += method != "GET"
        if writes == at:
            os.kill(child, signal.SIGKILL)
            raise RefusedError(503, 14, "the one who asks is dead")

    api.before = kill
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) == (at < 5)
    api.before = lambda method, path: None
    left = schedules(api)
    assert left
    assert max(switched_on) == 1
    assert {each["trigger"]["cron_schedule"]["cron"] for each in left} <= {
        *("0 0 3 * * 1", "0 0 4 * * *"),
    }
    assert (old in left) == (at <= 3)

    schedule.apply(server, *wanted(packages, **change))
    (now,) = schedules(api)
    assert now["status"] == "ENABLED"
    assert now["trigger"]["cron_schedule"]["cron"] == "0 0 4 * * *"
    assert not schedule.plan(server, *wanted(packages, **change)).changes
    assert len(api.tables["pipeline_versions"]) == 2


def test_a_file_says_all_of_it_and_options_win(command, api, packages, tmp_path):
    file = tmp_path / "schedule.yaml"
    fields = {"name": "nightly", "cron": "0 2 * * *", "sources": "list.csv", "enabled": False}
    file.write_text(yaml.safe_dump(fields | {"package": str(packages["good"])}))
    command("schedule", file, "--host", api.url, "--sources", "other.csv")
    (made,) = schedules(api)
    assert (made["display_name"], made["status"]) == ("nightly", "DISABLED")
    assert made["runtime_config"]["parameters"]["sources"] == "other.csv"


def test_what_is_wrong_with_a_file_is_told_all_at_once(command, tmp_path):
    file = tmp_path / "schedule.yaml"
    file.write_text("title: weekly\ncron: 0 3 * * 1\nshards: many\n")
    said = command("schedule", file, "--host", "http://127.0.0.1:1")
    assert said.code == 1
    for told in ("title: Extra inputs", "shards: ", "'many'", "name: missing", "sources: missing"):
        assert told in said.err
    file.write_text("- a\n")
    with pytest.raises(InputError, match="must hold fields"):
        schedule.read(file, {})
    with pytest.raises(InputError, match="cannot be read"):
        schedule.read(tmp_path / "none.yaml", {})


def test_a_wrong_time_is_told_before_the_server_is_asked(command):
    said = command(
        *("schedule", "--name", "weekly", "--sources", "x", "--cron", "0 25 * * 1"),
        *("--host", "http://127.0.0.1:1"),
    )
    assert said.code == 1
    assert "the hour is 0 to 23" in said.err


def test_our_graph_is_scheduled_with_every_parameter_and_a_changed_one_is_told(
    command, api, root, tmp_path
):
    package = tmp_path / "pipeline.yaml"
    compile_it = [*(sys.executable, "-m", "pipeline", "compile", "--shards", "1"), "--output"]
    subprocess.run([*compile_it, package], cwd=root, check=True, capture_output=True)
    words = (
        "schedule",
        "--name",
        "chain",
        "--cron",
        "0 3 1 * *",
        "--sources",
        "s3://bucket/list.csv",
    )
    words += ("--package", package, "--host", api.url, "--params")
    said = command(*words, root / "params.cluster.yaml")
    assert re.search(r"\+ \d{3} parameters in sections", said.out)
    assert "nothing to do" in command(*words, root / "params.cluster.yaml").out
    changed = tmp_path / "params.yaml"
    values = yaml.safe_load((root / "params.cluster.yaml").read_text())
    values["run"]["seed"] = 7
    changed.write_text(yaml.safe_dump(values))
    said = command(*words, changed)
    assert said.out.splitlines()[-2:-1] == ["  run.seed: 0 -> 7"]
    (made,) = schedules(api)
    assert made["runtime_config"]["parameters"]["run"]["seed"] == 7
