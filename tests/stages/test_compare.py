"""Runs and versions of the dataset, side by side on one page."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from mssync import tracking
from mssync.data import history
from mssync.errors import InputError
from mssync.ledger import Decision
from mssync.metrics import sync
from mssync.params import text
from mssync.render import gallery, payload
from mssync.render.gallery import Page
from mssync.render.payload import GalleryEntry, Trace
from mssync.stages import _compare, _deltas, _traces
from mssync.stages._deltas import Scored

FRAMES, CLIPS = 60, 12
LABELS = ("Ground truth", "Generated", "Retrieval")


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


def entry(number, seed):
    truth = np.random.default_rng(number).random((FRAMES, 68, 2), np.float32)
    made = np.random.default_rng([number, seed]).random((FRAMES, 68, 2), np.float32)
    line = np.arange(56, dtype=np.float32)
    return GalleryEntry(
        clip_id=f"clip-{number} @ frame 0",
        speaker="anna",
        motions=dict(zip(LABELS, (truth, made, truth), strict=True)),
        waveform=np.full(FRAMES * 640, 0.1, np.float32),
        scores={"LSE-D": dict.fromkeys(LABELS, 3.0 + seed)},
        traces=[Trace(0, 0.1, 0.04, dict.fromkeys(LABELS, line))],
    )


def evaluation(folder, values, seed, *, truth=2.0):
    """Files as `evaluate` writes them, of a generator with these distances."""
    scored = {"value": float(np.mean(values)), "low": None, "high": None, "ground_truth": truth}
    metrics = {"lse_d": {"all": {"level0": scored}}}
    sequences = {
        "sequences": [
            {"clip_id": f"clip-{number}", "start": 0, "speaker_id": "anna"}
            for number in range(CLIPS)
        ],
        "scores": {"generated": {"lse_d.all.level0": list(values)}},
    }
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps({"challenger": {"metrics": metrics}}))
    (folder / "sequences.json").write_text(json.dumps(sequences))
    page = Page(title="a", summary="b", entries=[entry(number, seed) for number in range(2)])
    gallery.write_gallery(folder / "index.html", page, embedded=0)
    return folder


def train(
    params,
    tmp_path,
    key,
    *,
    steps=60,
    revision="a" * 64,
    name="",
    evaluated=None,
    kept=None,
    **tags,
):
    with tracking.mlflow_run(
        params.paths.tracking_uri,
        "mssync",
        name=name or key,
        key=key,
        tags={"dataset_revision": revision, "seed": "0"} | tags,
        params={"steps": steps, "width": 8},
    ) as tracker:
        for step in (0, 10):
            tracker.log({"train/loss": 2.0 - step / 10}, step)
        for file in evaluated.iterdir() if evaluated else ():
            tracker.log_files(file, "evaluation")
        if kept:
            tracker.log_files(kept, tracking.RECIPE)


def compare(params, *names, videos=None):
    told = _compare.run(
        names,
        Path("out.html"),
        params,
        dataset_folder=Path("data/dataset"),
        videos=videos,
        images=Path("plots"),
    )
    return told, Path("out.html").read_text()


def rows(html, title):
    """Texts of a table's cells, row by row."""
    body = html[html.index(f'aria-label="{title}"') :].split("</table>")[0]
    found = re.findall(r"<tr>(.*?)</tr>", body.split("<tbody>")[1], re.DOTALL)
    return [
        [re.sub(r"<[^>]+>", " ", cell).split() for cell in re.findall(r"<t[hd].*?</t[hd]>", row)]
        for row in found
    ]


def test_two_runs_are_told_apart_by_parameters_and_paired_scores(tiny, tmp_path):
    hard = np.linspace(2, 9, CLIPS)  # clips differ far more than the runs do
    train(tiny, tmp_path, "one", evaluated=evaluation(tmp_path / "a", hard, 1))
    train(tiny, tmp_path, "two", steps=90, evaluated=evaluation(tmp_path / "b", hard - 0.3, 2))
    told, html = compare(tiny, "one", "two")
    assert "2 runs on the same data, 1 parameter differs, 2 clips." in told
    assert rows(html, "Parameters") == [[["steps"], ["60"], ["90"]]]
    (lips,) = rows(html, "Scores")
    assert lips[3] == ["−0.300", "[−0.300,", "−0.300]"]
    assert 'class="tone-good"' in html
    clips = payload.read(Path("out.html"))
    assert list(clips[0].motions) == ["Ground truth", "one", "two", "Retrieval"]
    made = entry(0, 2).motions["Generated"]
    assert np.abs(clips[0].motions["two"] - made).max() < 1e-3
    assert clips[0].scores["LSE-D"]["two"] == 5.0
    assert clips[0].traces[0].systems.keys() == set(clips[0].motions)
    assert "train/loss" in html
    assert {path.name for path in Path("plots").iterdir()} == {
        "drift_level_0.svg",
        "training_train_loss.svg",
    }


