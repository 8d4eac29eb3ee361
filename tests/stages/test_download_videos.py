import pytest

from mssync import records
from mssync.errors import InputError, StageFailedError
from mssync.ledger import ATTEMPTS, DECISIONS, read_decisions
from mssync.media import decode
from mssync.stages import download_videos


@pytest.fixture
def download(tmp_path, store, tiny):
    """Run the stage on a list: (manifest rows, decisions by clip)."""

    def run(text, *, base="", whole=True, **changes):
        sources = tmp_path / "sources.csv"
        sources.write_text(text)
        download_videos.run(
            sources,
            tmp_path / "manifest.parquet",
            tmp_path / "ledger",
            tiny.download_videos.model_copy(update={"min_success_ratio": 0.0, **changes}),
            store=store,
            workers=2,
            base=base,
            whole=whole,
        )
        rows = records.read(tmp_path / "manifest.parquet", records.MANIFEST)
        decisions = read_decisions(tmp_path / "ledger" / DECISIONS)
        return rows, {decision.clip_id: decision for decision in decisions}

    return run


@pytest.fixture
def clip(small_corpus):
    return small_corpus / "media" / "speaker_00" / "clip_0.mp4"


def test_what_cannot_be_had_is_a_row_with_a_reason(download, clip, tmp_path):
    (tmp_path / "page.mp4").write_text("<html>not found</html>")
    (tmp_path / "empty.mp4").write_bytes(b"")
    rows, decisions = download(
        f"source,speaker_id\n{clip},a\nnone.mp4,b\npage.mp4,c\nempty.mp4,d\n"
        "http://127.0.0.1:9/clip.mp4,e\n"
    )
    assert [row["speaker_id"] for row in rows] == ["a"]
    reasons = {name.split("/")[-1]: decision.reason for name, decision in decisions.items()}
    assert reasons == {
        "clip_0.mp4": "",
        "none.mp4": "not_found",
        "page.mp4": "corrupt",
        "empty.mp4": "corrupt",
        "clip.mp4": "network",
    }
    assert decisions["http://127.0.0.1:9/clip.mp4"].detail


def test_if_nothing_survives_the_stage_fails_with_the_first_reason(download, tmp_path):
    with pytest.raises(StageFailedError) as error:
        download("source\nb.mp4\na.mp4\n")
    assert "First reason: a.mp4: not_found: the file does not exist" in str(error.value)
    assert str(tmp_path / "ledger" / DECISIONS) in str(error.value)


def test_too_few_survivors_fail_the_stage_and_lose_nothing(download, clip, tmp_path):
    with pytest.raises(StageFailedError, match=r"1 of 2 clips survive, at least 80% must"):
        download(f"source\n{clip}\nnone.mp4\n", min_success_ratio=0.8)
    assert len(records.read(tmp_path / "manifest.parquet", records.MANIFEST)) == 1


def test_one_file_makes_many_clips(download, clip, store):
    rows, _ = download(
        f"source,speaker_id,start_s,end_s\n{clip},a,0.5,1.5\n{clip},a,2,\n{clip},a,,\n"
    )
    assert [row["clip_id"].split("/")[-1] for row in rows] == [
        "clip_0.mp4",
        "clip_0.mp4#2000-end",
        "clip_0.mp4#500-1500",
    ]
    lengths = [decode.read_clock(store.path(row["sha256"])).frames for row in rows]
    assert lengths == [100, 50, 25]


def test_a_cut_beyond_the_end_is_a_row_with_a_reason(download, clip):
    _, decisions = download(f"source,start_s\n{clip},\n{clip},60\n")
    assert sorted(decision.reason for decision in decisions.values()) == ["", "empty_cut"]


def test_a_second_run_makes_the_same_manifest(download, clip, tmp_path):
    text = f"source,speaker_id\n{clip},a\nnone.mp4,b\n"
    download(text)
    manifest = tmp_path / "manifest.parquet"
    decisions = tmp_path / "ledger" / DECISIONS
    before = manifest.read_bytes(), decisions.read_bytes()
    download(text)
    assert (manifest.read_bytes(), decisions.read_bytes()) == before
    assert len(records.read(tmp_path / "ledger" / ATTEMPTS, None)) == 4


def test_host_and_port_never_enter_a_clip_id(download, clip):
    rows, _ = download(
        f"source\nspeaker_00/clip_0.mp4\n{clip.parent.parent}/speaker_01/clip_0.mp4\n",
        base=str(clip.parent.parent),
    )
    assert [row["clip_id"] for row in rows] == ["speaker_00/clip_0.mp4", "speaker_01/clip_0.mp4"]


def test_a_base_ends_at_a_folder_not_within_a_name(download, clip, tmp_path):
    (tmp_path / "videos").mkdir()
    other = tmp_path / "videos" / "x.mp4"
    other.write_bytes(clip.read_bytes())
    rows, _ = download(f"source\n{other}\n", base=str(tmp_path / "vid"))
    assert [row["clip_id"] for row in rows] == [str(other)]


def test_an_address_that_is_none_is_a_row_with_a_reason(download, clip):
    _, decisions = download(f"source\n{clip}\nhttp://host:80a/x.mp4\nhttp://[::1/x.mp4\n")
    reasons = {decision.reason for decision in decisions.values()}
    assert reasons == {"", "not_found"}


def test_a_pin_in_one_row_holds_for_all_of_a_speaker(download, small_corpus):
    media = small_corpus / "media"
    rows, _ = download(
        f"source,speaker_id,split\n{media}/speaker_00/clip_0.mp4,a,\n"
        f"{media}/speaker_01/clip_0.mp4,a,test\n"
    )
    assert [row["split"] for row in rows] == ["test", "test"]


def test_a_source_listed_twice_is_one_clip(download, clip, caplog):
    rows, _ = download(f"source\n{clip}\n{clip}\n")
    assert len(rows) == 1
    assert "listed before" in caplog.text


def test_without_a_speaker_each_source_is_its_own_and_that_is_told(download, clip, caplog):
    rows, _ = download(f"source,speaker\n{clip},a\n")
    assert rows[0]["speaker_id"] == str(clip)
    assert "columns speaker are not known" in caplog.text
    assert "has no column speaker_id" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty, expected a header"),
        (
            "file,speaker\na.mp4,x\n",
            "expected a comma-separated header with the column `source`.*found file, speaker",
        ),
        ("source\n", "lists no source"),
        ("source,start_s\na.mp4,soon\n", "row 2: start_s must be seconds, 0 or more, found 'soon'"),
        ("source,start_s,end_s\na.mp4,3,2\n", r"end_s \(2\) must come after start_s \(3\)"),
        ("source,split\na.mp4,dev\n", "split must be train, val, test or empty, found 'dev'"),
        (
            "source,speaker_id,split\na.mp4,x,train\nb.mp4,x,test\n",
            "a speaker belongs to one split",
        ),
    ],
)
def test_a_wrong_list_says_what_was_expected(download, text, message):
    with pytest.raises(InputError, match=message):
        download(text)


def test_a_list_that_is_not_text_is_refused(tmp_path, store, tiny):
    sources = tmp_path / "sources.csv"
    sources.write_bytes(b"\xff\xfe\x00source")
    with pytest.raises(InputError, match="cannot be read as comma-separated UTF-8"):
        download_videos.run(
            sources,
            tmp_path / "m",
            tmp_path / "l",
            tiny.download_videos,
            store=store,
            workers=1,
        )
