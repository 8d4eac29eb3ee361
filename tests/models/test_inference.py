from functools import partial

import pytest
import torch

from mssync.models.audio_encoder import ConvBlock
from mssync.models.convnext import Block
from mssync.models.generator import Generator
from mssync.models.inference import _CastMaps, _weights, prepare
from mssync.models.maps import affine
from mssync.models.packed import PackedBlock
from tests.models import small


@pytest.fixture(
    params=[
        {"temporal_module": "transformer"},
        {"temporal_module": "lstm", "layers": 2},
        {"sees_source": True, "pull": 0.1},
        {"history_frames": 1, "heads": 1},
        {"layers": 2, "branch_blocks": 2},
    ],
    ids=str,
)
def generator(request):
    torch.manual_seed(0)
    model = Generator(**small.GENERATOR | request.param)
    model.velocity_scale_X.fill_(0.01)
    return model


@pytest.fixture
def source():
    return torch.rand(68, 2, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def audio():
    return torch.randn(200, 26, generator=torch.Generator().manual_seed(2))


def test_a_prepared_generator_makes_the_same_motion(generator, source, audio):
    made = prepare(generator, dtype=torch.float32).generate(source, audio)
    expected = generator.generate(source[None], audio[None])[0]
    assert made.shape == (50, 68, 2)
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=0)


def test_weights_of_16_bits_stay_near_it_in_positions_of_32(generator, source, audio):
    made = prepare(generator, dtype=torch.bfloat16).generate(source, audio)
    expected = generator.generate(source[None], audio[None])[0]
    assert made.dtype == torch.float32
    assert 0 < (made - expected).abs().max() < 0.1 * (expected - source).abs().max()


def test_maps_for_accelerators_stay_near_it_too(generator, source, audio):
    weights = list(_weights(generator))
    expected = torch.stack(list(generator.stream(source, [audio])))
    for dtype, share in ((torch.float32, 1e-4), (torch.bfloat16, 0.1)):
        advance = partial(generator.advance, maps=_CastMaps(weights, dtype))
        made = torch.stack(list(generator.stream(source, [audio], advance=advance)))
        assert made.dtype == torch.float32
        assert (made - expected).abs().max() < share * (expected - source).abs().max()


@pytest.mark.parametrize("sizes", [[1], [3, 50, 1], [200]])
def test_streaming_equals_one_call(generator, source, audio, sizes):
    prepared = prepare(generator, dtype=torch.bfloat16)
    chunks, start = [], 0
    while start < len(audio):
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(audio[start : start + size])
        start += size
    streamed = torch.stack(list(prepared.stream(source, iter(chunks))))
    torch.testing.assert_close(streamed, prepared.generate(source, audio), atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_odd_widths_lose_no_output(source, audio, dtype):
    torch.manual_seed(0)
    widths = {"width": 18, "temporal": 7, "branch_width": 14, "branch_blocks": 2, "layers": 2}
    model = Generator(**small.GENERATOR | widths | {"coordinate_hidden": [15, 23]})
    model.velocity_scale_X.fill_(0.01)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())  # so that 16 bits hold it
    made = prepare(model, dtype=dtype).generate(source, audio)
    expected = model.generate(source[None], audio[None])[0]
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 7])
def test_a_packed_block_gives_few_samples_and_many(stride, kernel):
    torch.manual_seed(0)
    block = ConvBlock(6, 9, kernel=kernel, stride=stride).requires_grad_(False)
    packed = PackedBlock(block)
    with torch.inference_mode():
        for times in (1, 5, 16, 40):
            x_1TC = torch.randn(1, times, 6)
            torch.testing.assert_close(packed(x_1TC), block(x_1TC), atol=1e-5, rtol=0)
            for which in (slice(0, 1), slice(1, 3), slice(-2, None)):
                made, expected = packed.outputs(x_1TC, which), block.outputs(x_1TC, which)
                torch.testing.assert_close(made, expected, atol=1e-5, rtol=0)
        for x_NTC in (torch.randn(3, 5, 6), torch.randn(0, 5, 6)):
            torch.testing.assert_close(packed(x_NTC), block(x_NTC))
    x_1TC = torch.randn(1, 5, 6, requires_grad=True)
    (gradient_1TC,) = torch.autograd.grad(packed(x_1TC).square().sum(), x_1TC)
    assert gradient_1TC.abs().max() > 0


def test_a_block_without_weights_around_it_stays_as_it_is(source, audio):
    torch.manual_seed(0)
    model = Generator(**small.GENERATOR | {"audio_widths": [8, 12, 12, 16]})
    prepared = prepare(model, dtype=torch.float32)
    kinds = [type(block) for block in prepared._generator.audio.to_frames]
    assert kinds == [PackedBlock, PackedBlock, Block, PackedBlock]
    expected = model.generate(source[None], audio[None])[0]
    streamed = torch.stack(list(prepared.stream(source, audio.split(3))))
    torch.testing.assert_close(streamed, expected, atol=1e-5, rtol=0)


def test_two_streams_do_not_disturb_each_other(generator, source, audio):
    prepared = prepare(generator, dtype=torch.float32)
    alone = prepared.generate(source, audio)
    pairs = zip(
        prepared.stream(source, [audio]), prepared.stream(1 - source, [-audio]), strict=True
    )
    assert torch.equal(torch.stack([frame for frame, _ in pairs]), alone)


def test_what_is_no_number_stays_so(generator, source, audio):
    audio[100:] = torch.nan
    made = prepare(generator, dtype=torch.bfloat16).generate(source, audio)
    assert made[-1].isnan().all()


def test_other_precisions_come_in(generator, source, audio):
    made = prepare(generator, dtype=torch.float32).generate(source.double(), audio)
    assert made.dtype == torch.float32


def test_a_caller_keeps_their_gradients_between_frames(generator, source, audio):
    for _ in prepare(generator, dtype=torch.float32).stream(source, [audio]):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()


def test_every_weight_of_a_step_is_prepared(generator):
    prepared = {id(weight) for weight in _weights(generator)}
    used = set()

    def noted(x, weight, bias):
        used.add(id(weight))
        return affine(x, weight, bias)

    advance = partial(generator.advance, maps=noted)
    list(generator.stream(torch.rand(68, 2), [torch.randn(20, 26)], advance=advance))
    assert used <= prepared


def test_another_precision_is_refused(generator):
    with pytest.raises(ValueError, match=r"torch\.float32, torch\.bfloat16, found torch\.int8"):
        prepare(generator, dtype=torch.int8)


def test_no_audio_is_refused(generator, source):
    with pytest.raises(ValueError, match="at least one frame of audio"):
        prepare(generator, dtype=torch.float32).generate(source, torch.zeros(0, 26))
