"""A list from wherever it is, and where its sources start from."""

import pytest

from mssync.demo.server import serve
from mssync.errors import InputError
from mssync.media.sources import fetch_list


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
    with pytest.raises(InputError, match=r"start from s3://bucket/videos, expected a folder or"):
        fetch_list(str(listed), tmp_path / "copy", base="s3://bucket/videos")
    assert not (tmp_path / "copy").exists()


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
    with pytest.raises(InputError, match="UnicodeDecodeError"):
        fetch_list(str(tmp_path / "list.csv"), tmp_path / "copy", base="")
