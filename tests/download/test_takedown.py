"""What was taken down stays away, however it is spelled."""

import pytest

from mssync.download.takedown import COLUMNS, Tombstones
from mssync.errors import InputError

DIGEST = "0123456789abcdef" * 4


@pytest.fixture
def tombstones(tmp_path):
    def read(text, name="takedown.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return Tombstones.read(path)

    return read


def test_nothing_is_taken_down_by_nothing(tombstones, tmp_path, caplog):
    for nothing in (
        Tombstones.read(None),
        tombstones(""),
        tombstones(",".join(COLUMNS) + "\n"),
        tombstones("source\n\n,\n".replace(",", "")),
    ):
        assert nothing.match("", "") is None
        assert nothing.match("a.mp4", "ada") is None
        assert nothing.match_content(DIGEST) is None
        assert nothing.match_uploader("") is None
    assert not caplog.messages
    assert Tombstones.read(tmp_path / "none.csv").match("a.mp4", "ada") is None
    assert "none.csv does not exist" in caplog.text


def test_each_cell_stands_for_itself(tombstones):
    found = tombstones(
        "source,speaker_id,sha256,uploader,reason,date\n"
        f"a.mp4,ada,{DIGEST.upper()},Ada's channel,on request,2026-01-02\n"
        "b.mp4,,,,,\n"
    )
    assert found.match("a.mp4", "someone") == "on request"
    assert found.match("z.mp4", "ada") == "on request"
    assert found.match_content(DIGEST) == "on request"
    assert found.match_uploader(" ada's CHANNEL") == "on request"
    assert found.match("b.mp4", "someone") == "no reason is given"
    assert found.match("z.mp4", "someone") is None
    assert found.match_content("f" * 64) is None
    assert found.match_uploader("Ada") is None
    assert found.match_uploader("") is None


@pytest.mark.parametrize("speaker", ["Ada", "ada ", "ad", "ada/1", ""])
def test_speakers_are_known_by_their_exact_name(tombstones, speaker):
    assert tombstones("speaker_id\nada\n").match("z.mp4", speaker) is None


@pytest.mark.parametrize(
    ("taken_down", "listed"),
    [
        ("https://example.org/a/b.mp4", "HTTPS://Example.ORG./a/b.mp4"),
        ("https://example.org/a/b.mp4", "https://example.org:443/a/b.mp4"),
        ("https://example.org/a/b.mp4", "http://example.org:80/a/b.mp4"),
        ("https://example.org/a/b.mp4", "https://www.example.org/a/b.mp4/"),
        ("https://example.org/a/b.mp4#t=10", "https://example.org/a/b.mp4"),
        ("https://example.org/v?id=1", "https://www.example.org/v/?id=1#top"),
        ("https://example.org/f%C3%BCr%20a.mp4", "https://example.org/fu\u0308r a.mp4"),
        ("https://bücher.example/a", "https://xn--bcher-kva.example/a"),
        ("https://example.org", "https://example.org/"),
        ("yt-dlp+https://example.org/a", "https://example.org/a"),
        ("S3://Bucket/a B.mp4", "s3://Bucket/a B.mp4"),
        ("./interviews//ada.mp4", "interviews/ada.mp4"),
        ("f\u00fcr.mp4", "fu\u0308r.mp4"),
        ("https://youtu.be/dQw4w9WgXcQ?t=3", "https://www.youtube.com/watch?v=dQw4w9WgXcQ"),
        ("https://m.youtube.com/watch?list=a&v=dQw4w9WgXcQ", "http://youtube.com/v/dQw4w9WgXcQ"),
        ("https://www.youtube.com/shorts/dQw4w9WgXcQ", "https://youtu.be/dQw4w9WgXcQ"),
        ("https://www.youtube-nocookie.com/embed/dQw4w9WgXcQ", "https://youtu.be/dQw4w9WgXcQ/"),
    ],
)
def test_a_source_is_known_in_any_spelling(tombstones, taken_down, listed):
    found = tombstones(f"source,reason\n{taken_down},why\n")
    assert found.match(taken_down, "") == "why"
    assert found.match(listed, "") == "why"


@pytest.mark.parametrize(
    ("taken_down", "listed"),
    [
        ("https://example.org/a.mp4", "https://example.org/A.mp4"),
        ("https://example.org/a.mp4", "https://example.org:8443/a.mp4"),
        ("https://example.org/a.mp4", "https://sub.example.org/a.mp4"),
        ("https://example.org/v?id=1", "https://example.org/v?id=2"),
        ("https://example.org/v?id=1", "https://example.org/v"),
        ("https://youtu.be/dQw4w9WgXcQ", "https://youtu.be/dQw4w9WgXcq"),
        ("https://youtu.be/dQw4w9WgXcQ", "https://vimeo.com/dQw4w9WgXcQ"),
        ("https://www.youtube.com/@ada", "https://www.youtube.com/@ben"),
        ("s3://bucket/a.mp4", "s3://bucket/A.mp4"),
        ("s3://bucket/a.mp4", "gs://bucket/a.mp4"),
        ("s3://bucket/a%20b", "s3://bucket/a b"),
        ("a.mp4", "b/a.mp4"),
        ("https://[::1", "https://[::2"),
    ],
)
def test_another_source_is_another(tombstones, taken_down, listed):
    found = tombstones(f"source\n{taken_down}\n")
    assert found.match(taken_down, "") is not None
    assert found.match(listed, "") is None


def test_a_list_that_a_spreadsheet_wrote_is_read(tombstones):
    found = tombstones(b'\xef\xbb\xbfsource , reason\r\n a.mp4 ,"on request, by mail"\r\n')
    assert found.match("a.mp4", "") == "on request, by mail"


def test_other_formats_of_a_list_are_read(tombstones):
    found = tombstones('{"speaker_id": "ada", "reason": "why"}\n', "takedown.jsonl")
    assert found.match("z.mp4", "ada") == "why"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("source,speaker\na,b\n", "takedown.csv has the column 'speaker', which a takedown list"),
        ("source;reason\na;b\n", "has the column 'source;reason'"),
        ("reason,date\nwhy,now\n", "names nothing: expected one of the columns source"),
        ("source,reason\na.mp4,\n,on request\n", "row 3: names nothing"),
        ("sha256\nabc\n", "row 2: expected 64 hexadecimal digits, found 'abc'"),
        ("source\na,b\n", "row 2: 2 cells under a header of 1"),
        (b"source\n\xff\n", "cannot be read as comma-separated UTF-8"),
        ("source,source\na,b\n", "has the column source twice"),
    ],
)
def test_a_mistake_in_the_list_is_told_with_its_place(tombstones, text, said):
    with pytest.raises(InputError) as caught:
        tombstones(text)
    assert said in str(caught.value)


def test_a_folder_is_no_list(tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        Tombstones.read(tmp_path)
