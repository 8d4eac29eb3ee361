"""Lists of other projects: small samples of each format, written in its form."""

import json
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mssync.cli import app
from mssync.errors import InputError
from mssync.lists.importers import IMPORTERS, import_sources, talkvid
from mssync.lists.sources import read_sources
from mssync.media.ffmpeg import Crop

SAMPLES = Path(__file__).parent / "samples"
PAGE = "https://www.youtube.com/watch?v="


@pytest.fixture
def imported(tmp_path):
    """Import a format, and read the list back: (rows, summary)."""

    def run(kind, path, **options):
        out = tmp_path / "list" / "sources.csv"
        summary = import_sources(kind, path, out, **options)
        return list(read_sources(out, base="")), summary

    return run


def test_fomm_frames_become_seconds_and_boxes_stay_within_the_picture(imported):
    rows, summary = imported("fomm", SAMPLES / "vox-metadata.csv")
    assert [(row.start_s, row.end_s) for row in rows] == [
        (146.28, 159.76),
        (4.0, 16.0),
        (2.0, 24.567),
    ]
    assert rows[0].written == f"{PAGE}AAAAAAAAAA1"
    assert rows[0].crop == Crop(624, 48, 1018, 553, height_px=720, fractions=False)
    assert rows[1].crop == Crop(389, 0, 956, 720, height_px=720, fractions=False)
    assert [(row.speaker_id, row.split) for row in rows] == [
        ("id10005", "train"),
        ("id10005", "train"),
        ("id10283", "test"),
    ]
    assert summary.left_out == {"with a box outside the picture": 1}


def test_fomm_takes_the_person_out_of_the_id(imported):
    rows, _ = imported("fomm", SAMPLES / "vox-metadata-ids.csv")
    assert [(row.speaker_id, row.written.removeprefix(PAGE)) for row in rows] == [
        ("id10283", "u3s9xxxxxxk"),
        ("id10283", "u3s9xxxxxxk"),
        ("youtube-WMh3yyyyyyE", "WMh3yyyyyyE"),
    ]


def test_voxceleb_1_counts_in_pixels_of_a_small_picture(imported):
    rows, summary = imported("voxceleb", SAMPLES / "voxceleb1")
    assert [(row.start_s, row.end_s) for row in rows] == [(6.0, 6.12), (12.0, 13.0)]
    assert rows[0].crop == Crop(140, 0, 380, 191, height_px=360, fractions=False)
    assert {row.speaker_id for row in rows} == {"id10001"}
    assert (summary.clips, summary.speakers) == (2, 1)


def test_voxceleb_2_counts_in_shares_of_the_picture(imported):
    (row,), _ = imported("voxceleb", SAMPLES / "voxceleb2")
    assert row.crop == Crop(0.29, 0.05, 0.73, 0.65)
    assert (row.written, row.start_s, row.end_s) == (f"{PAGE}BBBBBBBBBB2", 1.0, 2.0)


def test_hdtf_joins_four_files_and_counts_what_cannot_be_made(imported):
    rows, summary = imported("hdtf", SAMPLES / "HDTF_dataset")
    assert [(row.speaker_id, row.tags, row.start_s, row.end_s) for row in rows] == [
        ("Radio1", "RD", 20.0, 95.0),
        ("Radio2", "RD", 30.0, 60.0),
        ("AnnaSample", "WDA", 5.0, 280.0),
    ]
    assert rows[0].crop == Crop(466, 12, 1001, 547, height_px=720, fractions=False)
    assert rows[1].written == f"{PAGE}BBBBBBBBBB2"
    assert summary.left_out == {
        "without a box or resolution": 2,
        "without an address": 1,
        "with a box higher than the picture": 1,
    }


def test_celebv_hq_keeps_shares_actions_and_emotions(imported):
    rows, _ = imported("celebv-hq", SAMPLES / "celebvhq_info.json")
    assert rows[0].crop == Crop(0.1964, 0.0, 0.6922, 0.8815)
    assert rows[1].crop == Crop(0.5271, 0.0, 1.0, 0.8407)
    assert [row.tags for row in rows] == ["talk,smile,neutral", "talk,neutral,happy"]
    assert rows[0].clip_id == f"{PAGE}AAAAAAAAAA1#81620-86170@0.1964,0,0.6922,0.8815"
    assert [row.speaker_id for row in rows] == ["youtube-AAAAAAAAAA1", "youtube-_0tf2n3rlJ2"]


def test_talkvid_keeps_person_language_and_scores(imported):
    rows, summary = imported("talkvid", SAMPLES / "talkvid.json")
    assert [(row.written, row.speaker_id, row.language) for row in rows] == [
        (f"{PAGE}AAAAAAAAAA1", "talkvid-597", "English"),
        (f"{PAGE}BBBBBBBBBB2", "talkvid-12", "Polish"),
    ]
    assert rows[0].tags == "category=Personal Experience,dover=8.9,cotracker=0.9272"
    assert (rows[0].start_s, rows[0].end_s) == (0.1, 5.142)
    assert summary.left_out == {"without start or end": 1}


def test_talkvid_is_read_across_blocks_and_one_object_a_line(tmp_path, monkeypatch):
    items = json.loads((SAMPLES / "talkvid.json").read_text())
    lines = tmp_path / "clips.jsonl"
    lines.write_text("\n".join(json.dumps(item) for item in items))
    whole = list(talkvid.clips(SAMPLES / "talkvid.json", Counter()))
    assert list(talkvid.clips(lines, Counter())) == whole
    monkeypatch.setattr(talkvid, "_BLOCK", 7)
    assert list(talkvid.clips(SAMPLES / "talkvid.json", Counter())) == whole


