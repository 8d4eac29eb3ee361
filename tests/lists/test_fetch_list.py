"""A list from wherever it is, and where its sources start from."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mssync.demo.server import serve
from mssync.errors import InputError
from mssync.lists.placing import fetch_list, place_list
from mssync.lists.sources import read_sources


@pytest.fixture
def listed(tmp_path):
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "list.csv").write_text("source\na.mp4\n")
    return tmp_path / "media" / "list.csv"


def test_sources_start_from_the_lists_folder_unless_it_is_said_otherwise(listed, tmp_path):
    target = tmp_path / "copy" / "sources.csv"
    assert fetch_list(str(listed), target, base="") == str(listed.parent)
    assert target.read_bytes() == listed.read_bytes()
    assert fetch_list(f"file://{listed}", target, base="") == str(listed.parent)
    assert fetch_list(str(listed), target, base="https://host/videos") == "https://host/videos"


def test_a_relative_base_means_the_same_for_all_steps(listed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert fetch_list("media/list.csv", tmp_path / "copy", base="") == str(tmp_path / "media")
    assert fetch_list("media/list.csv", tmp_path / "copy", base="in") == str(tmp_path / "in")


def test_the_query_of_an_address_is_no_part_of_its_folder(listed, tmp_path):
    with serve(tmp_path) as url:
        base = fetch_list(f"{url}list.csv?signature=ab/cd", tmp_path / "copy", base="")
    assert base == url.rstrip("/")
    assert (tmp_path / "copy").read_bytes() == listed.read_bytes()


def test_what_cannot_be_fetched_from_is_refused_as_a_base(listed, tmp_path):
    target = tmp_path / "copy"
    with pytest.raises(
        InputError, match=r"cannot start from nowhere://x .*nowhere:// is not known"
    ):
        fetch_list(str(listed), target, base="nowhere://x")
    with pytest.raises(InputError, match="credentials into the secrets file") as error:
        fetch_list(str(listed), target, base="https://user:word@host/x?token=abc")
    assert "word@" not in str(error.value)
    assert "abc" not in str(error.value)
    assert not target.exists()


def test_sources_may_start_from_a_bucket(listed, tmp_path):
    target = tmp_path / "copy.csv"
    assert fetch_list(str(listed), target, base="s3://bucket/videos") == "s3://bucket/videos"
    (row,) = read_sources(target, base="s3://bucket/videos")
    assert (row.written, row.location) == ("a.mp4", "s3://bucket/videos/a.mp4")


def test_a_base_never_holds_the_password_of_the_lists_address(listed, tmp_path):
    with serve(tmp_path) as url:
        address = url.replace("http://", "http://user:word@") + "list.csv"
        assert fetch_list(address, tmp_path / "copy", base="") == url.rstrip("/")


@pytest.mark.parametrize("name", ["list.jsonl", "list.parquet", "list.tsv"])
def test_other_formats_arrive_as_comma_separated_text(name, tmp_path):
    folder = tmp_path / "media"
    folder.mkdir()
    if name == "list.parquet":
        rows = {"source": ["a, b.mp4"], "start_s": [1.5], "crop": [[0.0, 0.0, 0.5, 1.0]]}
        pq.write_table(pa.table(rows), folder / name)
    elif name == "list.tsv":
        (folder / name).write_text("source\tstart_s\tcrop\na, b.mp4\t1.5\t0.0,0.0,0.5,1.0\n")
    else:
        text = '{"source": "a, b.mp4", "start_s": 1.5, "crop": [0.0, 0.0, 0.5, 1.0]}'
        (folder / name).write_text(text)
    with serve(tmp_path) as url:
        fetch_list(url + name, tmp_path / "copy.csv", base="")
    text = (tmp_path / "copy.csv").read_text()
    assert text == 'source,start_s,crop\n"a, b.mp4",1.5,"0.0,0.0,0.5,1.0"\n'
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []
    (row,) = read_sources(tmp_path / "copy.csv", base="")
    assert row.clip_id == "a, b.mp4#1500-end@0,0,0.5,1"


def test_a_column_that_only_a_later_line_has_is_kept(tmp_path):
    (tmp_path / "list.jsonl").write_text('{"source": "a"}\n{"source": "b", "split": "val"}\n')
    place_list(tmp_path / "list.jsonl", tmp_path / "copy.csv")
    assert [row.split for row in read_sources(tmp_path / "copy.csv", base="")] == ["", "val"]


def test_an_equal_list_is_left_alone(tmp_path):
    (tmp_path / "list.jsonl").write_text('{"source": "a"}\n')
    place_list(tmp_path / "list.jsonl", tmp_path / "copy.csv")
    before = (tmp_path / "copy.csv").stat().st_ino
    place_list(tmp_path / "list.jsonl", tmp_path / "copy.csv")
    assert (tmp_path / "copy.csv").stat().st_ino == before


def test_a_list_of_no_known_format_is_not_fetched(tmp_path):
    with pytest.raises(
        InputError, match=r"http://127\.0\.0\.1:9/list\.xlsx: the name of a list ends"
    ):
        fetch_list("http://127.0.0.1:9/list.xlsx?key=abc", tmp_path / "copy.csv", base="")


def test_a_fetched_list_that_is_broken_goes_by_its_own_name(tmp_path):
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "list.jsonl").write_text("{")
    with serve(tmp_path) as url, pytest.raises(InputError) as error:
        fetch_list(f"{url}list.jsonl", tmp_path / "copy.csv", base="")
    assert str(error.value).startswith(f"{url}list.jsonl, row 1: expected one JSON object a line")


def test_a_list_that_is_not_there_is_named_without_its_secrets(tmp_path):
    (tmp_path / "media").mkdir()
    with serve(tmp_path) as url:
        address = url.replace("http://", "http://user:word@") + "none.csv?signature=abc"
        with pytest.raises(InputError, match=r"none\.csv cannot be read") as error:
            fetch_list(address, tmp_path / "copy", base="")
    assert "signature" not in str(error.value)
    assert "word" not in str(error.value)


def test_a_bucket_without_keys_is_no_bug(tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"s3://bucket/list\.csv cannot be read \(NoCredentials"):
        fetch_list("s3://bucket/list.csv", tmp_path / "copy", base="/videos")


def test_a_list_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "list.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read as comma-separated UTF-8"):
        fetch_list(str(tmp_path / "list.csv"), tmp_path / "copy", base="")