def test_what_guides_were_taught_with_is_a_difference_too(tiny, tmp_path):
    for name, inputs in (("one", "absolute"), ("two", "relative")):
        syncers = tiny.train_syncers.model_copy(update={"guide_inputs": inputs})
        kept = tmp_path / name / "params.yaml"
        kept.parent.mkdir()
        kept.write_text(text(tiny.model_copy(update={"train_syncers": syncers})))
        train(tiny, tmp_path, name, kept=kept)
    told, html = compare(tiny, "one", "two")
    assert rows(html, "Parameters") == [
        [["train_syncers.guide_inputs"], ["absolute"], ["relative"]]
    ]
    assert "of all stages" in told

    by_hand = tmp_path / "by hand" / "params.yaml"
    by_hand.parent.mkdir()
    by_hand.write_text((tmp_path / "one" / "params.yaml").read_text().replace("1.0\n", "1\n"))
    train(tiny, tmp_path, "by hand", kept=by_hand)
    told, _ = compare(tiny, "one", "by hand")
    assert "0 parameters differ" in told

    by_hand.write_text("run: [")
    train(tiny, tmp_path, "damaged", kept=by_hand)
    with pytest.raises(InputError, match=r"recipe/params\.yaml of a run is damaged"):
        compare(tiny, "one", "damaged")

    train(tiny, tmp_path, "bare", steps=90)
    told, html = compare(tiny, "one", "bare")
    assert rows(html, "Parameters") == [[["steps"], ["60"], ["90"]]]
    assert "not all of the runs kept those of the others" in told


def test_other_judges_and_missing_evaluations_are_told(tiny, tmp_path):
    values = np.linspace(2, 3, CLIPS)
    train(tiny, tmp_path, "one", evaluated=evaluation(tmp_path / "a", values, 1))
    train(tiny, tmp_path, "two", evaluated=evaluation(tmp_path / "b", values, 1, truth=2.5))
    decided = {"gate.decision": "refused", "gate.reason": "level 2 is worse"}
    train(tiny, tmp_path, "bare", revision="b" * 64, **decided)
    told, html = compare(tiny, "one", "two", "bare")
    assert "one and two were scored by other evaluators" in told
    assert "bare has no scores, no scores of each sequence, no clips" in told
    assert "on 2 versions of the data" in told
    assert "The gate on bare: refused: level 2 is worse" in told
    assert rows(html, "Scores")[0][3][1:] == ["not", "paired"]


def test_a_name_that_several_runs_have_is_refused_with_their_ids(tiny, tmp_path):
    train(tiny, tmp_path, "one", name="train-generator")
    train(tiny, tmp_path, "two", name="train-generator")
    with pytest.raises(InputError, match=r"2 runs have the name train-generator.*has \w{8} train"):
        compare(tiny, "train-generator", "train-generator")
    with pytest.raises(InputError, match="no run has the name or id elsewhere"):
        compare(tiny, "elsewhere", "train-generator")
    with pytest.raises(InputError, match="registry has no @champion"):
        compare(tiny, "@champion", "train-generator")
    with pytest.raises(InputError, match="two names or more, found 1"):
        compare(tiny, "train-generator")


def test_a_ground_truth_of_other_data_is_shown_beside(tiny, tmp_path):
    one = evaluation(tmp_path / "a", np.linspace(2, 3, CLIPS), 1)
    two = evaluation(tmp_path / "b", np.linspace(2, 3, CLIPS), 1)
    moved = entry(0, 1)
    moved = GalleryEntry(
        **(vars(moved) | {"motions": {n: m + 0.1 for n, m in moved.motions.items()}})
    )
    gallery.write_gallery(two / "index.html", Page("a", "b", entries=[moved]), embedded=0)
    train(tiny, tmp_path, "one", evaluated=one)
    train(tiny, tmp_path, "two", evaluated=two)
    compare(tiny, "one", "two", videos=tmp_path / "videos")
    first, second = payload.read(Path("out.html"))
    assert "Ground truth of two" in first.motions
    assert list(second.motions) == ["Ground truth", "one", "Retrieval"]
    assert len(list((tmp_path / "videos").iterdir())) == 2


