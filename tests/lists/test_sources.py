"""The list of sources: what a row may say, and what it says."""

import logging

import pytest

from mssync.errors import InputError
from mssync.lists.sources import pins, read_sources
from mssync.lists.writing import sources_writer, write_offsets
from mssync.media.ffmpeg import Crop


@pytest.fixture
def read(tmp_path):
    """The rows of a list of this text."""

    def run(text, *, name="list.csv", base="", **options):
        (tmp_path / name).write_text(text)
        return list(read_sources(tmp_path / name, base=base, **options))

    return run


def test_a_clip_is_named_by_source_cut_and_crop(read):
    rows = read(
        "source,start_s,end_s,crop,crop_px,crop_height_px\n"
        "a.mp4,,,,,\n"
        "a.mp4,1.5,3,,,\n"
        "a.mp4,2,,,,\n"
        'a.mp4,1.5,3,"0.1,0,0.75,1",,\n'
        'a.mp4,1.5,3,,"624, 48,1018,553.5",720.0\n'
        'a.mp4,,,,"0,0,100,100",\n'
    )
    assert [row.clip_id for row in rows] == [
        "a.mp4",
        "a.mp4#1500-3000",
        "a.mp4#2000-end",
        "a.mp4#1500-3000@0.1,0,0.75,1",
        "a.mp4#1500-3000@624,48,1018,553.5",
        "a.mp4@0,0,100,100",
    ]
    assert [row.crop for row in rows[2:]] == [
        None,
        Crop(0.1, 0, 0.75, 1),
        Crop(624, 48, 1018, 553.5, height_px=720, fractions=False),
        Crop(0, 0, 100, 100, height_px=None, fractions=False),
    ]


def test_a_written_list_reads_back_the_same(read, tmp_path):
    rows = read(
        "source,speaker_id,split,start_s,end_s,crop,crop_px,crop_height_px,av_offset_ms,language,"
        "licence,tags\n"
        '"a, b.mp4",ada,test,0.1,3,"0.1,0,0.75,1",,,-40.5,en,"CC, BY","x,y"\n'
        'https://h/x.mp4,,,,,,"1,2,30,40",720,0,,,\n'
        '"new\nline.mp4",,,,,,"1,2,30,40",,,,,\n'
        "s3://bucket/é.mp4,ben,train,,7,,,,,,,\n"
    )
    assert [row.av_offset_ms for row in rows] == [-40.5, 0, None, None]
    with sources_writer(tmp_path / "copy.csv") as write:
        for row in rows:
            write(row)
    assert list(read_sources(tmp_path / "copy.csv", base="")) == rows


def test_offsets_are_written_into_a_list_and_all_else_stays(read, tmp_path):
    text = (
        "source,start_s,end_s,note,speaker_id\n"
        "a.mp4,,,mine,\n"
        'a.mp4,1,2.5,"x, y",ada\n'
        "/data/b.mp4,,,,ben\n"
    )
    rows = read(text, base="/data")
    offsets = {"a.mp4#1000-2500": 81.26, "b.mp4": -40.0, "gone.mp4": 1.0}
    target = tmp_path / "next" / "list.csv"
    assert write_offsets(tmp_path / "list.csv", target, base="/data", offsets_ms=offsets) == 2
    assert target.read_text() == (
        "source,start_s,end_s,note,speaker_id,av_offset_ms\n"
        "a.mp4,,,mine,,\n"
        'a.mp4,1,2.5,"x, y",ada,81.3\n'
        "/data/b.mp4,,,,ben,-40.0\n"
    )
    again = list(read_sources(target, base="/data", quiet=True))
    assert [row.clip_id for row in again] == [row.clip_id for row in rows]
    # in place, and what is not named keeps its own
    assert write_offsets(target, target, base="/data", offsets_ms={"a.mp4": 40.0}) == 1
    again = list(read_sources(target, base="/data", quiet=True))
    assert [row.av_offset_ms for row in again] == [40.0, 81.3, -40.0]


def test_offsets_are_written_into_lists_of_any_format(tmp_path):
    listed = tmp_path / "list.jsonl"
    listed.write_text('{"source": "a.mp4"}\n{"source": "b.mp4", "tags": ["x", "y"]}\n')
    write_offsets(listed, tmp_path / "out.csv", base="", offsets_ms={"a.mp4": 12.0})
    assert (tmp_path / "out.csv").read_text() == (
        'source,tags,av_offset_ms\na.mp4,,12.0\nb.mp4,"x,y",\n'
    )


def test_a_list_with_a_wrong_row_is_given_no_offsets(read, tmp_path):
    (tmp_path / "list.csv").write_text("source,end_s\na.mp4,\nb.mp4,soon\n")
    target = tmp_path / "out.csv"
    with pytest.raises(InputError, match="row 3: end_s"):
        write_offsets(tmp_path / "list.csv", target, base="", offsets_ms={"a.mp4": 12.0})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["list.csv"]


