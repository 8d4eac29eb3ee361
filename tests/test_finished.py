"""Whether a run would make what the last finished one made."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from mssync import finished, steps

LIST, TAKEDOWN = Path("data/sources.csv"), Path("data/takedown.csv")


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """One with a list, and the decision of its last run; this run is `second`."""
    (tmp_path / "data").mkdir()
    (tmp_path / LIST).write_text("source\na.mp4\n")
    (tmp_path / "promotion").mkdir()
    (tmp_path / finished.DECISION).write_text("{}")
    monkeypatch.setenv("MSSYNC_IMAGE_DIGEST", "sha256:1")
    monkeypatch.setenv(steps.RUN_ID, "first")
    assert finished.begin(tmp_path, inputs(tmp_path), repeat=False) == ""
    finished.keep(tmp_path)
    monkeypatch.setenv(steps.RUN_ID, "second")
    return tmp_path


def inputs(workspace, **changes):
    given = {"source_base": "media", "params": "p", "settings": "2 shards"} | changes
    return finished.inputs(workspace, sources=LIST, takedown=TAKEDOWN, **given)


def test_the_same_again_is_known_by_the_run_that_made_it(workspace):
    assert finished.begin(workspace, inputs(workspace), repeat=False) == "first"
    assert finished.given_to(steps.run_folder(workspace)).like == "first"


@pytest.mark.parametrize("name", ["source_base", "params", "settings"])
def test_anything_else_given_is_work(workspace, name, caplog):
    caplog.set_level("INFO")
    assert finished.begin(workspace, inputs(workspace, **{name: "other"}), repeat=False) == ""
    assert f"since the run first, changed: {name}" in caplog.text


def test_another_list_is_work(workspace):
    (workspace / LIST).write_text("source\nb.mp4\n")
    assert finished.begin(workspace, inputs(workspace), repeat=False) == ""


def test_somebody_who_wants_out_is_work(workspace):
    (workspace / TAKEDOWN).write_text("kind,value\nspeaker,ada\n")
    assert finished.begin(workspace, inputs(workspace), repeat=False) == ""


def test_another_image_is_work(workspace, monkeypatch):
    monkeypatch.setenv("MSSYNC_IMAGE_DIGEST", "sha256:2")
    assert finished.begin(workspace, inputs(workspace), repeat=False) == ""


def test_without_an_image_the_code_itself_counts(workspace, monkeypatch):
    monkeypatch.delenv("MSSYNC_IMAGE_DIGEST")
    assert len(inputs(workspace).image) == 64
    assert inputs(workspace) == inputs(workspace)


def test_what_is_to_be_repeated_is_work(workspace):
    assert finished.begin(workspace, inputs(workspace), repeat=True) == ""


@pytest.mark.parametrize("spoil", ["remove", "change"])
def test_a_workspace_that_lost_its_results_is_work(workspace, spoil):
    decision = workspace / finished.DECISION
    decision.unlink() if spoil == "remove" else decision.write_text('{"decision": "refuse"}')
    assert finished.begin(workspace, inputs(workspace), repeat=False) == ""


@pytest.mark.parametrize(
    "content", ["", "[]", '{"run": "first"}', '{"run": 1, "inputs": {"a": 1}}']
)
def test_a_record_that_cannot_be_read_is_work(workspace, content):
    (workspace / finished.FINISHED).write_text(content)
    assert finished.begin(workspace, inputs(workspace), repeat=False) == ""


def test_a_run_that_did_nothing_leaves_the_record_as_it_is(workspace):
    before = (workspace / finished.FINISHED).read_bytes()
    finished.begin(workspace, inputs(workspace), repeat=False)
    finished.keep(workspace)
    assert (workspace / finished.FINISHED).read_bytes() == before


def test_a_run_of_which_nothing_is_known_is_not_kept(workspace):
    before = (workspace / finished.FINISHED).read_bytes()
    finished.keep(workspace)
    assert (workspace / finished.FINISHED).read_bytes() == before


def test_every_input_is_compared(workspace):
    given = inputs(workspace)
    for name in asdict(given).keys() - {"like"}:
        other = replace(given, **{name: "other"})
        assert finished.begin(workspace, other, repeat=False) == ""