def test_a_folder_is_listed_in_order_by_speaker(imported, tmp_path):
    names = ["ben/-dash.mp4", "ada/2/b.webm", "ada/a.MP4", "alone.mp4", "ada/.hidden.mp4", "x.txt"]
    for name in names:
        (tmp_path / "list" / "media" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "list" / "media" / name).touch()
    rows, summary = imported("folder", tmp_path / "list" / "media")
    assert [(row.written, row.speaker_id) for row in rows] == [
        ("media/ada/2/b.webm", "ada"),
        ("media/ada/a.MP4", "ada"),
        ("media/alone.mp4", "media/alone.mp4"),
        ("media/ben/-dash.mp4", "ben"),
    ]
    assert all(Path(row.location).exists() for row in rows)
    assert summary.open_ended == 4
    rows, _ = imported("folder", tmp_path / "list" / "media", root=tmp_path / "list" / "media")
    assert rows[0].written == "ada/2/b.webm"


def test_a_folder_elsewhere_is_listed_by_absolute_paths(imported, tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "a.mp4").touch()
    (row,), _ = imported("folder", tmp_path / "far")
    assert row.location == row.written == str(tmp_path / "far" / "a.mp4")


def test_names_that_no_list_can_hold_are_counted(imported, tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / " blank first.mp4").touch()
    (tmp_path / "far" / "bad\udcff.mp4").touch()
    (row,), summary = imported("folder", tmp_path / "far", root=tmp_path / "far")
    assert Path(tmp_path / "far" / row.written).exists()
    assert summary.left_out == {"whose names are not UTF-8": 1}


def test_a_video_that_is_there_already_takes_the_place_of_its_page(imported, tmp_path):
    root = tmp_path / "list" / "raw"
    root.mkdir(parents=True)
    (root / "AAAAAAAAAA1.webm").touch()
    (root / "AnnaSample.mp4").touch()
    rows, summary = imported("hdtf", SAMPLES / "HDTF_dataset", root=root)
    assert [row.written for row in rows] == [
        "raw/AAAAAAAAAA1.webm",
        f"{PAGE}BBBBBBBBBB2",
        "raw/AnnaSample.mp4",
    ]
    assert rows[2].speaker_id == "AnnaSample"
    assert summary.local == 2


BROKEN = [
    ("fomm", "a,b\n1,2\n", r"no column bbox, end, fps.*expected the metadata of video-prepro"),
    (
        "fomm",
        "video_id,start,end,bbox,fps,width,height\nx,0,1,1-2-3-4,25,9,9\n",
        r"row 2: video_id must hold a YouTube id of 11 characters, found 'x'",
    ),
    (
        "fomm",
        "video_id,start,end,bbox,fps,width,height\nAAAAAAAAAA1,0,1,1-2-3,25,9,9\n",
        r"row 2: expected a bbox left-top-right-bottom",
    ),
    (
        "fomm",
        "video_id,start,end,bbox,fps,width,height\nAAAAAAAAAA1,soon,1,1-2-3-4,25,9,9\n",
        r"row 2: start must be a number, 0 or more, found 'soon'",
    ),
    ("fomm", "video_id,start,end,bbox,fps,width,height\n", "holds no clip that can be listed"),
    ("celebv-hq", "[1", r"cannot be read as JSON.*as celebvhq_info\.json has it"),
    ("celebv-hq", "[]", "holds no clips"),
    ("celebv-hq", '{"clips": {"a": {"ytb_id": "x"}}}', r"clip a lacks a sound.*'duration'"),
    ("talkvid", '[\n{"info": {}}]', "clip 1: expected the keys info .* found info"),
    ("talkvid", "[[1, 2]]", "found a int"),
    (
        "talkvid",
        '[\n{"info": {"Video Link": "x"}, "start-time": 0, "end-time": 1},\n{"a": nil}]',
        "object that begins in line 3 is broken",
    ),
    ("voxceleb", "", "is no folder"),
    ("hdtf", "", r"holds no RD_video_url\.txt"),
    ("folder", "", "is no folder"),
]


@pytest.mark.parametrize(("kind", "text", "message"), BROKEN)
def test_a_wrong_file_says_what_was_expected_and_writes_nothing(
    tmp_path, imported, kind, text, message
):
    file = tmp_path / "input.csv"
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        imported(kind, file)
    assert list((tmp_path / "list").iterdir()) == []


def test_a_folder_that_is_no_voxceleb_is_told(tmp_path, imported):
    (tmp_path / "x").mkdir()
    with pytest.raises(InputError, match=r"holds no \.txt file"):
        imported("voxceleb", tmp_path / "x")
    (tmp_path / "x" / "readme.txt").write_text("Hello: world\n")
    with pytest.raises(InputError, match="found no Identity and Reference"):
        imported("voxceleb", tmp_path / "x")


def test_the_command_knows_every_format_and_ends_with_what_to_check(tmp_path):
    out = tmp_path / "sources.csv"
    command = ["import-sources", "fomm", str(SAMPLES / "vox-metadata.csv"), "--out", str(out)]
    result = CliRunner().invoke(app, command)
    assert "3 clips of 2 speakers, 0.01 hours; left out: 1 with a box outside" in result.output
    assert "licence" in result.output
    text = CliRunner().invoke(app, ["import-sources", "nothing", "x", "--out", "y"]).output
    assert all(kind in text for kind in IMPORTERS)