def test_a_list_that_fails_half_way_is_not_written(read, tmp_path):
    def half_way():
        with sources_writer(tmp_path / "out" / "copy.csv") as write:
            write(read("source\na.mp4\n")[0])
            raise KeyError

    with pytest.raises(KeyError):
        half_way()
    assert list((tmp_path / "out").iterdir()) == []


def test_an_absolute_address_under_the_base_is_listed_as_relative(read):
    rows = read("source\nhttp://h/x/a%20b.mp4\nhttp://h/x/a.mp4?k=1\n", base="http://h/x/")
    assert [row.clip_id for row in rows] == ["a b.mp4", "http://h/x/a.mp4?k=1"]
    assert [row.location for row in rows] == ["http://h/x/a%20b.mp4", "http://h/x/a.mp4?k=1"]


def test_without_a_speaker_every_source_is_one(read):
    rows = read(
        "source\nx/./a.mp4\nhttps://h/a.mp4?token=1\nhttps://www.youtube.com/watch?v=AbCdEfGhIjK\n"
        "yt-dlp+https://h/talk?id=2\ns3://bucket/a.mp4\n"
    )
    assert [row.speaker_id for row in rows] == [
        "x/a.mp4",
        "h/a.mp4",
        "www.youtube.com/watch?v=AbCdEfGhIjK",
        "h/talk?id=2",
        "bucket/a.mp4",
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('a.mp4,"0,0,1",,', "crop must be left,top,right,bottom in shares .* found '0,0,1'"),
        ('a.mp4,"0,0,1,1.5",,', "crop must be"),
        ('a.mp4,"0.5,0,0.5,1",,', "crop must be"),
        ('a.mp4,"0,0,nan,1",,', "crop must be"),
        ('a.mp4,,"-1,0,9,9",', "crop_px must be left,top,right,bottom in pixels"),
        ('a.mp4,,"0,0,9,inf",', "crop_px must be"),
        ('a.mp4,,"0,0,9,9",tall', "crop_height_px must be the height .* found 'tall'"),
        ('a.mp4,,"0,0,9,9",0', "crop_height_px must be"),
        ('a.mp4,"0,0,1,1","0,0,9,9",', "`crop` and `crop_px` are both given"),
        (",,,", "`source` is empty"),
        ("a.mp4,,,,late", "av_offset_ms must be milliseconds .* found 'late'"),
        ("a.mp4,,,,20000", "av_offset_ms must be .* within 10000, found '20000'"),
        ("file:///a.mp4,,,", "give the path"),
        ("https://ada:pass@h/a.mp4,,,", "secrets file"),
    ],
)
def test_a_wrong_row_is_named(read, row, message):
    with pytest.raises(InputError, match=f"row 3: .*{message}") as error:
        read(f"source,crop,crop_px,crop_height_px,av_offset_ms\nok.mp4,,,,\n{row}\n")
    assert "pass@" not in str(error.value)


def test_rows_before_a_wrong_one_are_had(tmp_path):
    (tmp_path / "list.csv").write_text("source,start_s\na.mp4,\nb.mp4,soon\n")
    rows = read_sources(tmp_path / "list.csv", base="")
    assert next(rows).written == "a.mp4"
    with pytest.raises(InputError, match="row 3: start_s must be seconds"):
        next(rows)


def test_columns_are_warned_of_once(read, caplog):
    caplog.set_level(logging.WARNING)
    read("source,speaker\na.mp4,x\nb.mp4,x\n")
    assert caplog.text.count("columns speaker are not known and ignored") == 1
    assert caplog.text.count("has no column speaker_id") == 1
    caplog.clear()
    read("source,speaker\na.mp4,x\n", quiet=True)
    assert caplog.text == ""


def test_an_empty_list_is_refused_unless_it_may_be(read):
    with pytest.raises(InputError, match="lists no source: expected a comma-separated header"):
        read("source\n")
    with pytest.raises(InputError, match="lists no source: expected JSON lines with the column"):
        read("", name="list.jsonl")
    assert read("source\n", may_be_empty=True) == []
    assert read("", name="list.jsonl", may_be_empty=True) == []
    with pytest.raises(InputError, match=r"found file, speaker"):
        read("file,speaker\n", may_be_empty=True)


def test_pins_are_those_of_any_row(tmp_path):
    listed = tmp_path / "list.csv"
    listed.write_text("source,speaker_id,split\na.mp4,x,\nb.mp4,x,test\nc.mp4,,val\nd.mp4,y,\n")
    assert pins(listed, "") == {"x": "test", "c.mp4": "val"}
    listed.write_text("source,speaker_id,split\na.mp4,x,train\nb.mp4,x,test\n")
    with pytest.raises(InputError, match=r"x is pinned to train and to test; a speaker belongs"):
        pins(listed, "")


def test_without_a_column_of_splits_nothing_is_pinned_and_no_row_is_read(tmp_path):
    (tmp_path / "list.csv").write_text("source,start_s\na.mp4,soon\n")
    assert pins(tmp_path / "list.csv", "") == {}
    (tmp_path / "list.jsonl").write_text('{"source": "a"}\n{"source": "b", "split": "val"}\n')
    assert pins(tmp_path / "list.jsonl", "") == {"b": "val"}