def remember(revision, clips):
    """A version of clips: id -> speaker, split, reason."""
    kept = [
        {"clip_id": name, "split": split, "frames": 90_000}
        for name, (_, split, reason) in clips.items()
        if not reason
    ]
    history.remember(
        Path("data/versions"),
        revision,
        kept,
        [Decision(name, reason, "") for name, (_, _, reason) in sorted(clips.items())],
        seen={row["clip_id"]: "0" * 64 for row in kept},
        speakers={name: speaker for name, (speaker, _, _) in clips.items()},
        facts={"clips": len(kept)},
    )


def test_versions_of_the_dataset_are_told_apart(tiny):
    remember("a" * 64, {"1": ("anna", "train", ""), "2": ("bob", "test", "")})
    remember(
        "b" * 64,
        {"1": ("anna", "train", ""), "2": ("bob", "", "no_face"), "3": ("eve", "train", "")},
    )
    told, html = compare(tiny, "aaaa", "bbbb")
    assert "2 versions, of 2, 2 clips that are kept" in told
    size = {tuple(row[0]): [cell[0] for cell in row[1:]] for row in rows(html, "Size")}
    assert size["train:", "hours"] == ["1", "2", "+1"]
    assert size["train:", "speakers"] == ["1", "2", "+1"]
    assert size["test:", "clips"] == ["1", "0", "-1"]
    assert [row[0] for row in rows(html, "Speakers that are kept")] == [["bob"], ["eve"]]
    assert rows(html, "Left out") == [[["no_face"], ["0"], ["1"], ["+1"]]]
    title = f"Clips, {'a' * 12} → {'b' * 12}"
    assert [row[:2] for row in rows(html, title)] == [
        [["3"], ["added"]],
        [["2"], ["decided", "otherwise"]],
    ]


def test_runs_are_not_compared_with_versions(tiny, tmp_path):
    remember("a" * 64, {"1": ("anna", "train", "")})
    with pytest.raises(InputError, match="aaaa is a version of the dataset, one is none"):
        compare(tiny, "aaaa", "one")


def test_a_difference_that_is_the_same_in_every_sequence_is_sure():
    def scored(label, values):
        names = [{"clip_id": str(n), "start": 0} for n in range(len(values))]
        found = {"sequences": names, "scores": {"generated": {"rigidity": values}}}
        return Scored(label, None, found)

    one, two = scored("a", [1.0, 5.0, None, 9.0]), scored("b", [2.0, 6.0, 3.0, 10.0])
    found = _deltas.paired_difference(one, two, "rigidity", seed=0, resamples=100)
    assert (found.value, found.low, found.high, found.n) == (1.0, 1.0, 1.0, 3)
    assert _deltas.paired_difference(one, two, "lse_d", seed=0, resamples=100) is None


class Judge:
    """Hears the first mel band, sees the first coordinate."""

    from_mean = False

    level = 1

    def embed_motion(self, motion_N5PD):
        return motion_N5PD[:, 2, 0, :1]

    def embed_audio(self, audio_N20M):
        return audio_N20M[:, 8:12, 0].mean(dim=1, keepdim=True)


def test_distance_over_time_is_that_of_the_same_moment():
    frames = 60
    motion = np.zeros((frames, 68, 2), np.float32)
    audio = np.zeros((frames * 4, 26), np.float32)
    motion[:, 0, 0] = np.arange(frames)
    found = _traces.distances(motion, audio, Judge(), kernel=7)
    (trace,) = _traces.traces({"a": motion}, audio, [Judge()], kernel=7)
    known = np.isfinite(found)
    assert not known[0]
    at_s = trace.start_s + np.arange(len(found)) * trace.step_s
    assert found[known] == pytest.approx(at_s[known] * 25 - 0.5, abs=1e-3)
    assert sync.CEILING == _deltas.CEILING
