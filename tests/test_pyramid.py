import numpy as np
import pytest
import torch

from mssync import pyramid


@pytest.mark.parametrize(
    ("samples", "lengths"), [(43, [43, 22, 11, 6]), (120, [120, 60, 30, 15]), (20, [20, 10, 5, 3])]
)
def test_every_level_has_half_the_samples_rounded_up(samples, lengths):
    stream = torch.rand(1, samples, 2)
    assert [pyramid.length(samples, level) for level in range(4)] == lengths
    assert [pyramid.at_level(stream, level).shape[1] for level in range(4)] == lengths


def test_43_frames_have_39_18_7_2_windows():
    counts = [pyramid.window_count(pyramid.length(43, level)) for level in range(4)]
    assert counts == [39, 18, 7, 2]


def test_39_14_2_0_of_them_touch_no_padding():
    assert [len(pyramid.valid_windows(43, level)) for level in range(4)] == [39, 14, 2, 0]


def test_a_valid_window_of_level_3_takes_78_frames():
    assert [len(pyramid.valid_windows(frames, 3)) for frames in (76, 77, 78)] == [0, 0, 1]


@pytest.mark.parametrize("frames", [43, 78, 101])
@pytest.mark.parametrize("level", [1, 2, 3])
def test_valid_windows_are_those_that_the_padding_cannot_change(frames, level):
    def padded(stream_TC, value):
        """`at_level` of a stream that goes on with other samples at both ends."""
        margin = 2**level * 8
        ends = np.full((margin, 1), value, np.float32)
        longer = np.concatenate([ends, stream_TC, ends])
        first = margin // 2**level
        count = pyramid.length(len(stream_TC), level)
        return pyramid.array_at_level(longer, level)[first : first + count]

    def unchanged(samples):
        stream = np.random.default_rng(0).random((samples, 1), dtype=np.float32)
        return np.isclose(padded(stream, 0.0), padded(stream, 9.0))[:, 0]

    motion, audio = unchanged(frames), unchanged(4 * frames)
    valid = [
        j
        for j in range(len(motion) - 4)
        if motion[j : j + 5].all() and len(audio) >= 4 * j + 20 and audio[4 * j : 4 * j + 20].all()
    ]
    assert valid == list(pyramid.valid_windows(frames, level))


def test_a_constant_stays_the_same_constant():
    constant = torch.full((2, 43, 3), 0.7)
    for level in range(4):
        found = pyramid.at_level(constant, level)
        torch.testing.assert_close(found, torch.full_like(found, 0.7))


@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_down_does_not_shift_time(kernel):
    ramp = torch.arange(60.0).reshape(1, 60, 1)
    inside = slice(2, -2)
    found = pyramid.down(ramp, kernel=kernel)[0, inside, 0]
    torch.testing.assert_close(found, torch.arange(0.0, 60.0, 2.0)[inside])


def test_down_is_the_mean_of_seven_samples_around_every_second():
    stream = torch.rand(1, 20, 1, generator=torch.Generator().manual_seed(0))
    found = pyramid.down(stream)[0, :, 0]
    assert found[3] == pytest.approx(stream[0, 3:10, 0].mean().item())
    mirrored = stream[0, [3, 2, 1, 0, 1, 2, 3], 0].mean().item()
    assert found[0] == pytest.approx(mirrored)


def test_arrays_and_tensors_go_down_alike():
    motion = np.random.default_rng(0).random((43, 68, 2), dtype=np.float32)
    tensor = torch.from_numpy(motion).reshape(1, 43, 136)
    for level in range(4):
        found = pyramid.array_at_level(motion, level)
        np.testing.assert_array_equal(
            found.reshape(len(found), 136), pyramid.at_level(tensor, level)[0].numpy()
        )


@pytest.mark.parametrize("kernel", [0, 2, 6])
def test_even_kernels_are_refused(kernel):
    with pytest.raises(ValueError, match="must be odd"):
        pyramid.down(torch.rand(1, 43, 1), kernel=kernel)


def test_streams_too_short_to_reflect_are_refused():
    with pytest.raises(ValueError, match="too few for a kernel of 7"):
        pyramid.down(torch.rand(1, 3, 1))


def test_window_j_starts_at_sample_j_and_row_4_j():
    motion = torch.arange(22.0).reshape(1, 22, 1)
    audio = torch.arange(88.0).reshape(1, 88, 1)
    motion_windows = pyramid.motion_windows(motion)
    audio_windows = pyramid.audio_windows(audio, windows=motion_windows.shape[1])
    assert motion_windows.shape == (1, 18, 5, 1)
    assert audio_windows.shape == (1, 18, 20, 1)
    assert motion_windows[0, 6, :, 0].tolist() == [6, 7, 8, 9, 10]
    assert audio_windows[0, 6, :, 0].tolist() == list(range(24, 44))


def test_rows_missing_at_the_end_are_reflected():
    audio = torch.arange(86.0).reshape(1, 86, 1)  # 43 frames at level 1
    last = pyramid.audio_windows(audio, windows=18)[0, -1, :, 0]
    assert last.tolist() == [*range(68, 86), 84, 83]
