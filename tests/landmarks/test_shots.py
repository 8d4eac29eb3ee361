import numpy as np
import pytest

from mssync.landmarks.shots import LOOK_AHEAD, ShotFinder, repeats, thumbnail


def starts(pictures):
    finder = ShotFinder(27.0)
    return [
        place
        for place, picture in enumerate(pictures)
        if finder.begins(picture, pictures[place + 1 : place + 1 + LOOK_AHEAD])
    ]


@pytest.fixture
def wall():
    """A noisy thumbnail of one brightness."""
    rng = np.random.default_rng(0)

    def paint(brightness):
        noise = rng.integers(-3, 4, (64, 64, 3))
        return np.clip(brightness + noise, 0, 255).astype(np.uint8)

    return paint


def test_the_first_picture_begins_a_shot_and_noise_does_not(wall):
    assert starts([wall(100) for _ in range(20)]) == [0]


def test_a_cut_begins_a_shot(wall):
    pictures = [wall(30) for _ in range(9)] + [wall(200) for _ in range(9)]
    pictures += [wall(90) for _ in range(9)]
    assert starts(pictures) == [0, 9, 18]


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_flash_of_light_is_no_cut(wall, frames):
    pictures = [wall(60) for _ in range(8)] + [wall(250) for _ in range(frames)]
    pictures += [wall(60) for _ in range(8)]
    assert starts(pictures) == [0]


def test_a_flash_that_lasts_is_a_cut_and_back(wall):
    pictures = [wall(60) for _ in range(8)] + [wall(250) for _ in range(6)]
    pictures += [wall(60) for _ in range(8)]
    assert starts(pictures) == [0, 8, 14]


def test_a_cut_soon_after_a_flash_is_seen(wall):
    pictures = [wall(60) for _ in range(8)] + [wall(250)] + [wall(60)] * 2
    pictures += [wall(170) for _ in range(8)]
    assert starts(pictures) == [0, 11]


def test_a_slow_fade_is_no_cut(wall):
    assert starts([wall(50 + 5 * k) for k in range(30)]) == [0]


def test_only_the_same_picture_repeats(wall, portrait):
    one = thumbnail(portrait)
    assert one.shape == (64, 64, 3)
    assert repeats(one, one)
    assert not repeats(wall(100), wall(100))
