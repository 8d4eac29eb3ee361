import json

import pytest
import torch

from mssync.landmarks import ibug
from mssync.models.convnext import Block, Tower
from mssync.models.syncer import Syncer
from mssync.points import POINT_SETS

PAPER = {
    "motion_stem": 272,
    "motion_widths": [272, 272, 272, 512],
    "audio_stem": 32,
    "audio_widths": [64, 128, 256, 512],
    "blocks": [2, 2, 2, 2],
    "embedding": 512,
}
SMALL = {
    "motion_stem": 8,
    "motion_widths": [8, 8, 8, 12],
    "audio_stem": 4,
    "audio_widths": [4, 8, 8, 12],
    "blocks": [1, 2, 1, 1],
    "embedding": 16,
}


def small(points=range(ibug.POINTS), *, normalise=True, inputs="absolute"):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Syncer(level=1, points=points, normalise=normalise, inputs=inputs, **SMALL)


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture
def motion():
    return torch.rand(3, 5, 68, 2, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def audio():
    return torch.randn(3, 20, 26, generator=torch.Generator().manual_seed(2))


def test_the_paper_s_size_has_the_paper_s_parameters():
    syncer = Syncer(level=0, points=range(ibug.POINTS), normalise=True, **PAPER)
    assert parameters(syncer.motion_input) == 37_264
    assert parameters(syncer.motion_tower) == 7_750_912
    assert parameters(syncer.audio_tower) == 4_292_948
    assert parameters(syncer) == 12_081_124


def test_relative_inputs_do_not_tell_where_a_face_is(motion, audio):
    moved = motion + torch.rand(68, 2, generator=torch.Generator().manual_seed(3))
    relative, absolute = small(inputs="relative"), small()
    torch.testing.assert_close(relative.embed_motion(moved), relative.embed_motion(motion))
    assert not torch.allclose(absolute.embed_motion(moved), absolute.embed_motion(motion))
    still = motion[:, :1].expand(-1, 5, -1, -1)
    torch.testing.assert_close(
        relative.embed_motion(still), relative.embed_motion(torch.zeros_like(still))
    )
    assert not torch.allclose(relative.embed_audio(audio + 3), relative.embed_audio(audio))


def test_relative_inputs_hold_motion_and_its_velocity():
    syncer = small(inputs="relative")
    heard = []
    syncer.motion_input.register_forward_hook(lambda _, inputs, __: heard.append(inputs[0]))
    ramp = torch.arange(5.0)[None, :, None, None].expand(1, 5, 68, 2)
    syncer.embed_motion(ramp)
    features_15C = heard[0]
    assert features_15C.shape == (1, 5, 272)
    assert features_15C[0, :, 0].tolist() == [-2, -1, 0, 1, 2]
    assert features_15C[0, :, 136].tolist() == [0, 2.5, 2.5, 2.5, 2.5]


def test_guides_embed_on_the_unit_sphere(motion, audio):
    embedded = small()(motion, audio)
    for embedding in embedded:
        assert embedding.shape == (3, 16)
        torch.testing.assert_close(embedding.norm(dim=1), torch.ones(3))


def test_evaluators_embed_at_any_length(motion, audio):
    raw = small(normalise=False)(motion, audio)
    unit = small(normalise=True)(motion, audio)
    for raw_NE, unit_NE in zip(raw, unit, strict=True):
        assert not torch.allclose(raw_NE.norm(dim=1), torch.ones(3))
        torch.testing.assert_close(torch.nn.functional.normalize(raw_NE, dim=1), unit_NE)


def test_a_head_syncer_does_not_see_the_lips(motion):
    syncer = small(POINT_SETS["no_lips"].indices)
    other_lips = motion.clone()
    other_lips[:, :, list(POINT_SETS["lips"].indices)] += 1
    other_brow = motion.clone()
    other_brow[:, :, 20] += 1
    assert torch.equal(syncer.embed_motion(motion), syncer.embed_motion(other_lips))
    assert not torch.allclose(syncer.embed_motion(motion), syncer.embed_motion(other_brow))


def test_windows_of_a_batch_do_not_touch_each_other(motion, audio):
    syncer = small()
    torch.testing.assert_close(syncer.embed_motion(motion)[1:2], syncer.embed_motion(motion[1:2]))
    torch.testing.assert_close(syncer.embed_audio(audio)[1:2], syncer.embed_audio(audio[1:2]))


def test_the_order_of_samples_matters(motion, audio):
    syncer = small()
    assert not torch.allclose(syncer.embed_motion(motion), syncer.embed_motion(motion.flip(1)))
    assert not torch.allclose(syncer.embed_audio(audio), syncer.embed_audio(audio.flip(1)))


def test_units_do_not_matter_once_inputs_are_standardised(motion, audio):
    plain, standard = small(), small()
    standard.motion_norm.fit(torch.full((136,), 3.0), torch.full((136,), 2.0))
    standard.audio_norm.fit(torch.full((26,), -5.0), torch.full((26,), 4.0))
    for expected, found in zip(
        plain(motion, audio), standard(motion * 2 + 3, audio * 4 - 5), strict=True
    ):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


def test_gradients_reach_every_coordinate_through_a_frozen_syncer(motion):
    syncer = small().requires_grad_(False)
    motion.requires_grad_(True)
    syncer.embed_motion(motion)[:, 0].sum().backward()
    assert (motion.grad != 0).all()


def test_a_syncer_is_rebuilt_from_its_config(motion, audio):
    syncer = small(POINT_SETS["lips"].indices, normalise=False, inputs="relative")
    syncer.audio_norm.fit(torch.ones(26), torch.full((26,), 2.0))
    rebuilt = Syncer.from_config(json.loads(json.dumps(syncer.to_config())))
    rebuilt.load_state_dict(syncer.state_dict())
    assert (rebuilt.level, rebuilt.points) == (1, tuple(ibug.LIPS))
    for expected, found in zip(syncer(motion, audio), rebuilt(motion, audio), strict=True):
        assert torch.equal(expected, found)


@pytest.mark.parametrize("points", [[], [68], [-1, 3]])
def test_points_outside_the_face_are_refused(points):
    with pytest.raises(ValueError, match="points must be indices below 68"):
        small(points)


def test_a_tower_needs_a_number_of_blocks_for_each_width():
    with pytest.raises(ValueError, match="as many numbers of blocks"):
        Tower(4, stem=4, widths=[4, 4], blocks=[1], embedding=4)


@pytest.mark.parametrize(("samples", "left"), [(5, 3), (3, 2), (2, 1), (1, 1), (20, 10)])
def test_a_strided_block_halves_time_rounding_up(samples, left):
    assert Block(4, 6, stride=2)(torch.rand(2, samples, 4)).shape == (2, left, 6)
