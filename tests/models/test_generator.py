import pytest
import torch

from mssync.models.audio_encoder import AudioEncoder, at_frames
from mssync.models.generator import Generator
from tests.models.small import GENERATOR

PAPER = {
    "coordinate_hidden": [272, 1088],
    "width": 512,
    "temporal_module": "transformer",
    "temporal": 64,
    "layers": 1,
    "heads": 1,
    "feedforward": 1024,
    "history_frames": 40,
    "audio_widths": [64, 128, 256, 512],
    "branch_width": 272,
    "branch_blocks": 3,
    "branch_expansion": 4,
}


def small(**changes):
    torch.manual_seed(0)
    model = Generator(**GENERATOR | changes)
    model.velocity_scale_X.fill_(0.05)
    return model


@pytest.fixture
def generator():
    return small()


def test_what_it_began_with_is_forgotten_unless_it_sees_it(random):
    first, last = faces(1, random)[:, :1], faces(2, random)[:, 1:]
    audio = speech(30, random)
    for sees_source in (False, True):
        model = small(sees_source=sees_source, history_frames=2)
        ends = [
            model(torch.cat([start, last, last, last], dim=1), audio)[:, 6:]
            for start in (first, first.flip(0))
        ]
        assert torch.equal(*ends) is not sees_source


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return AudioEncoder(widths=GENERATOR["audio_widths"])


@pytest.fixture
def random():
    return torch.Generator().manual_seed(1)


def speech(frames, random, clips=2):
    return torch.randn(clips, 4 * frames, 26, generator=random)


def faces(frames, random, clips=2):
    return torch.rand(clips, frames, 68, 2, generator=random)


def test_the_papers_size_has_the_papers_number_of_parameters():
    with torch.device("meta"):
        model = Generator(**PAPER)
    assert sum(parameter.numel() for parameter in model.parameters()) == 35_597_272


