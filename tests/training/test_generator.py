import numpy as np
import pytest
import torch

from mssync.data.clips import Clip
from mssync.data.pack import pack_clips
from mssync.errors import InputError, ParamsError, TrainingDivergedError
from mssync.models.generator import Generator
from mssync.params import TrainGenerator
from mssync.tracking import NullTracker
from mssync.trained import checkpoint
from mssync.trained.networks import load_generator
from mssync.training.generator import fit
from mssync.training.group import Group
from tests.history import RATES, History
from tests.models.small import syncer

CPU = torch.device("cpu")
ALONE = Group()
SILENT = {
    "adversarial_frame": 0.0,
    "adversarial_sequence": 0.0,
    "sync": 0.0,
    "position": 0.0,
    "reconstruction": 0.0,
    "velocity": 0.0,
    "rigidity": 0.0,
}
EVERY = dict.fromkeys(SILENT, 1.0)
LOOP = {
    "precision": "float32",
    "cuda_graph": True,
    "warmup_steps": 0,
    "decay": "constant",
    "max_grad_norm": 1.0,
    "ema_decay": 0.0,
    "validate_every_steps": 0,
    "patience": 0,
    "log_every_steps": 1,
    "checkpoint_every_steps": 5,
    "keep_checkpoints": 2,
}


