"""Damaged files end with a row or a reason, in bounded time and memory."""

import pytest

from bench.fuzz import MEDIA, Extractor, fuzz, make_media, mutant
from mssync.params import load

MUTANTS = 100
REAL = ("short_8frames.mp4", "short_24frames.mp4", "container_mpg.mpg", "gif_no_audio.gif")


@pytest.fixture(scope="module")
def shipped(root):
    return load(root / "params.yaml")


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    return make_media(tmp_path_factory.mktemp("media"))


def test_whole_files_give_rows_and_so_do_many_damaged_ones(media, shipped):
    report = fuzz(media, shipped, mutants=MUTANTS, seed=0)
    assert report.findings == []
    # what is damaged beyond reading would find nothing
    for name in ("landmarks", "audio"):
        assert report.outcomes[f"{name}: a row"] > MUTANTS / 4
        assert report.outcomes[f"{name}: corrupt"] > 0


@pytest.mark.parametrize(
    ("whole", "codec", "reasons"),
    [
        ("h264.mp4", b"avc1", {"landmarks": "corrupt", "audio": "corrupt"}),
        ("h264.mkv", b"A_PCM", {"landmarks": "", "audio": "no_audio"}),
        ("mpeg4.avi", b"FMP4", {"landmarks": "corrupt", "audio": "corrupt"}),
    ],
    ids=["picture", "sound", "picture of an AVI"],
)
def test_a_codec_that_nobody_knows_is_told(media, shipped, tmp_path, whole, codec, reasons):
    source = next(path for path in media if path.name == whole)
    strange = tmp_path / whole
    strange.write_bytes(source.read_bytes().replace(codec, len(codec) * b"z"))
    assert strange.read_bytes() != source.read_bytes()
    with Extractor(shipped) as extractor:
        extractor.start(source)
        outcomes = extractor.outcomes(strange)
    assert [outcome.finding for outcome in outcomes.values()] == ["", ""]
    assert {name: outcome.reason for name, outcome in outcomes.items()} == reasons


def test_real_files_too(real_clips, shipped):
    real = [real_clips / "awkward" / name for name in REAL]
    assert fuzz(real, shipped, mutants=MUTANTS // 5, seed=1000).findings == []


def test_a_seed_gives_one_file_and_another_seed_another(media):
    whole = media[0].read_bytes()
    assert mutant(whole, 1) == mutant(whole, 1) != whole
    assert len({mutant(whole, seed) for seed in range(50)}) == 50
    assert max(len(mutant(whole, seed)) for seed in range(50)) <= 2 * len(whole)
    assert {path.name for path in media} == set(MEDIA)
