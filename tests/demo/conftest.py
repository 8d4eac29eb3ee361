import pytest

from mssync.demo.corpus import CorpusSpec, make

TINY = CorpusSpec(
    speakers=3, clips_per_speaker=1, clip_s=4.0, long_clip_s=5.0, test_speakers=1, val_speakers=1
)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    return make(tmp_path_factory.mktemp("demo") / "corpus", TINY, workers=2)


@pytest.fixture(scope="session")
def spec():
    return TINY