@pytest.mark.parametrize("history", [1, 2, 4, 40])
@torch.no_grad()
def test_the_sliding_cache_gives_what_attention_to_the_last_embeddings_gives(history, random):
    generator = small(history_frames=history)
    real, audio = faces(3, random), speech(14, random)
    motion = generator(real, audio)
    fed = torch.cat([real, motion[:, 3:]], dim=1).flatten(2)
    heard = generator.branches.hear(generator.encode_audio(audio))
    embedded = generator.coordinates(generator.standardise(fed))
    (layer,) = generator.temporal.layers
    for frame in range(13):
        seen = embedded[:, max(0, frame - history + 1) : frame + 1]
        mask = torch.nn.Transformer.generate_square_subsequent_mask(seen.shape[1])
        state = generator.temporal.project(layer(seen, src_mask=mask, is_causal=True)[:, -1])
        velocity = generator.branches(
            torch.cat([state, embedded[:, frame]], dim=1), heard[:, frame + 1]
        )
        torch.testing.assert_close(
            fed[:, frame] + 0.05 * velocity, motion[:, frame + 1].flatten(1), atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("history", [1, 2, 4])
@torch.no_grad()
def test_the_cache_never_grows_beyond_the_history(history, random):
    temporal = small(layers=2, history_frames=history).temporal
    caches = temporal.start()
    for step in range(1, 8):
        temporal.step(torch.rand(2, 16, generator=random), caches)
        assert [cache.shape[1] for cache in caches] == [min(step, history)] * 2


def test_an_lstm_is_about_as_large_as_the_transformer_in_its_place():
    with torch.device("meta"):
        model = Generator(**PAPER | {"temporal_module": "lstm"})
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == pytest.approx(35_597_272, rel=0.01)


@pytest.mark.parametrize("layers", [1, 2])
@torch.no_grad()
def test_an_lstm_step_by_step_gives_what_torchs_gives_at_once(layers, random):
    temporal = small(temporal_module="lstm", layers=layers).temporal
    embedded = torch.rand(9, 2, 16, generator=random)
    memory = temporal.start()
    states = torch.stack([temporal.step(frame, memory) for frame in embedded])
    torch.testing.assert_close(states, temporal.project(temporal.lstm(embedded)[0]))


def test_several_layers_roll_out_past_their_history(random):
    motion = small(layers=3)(faces(3, random), speech(12, random))
    assert motion.shape == (2, 12, 68, 2)
    assert motion.isfinite().all()


@torch.no_grad()
def test_observed_frames_are_rebuilt_from_the_real_ones_before_them(generator, random):
    real, audio = faces(3, random), speech(8, random)
    motion = generator(real, audio)
    changed = real.clone()
    changed[:, 2] += 0.1
    other = generator(changed, audio)

    assert torch.equal(motion[:, 0], real[:, 0])
    assert torch.equal(motion[:, :3], other[:, :3])
    assert not torch.allclose(motion[:, 3], other[:, 3])


def test_gradients_flow_through_the_roll_out(generator, random):
    real, audio = faces(3, random).requires_grad_(), speech(20, random).requires_grad_()
    generator(real, audio)[:, -1].sum().backward()
    assert real.grad[:, 2].abs().min() > 0
    assert audio.grad[:, :40].abs().max() > 0


@pytest.mark.parametrize(("row", "first_changed"), [(154, 9), (155, 17), (186, 17), (187, 25)])
@torch.no_grad()
def test_a_frame_hears_at_most_118_rows_ahead(encoder, random, row, first_changed):
    audio = speech(80, random, clips=1)
    later = audio.clone()
    later[:, row:] += torch.rand(1, 320 - row, 26, generator=random)
    changed = [
        (before != after).any(dim=2)[0].nonzero()[0].item()
        for before, after in zip(encoder(audio), encoder(later), strict=True)
    ]
    assert min(changed) == changed[-1] == first_changed


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_coarse_streams_are_interpolated_at_their_true_times(scale):
    sample_times = torch.arange(0, 21, 2**scale, dtype=torch.float32)
    at_25_hz = at_frames(sample_times[None, :, None], scale=scale, frames=21)[0, :, 0]
    torch.testing.assert_close(at_25_hz, torch.arange(21.0).clamp(max=sample_times[-1]))


@torch.no_grad()
def test_audio_that_comes_eight_frames_later_is_heard_eight_frames_later(encoder, random):
    audio = speech(80, random, clips=1)
    for stream, late in zip(encoder(audio), encoder(audio[:, 32:]), strict=True):
        torch.testing.assert_close(stream[:, 8 + 32 : 60], late[:, 32:52], atol=1e-5, rtol=0)


@pytest.mark.parametrize("frames", [1, 2, 5, 30])
@torch.no_grad()
def test_generated_motion_has_the_length_of_its_audio(generator, random, frames):
    motion = generator.generate(faces(1, random)[:, 0], speech(frames, random))
    assert motion.shape == (2, frames, 68, 2)


@torch.no_grad()
def test_generating_observes_the_source_three_times_on_mirrored_audio(generator, random):
    source, audio = faces(1, random), speech(10, random)
    by_hand = generator(source.repeat(1, 3, 1, 1), torch.cat([audio[:, 1:9].flip(1), audio], dim=1))
    assert torch.equal(generator.generate(source[:, 0], audio), by_hand[:, 2:])


@pytest.mark.parametrize("module", ["transformer", "lstm"])
@pytest.mark.parametrize("sizes", [[1], [3, 50, 1], [4], [400]])
def test_streaming_equals_one_call(random, sizes, module):
    generator = small(temporal_module=module)
    source, audio = faces(1, random)[0, 0], speech(100, random, clips=1)
    chunks, start = [], 0
    while start < 400:
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(audio[0, start : start + size])
        start += size
    streamed = torch.stack(list(generator.stream(source, iter(chunks))))
    whole = generator.generate(source, audio)[0]
    torch.testing.assert_close(streamed, whole, atol=1e-4, rtol=0)


def test_streaming_waits_for_at_most_1_3_s_of_audio(generator, random):
    audio = speech(100, random, clips=1)[0]
    taken = 0

    def microphone():
        nonlocal taken
        for row in audio:
            taken += 1
            yield row[None]

    for frame, _ in enumerate(generator.stream(faces(1, random)[0, 0], microphone())):
        assert taken <= min(400, 4 * frame + 130)


def test_short_clips_stream_too(generator, random):
    source, audio = faces(1, random)[0, 0], speech(1, random, clips=1)
    (streamed,) = generator.stream(source, [audio[0]])
    torch.testing.assert_close(streamed, generator.generate(source, audio)[0, 0])
    assert list(generator.stream(source, [])) == []


def test_a_still_velocity_scale_keeps_the_face_still(generator, random):
    generator.velocity_scale_X.zero_()
    source = faces(1, random)[:, 0]
    motion = generator.generate(source, speech(9, random))
    assert torch.equal(motion, source[:, None].expand_as(motion))


def test_audio_of_another_rate_is_refused(generator, random):
    with pytest.raises(ValueError, match="4 rows a frame, found 39 rows"):
        generator(faces(3, random), speech(10, random)[:, :39])


def test_more_observed_frames_than_audio_are_refused(generator, random):
    with pytest.raises(ValueError, match="1 to 2 observed frames, found 3"):
        generator(faces(3, random), speech(2, random))