@pytest.fixture(autouse=True)
def _one_thread():
    """So small a model loses time to threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def settings(weights, **changes):
    return TrainGenerator.model_validate(
        {
            "generator": {
                "coordinate_hidden": [16, 16],
                "sees_source": False,
                "pull": 0.0,
                "width": 16,
                "temporal_module": "transformer",
                "temporal": 8,
                "layers": 1,
                "heads": 1,
                "feedforward": 16,
                "history_frames": 8,
                "audio_widths": [8, 8, 8, 8],
                "branch_width": 16,
                "branch_blocks": 1,
                "branch_expansion": 2,
            },
            "critics": {
                "embedding_hidden": [16, 16],
                "embedding": 8,
                "frame_hidden": 8,
                "state": 8,
                "projection": 8,
                "window_frames": [5, 10],
            },
            "weights": SILENT | weights,
            "observed_frames": 3,
            "predicted_frames": 9,
            "context_frames": 4,
            "standardise": True,
            "steps": 10,
            "batch": 2,
            "generator_learning_rate": 0.002,
            "critic_learning_rate": 0.001,
            "sync_levels": [0, 1, 2, 3],
            "augment": True,
            "loop": LOOP | {name: changes.pop(name) for name in LOOP.keys() & changes.keys()},
        }
        | changes
    )


def clip(seed, frames=40):
    rng = np.random.default_rng(seed)
    walk = rng.normal(0, 0.004, (frames, 68, 2)).cumsum(axis=0)
    motion = rng.uniform(0.3, 0.7, (1, 68, 2)) + walk
    audio = rng.normal(-5, 3, (4 * frames, 26))
    return Clip(str(seed), str(seed), "train", motion.astype("f4"), audio.astype("f4"))


def train(
    out,
    params,
    *,
    train=(),
    val=(),
    guides=(),
    tracker=None,
    key="k",
    threads=1,
    group=ALONE,
    device=CPU,
):
    return fit(
        pack_clips(train or [clip(0), clip(1)]),
        pack_clips(val),
        guides,
        params,
        kernel=7,
        seed=0,
        device=device,
        threads=threads,
        tracker=tracker or NullTracker(),
        out=out,
        key=key,
        group=group,
    )


def test_a_killed_run_ends_with_the_same_weights_bit_for_bit(tmp_path):
    params, guides = settings(EVERY), [syncer(0), syncer(1)]
    straight = train(tmp_path / "straight", params, guides=guides)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", params, guides=guides, tracker=History(killed_at=7))
    history = History()
    resumed = train(tmp_path / "killed", params, guides=guides, tracker=history)

    assert list(history.values) == [5, 6, 7, 8, 9]
    assert resumed == straight
    assert checkpoint.sha256(tmp_path / "killed/generator") == checkpoint.sha256(
        tmp_path / "straight/generator"
    )
    assert not (tmp_path / "killed/.resume").exists()


EVERYTHING = {
    "ema_decay": 0.9,
    "warmup_steps": 2,
    "decay": "cosine",
    "validate_every_steps": 2,
    "patience": 3,
    "checkpoint_every_steps": 3,
}


def test_a_run_with_averages_schedules_and_validations_resumes_bit_for_bit(tmp_path):
    params, guides = settings(EVERY, **EVERYTHING), [syncer(0), syncer(1)]
    val = [clip(5)]
    straight = train(tmp_path / "straight", params, guides=guides, val=val)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", params, guides=guides, val=val, tracker=History(killed_at=7))
    resumed = train(tmp_path / "killed", params, guides=guides, val=val)
    assert resumed == straight
    assert checkpoint.sha256(tmp_path / "killed/generator") == checkpoint.sha256(
        tmp_path / "straight/generator"
    )


def test_bfloat16_stays_close_to_float32(tmp_path):
    terms = {}
    for precision in ("float32", "bfloat16"):
        history = History()
        params = settings(EVERY, steps=3, precision=precision)
        train(tmp_path / precision, params, guides=[syncer(0)], tracker=history)
        terms[precision] = history.values
    assert terms["float32"] != terms["bfloat16"]
    for step, values in terms["float32"].items():
        for name, value in values.items():
            assert terms["bfloat16"][step][name] == pytest.approx(value, rel=0.1, abs=0.1), name
    weights, _ = checkpoint.load(tmp_path / "bfloat16/generator")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


def test_terms_without_weight_are_logged_and_teach_nothing(tmp_path):
    only = {"position": 1.0}
    history, guides = History(), [syncer(0)]
    train(tmp_path / "a", settings(only, steps=3), guides=guides, tracker=history)
    assert {f"train/{name}" for name in EVERY} <= history.values[0].keys()
    assert history.values[2]["train/loss"] == pytest.approx(history.values[2]["train/position"])
    train(tmp_path / "b", settings(only, steps=3, log_every_steps=2), guides=guides)
    assert checkpoint.sha256(tmp_path / "a/generator") == checkpoint.sha256(
        tmp_path / "b/generator"
    )


def test_a_single_scale_listens_to_the_lips_only(tmp_path):
    guides = [syncer(0), syncer(1)]
    terms = {}
    for levels in ([0], [1], [0, 1]):
        history = History()
        params = settings({"sync": 1.0}, steps=1, sync_levels=levels)
        metrics = train(
            tmp_path / str(levels), params, guides=guides, val=[clip(5)], tracker=history
        )
        terms[str(levels)] = history.values[0]["train/sync"]
        assert {"val/sync_level0", "val/sync_level1"} <= metrics.keys()
    assert terms["[0, 1]"] == pytest.approx((terms["[0]"] + terms["[1]"]) / 2)
    assert terms["[0]"] != terms["[1]"]
    with pytest.raises(ValueError, match=r"one of the levels \[3\], found \[0, 1\]"):
        train(tmp_path / "none", settings({"sync": 1.0}, sync_levels=[3]), guides=guides)


def test_a_run_killed_between_the_renames_of_a_checkpoint_goes_on_from_it(tmp_path):
    params, history = settings({"position": 1.0}), History()
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, params, tracker=History(killed_at=7))
    (tmp_path / ".resume/step-000000005").rename(tmp_path / ".resume/.step-000000005.previous")
    (tmp_path / ".resume/.step-000000005.writing").mkdir()
    train(tmp_path, params, tracker=history)
    assert list(history.values) == [5, 6, 7, 8, 9]
    assert [path.name for path in tmp_path.iterdir()] == ["generator"]


def test_a_checkpoint_that_cannot_be_read_is_replaced_and_said_so(tmp_path, caplog):
    params, history = settings({"position": 1.0}, steps=2), History()
    for name in (".resume/step-000000001", "generator"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / checkpoint.METADATA).write_text("{")
    train(tmp_path, params, tracker=history)
    assert list(history.values) == [0, 1]
    assert caplog.text.count("it will be replaced") == 2
    assert load_generator(tmp_path / "generator", CPU)


def test_a_run_killed_after_its_end_leaves_nothing_but_the_generator(tmp_path):
    params, history = settings({"position": 1.0}, steps=2), History()
    train(tmp_path, params)
    hidden = [".resume", "..resume.writing", "..resume.previous"]
    for name in [*hidden, ".generator.writing", ".generator.previous"]:
        (tmp_path / name).mkdir()
    train(tmp_path, params, tracker=history)
    assert not history.values
    assert [path.name for path in tmp_path.iterdir()] == ["generator"]


def test_a_checkpoint_of_other_inputs_is_not_used(tmp_path):
    params = settings({"position": 1.0})
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, params, key="other", tracker=History(killed_at=7))
    history = History()
    train(tmp_path, params, key="this", tracker=history)
    assert list(history.values) == list(range(10))


def test_a_finished_run_is_not_done_again(tmp_path):
    params, history = settings({"position": 1.0}, steps=2), History()
    first = train(tmp_path, params, val=[clip(2)])
    again = train(tmp_path, params, val=[clip(2)], tracker=history)
    assert again == first
    assert not history.values


def test_one_batch_is_memorised(tmp_path):
    only = clip(0, frames=12)
    params = settings(
        {"position": 1.0}, context_frames=0, augment=False, steps=80, log_every_steps=79
    )
    history = History()
    train(tmp_path, params, train=[only], tracker=history)
    first, last = (values["train/position"] for values in history.values.values())
    assert last < first / 3


def test_the_sync_loss_teaches_the_generator_and_leaves_the_guides_alone(tmp_path):
    guides = [syncer(0), syncer(1)]
    before = [{name: value.clone() for name, value in g.state_dict().items()} for g in guides]
    params = settings({"sync": 1.0}, context_frames=0, augment=False, steps=40, log_every_steps=39)
    history = History()
    train(tmp_path, params, train=[clip(0, frames=12)], guides=guides, tracker=history)
    first, last = (values["train/sync"] for values in history.values.values())

    assert history.values[0]["train/grad_norm"] > 0
    assert last < first - 0.02
    for guide, state in zip(guides, before, strict=True):
        assert all(parameter.grad is None for parameter in guide.parameters())
        assert all(torch.equal(value, state[name]) for name, value in guide.state_dict().items())


def test_one_roll_out_serves_critics_and_generator(tmp_path):
    roll_outs = 0

    def count(module, _inputs, _output):
        nonlocal roll_outs
        roll_outs += isinstance(module, Generator)

    hook = torch.nn.modules.module.register_module_forward_hook(count)
    try:
        train(tmp_path, settings(EVERY, steps=3), guides=[syncer(0)])
    finally:
        hook.remove()
    assert roll_outs == 3


def test_every_term_is_logged_by_name(tmp_path):
    history = History()
    train(tmp_path, settings(EVERY, steps=1), guides=[syncer(0)], tracker=history)
    critics = {"critic_frame", "critic_sequence"}
    expected = {f"train/{name}" for name in EVERY.keys() | critics | {"loss", "grad_norm"}}
    assert history.values[0].keys() == expected
    assert history.rates[0].keys() == RATES
    assert all(rate >= 0 for rate in history.rates[0].values())


def test_critics_learn_to_tell_generated_motion_from_real(tmp_path):
    history = History()
    params = settings(
        {"adversarial_frame": 1.0, "adversarial_sequence": 1.0},
        context_frames=0,
        augment=False,
        steps=40,
        critic_learning_rate=0.01,
        generator_learning_rate=1e-6,
        log_every_steps=39,
    )
    train(tmp_path, params, train=[clip(0, frames=12)], tracker=history)
    first, last = history.values.values()
    for critic in ("train/critic_frame", "train/critic_sequence"):
        assert last[critic] < first[critic] / 2


def test_validation_reports_position_and_sync_of_every_level(tmp_path):
    metrics = train(
        tmp_path, settings({"position": 1.0}, steps=1), val=[clip(5)], guides=[syncer(0), syncer(1)]
    )
    assert metrics["val/position"] > 0
    assert -1 <= metrics["val/sync_level0"] <= 1
    assert "val/sync_level1" in metrics
    assert metrics["train/sync_windows_level0"] > metrics["train/sync_windows_level1"] > 0


def test_validation_clips_that_are_too_short_are_no_failure(tmp_path):
    metrics = train(tmp_path, settings({"position": 1.0}, steps=1), val=[clip(5, frames=11)])
    assert not any(name.startswith("val/") for name in metrics)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    broken = clip(0)
    broken.audio_AM[20] = np.nan
    with pytest.raises(TrainingDivergedError, match=r"step 0: .*train/position.*learning_rate"):
        train(tmp_path, settings({"position": 1.0}, batch=8), train=[broken])
    assert not (tmp_path / "generator").exists()


def test_a_loss_without_terms_is_refused(tmp_path):
    with pytest.raises(ParamsError, match="weights is 0"):
        train(tmp_path, settings({}))


def test_sync_without_guides_is_refused(tmp_path):
    with pytest.raises(ValueError, match="needs a guide"):
        train(tmp_path, settings({"sync": 1.0}))


def test_a_loaded_generator_moves_at_the_speed_of_the_training_clips(tmp_path):
    train(tmp_path, settings({"position": 1.0}, steps=1))
    generator = load_generator(tmp_path / "generator", CPU)
    motion = generator.generate(
        torch.from_numpy(clip(0).motion_TPD[0]), torch.from_numpy(clip(0).audio_AM)[None]
    )
    assert not generator.training
    assert motion.shape == (1, 40, 68, 2)
    assert 0 < motion.diff(dim=1).abs().mean() < 0.004


def test_loading_what_is_no_generator_is_refused(tmp_path):
    checkpoint.save(tmp_path / "generator", {"weight": torch.ones(1)}, {"size": {"wide": 1}})
    with pytest.raises(InputError, match="no checkpoint of a generator"):
        load_generator(tmp_path / "generator", CPU)
