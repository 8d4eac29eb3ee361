"""Local files, with names and kinds as they come."""

import os
import socket
import unicodedata
from threading import Event, Thread

import pytest

from mssync.download import files, partial
from mssync.download.budget import Budget
from mssync.download.partial import Note
from mssync.errors import ClipRejectedError
from mssync.media.store import Provenance

CONTENT = b"media" * 1000


@pytest.fixture
def params(tiny):
    return tiny.download_videos


@pytest.fixture
def take(store, params):
    """Takes a file, within limits that a test may change."""
    store.folder.mkdir(parents=True)

    def call(path, **limits):
        limited = params.model_copy(update={"min_free_bytes": 0} | limits)
        call.budget = Budget(limited, store.folder)
        return files.take(path, store, params=limited, budget=call.budget)

    return call


def write(path, content=CONTENT):
    path.write_bytes(content)
    return path


def refusal(take, path, **limits):
    with pytest.raises(ClipRejectedError) as caught:
        take(path, **limits)
    return caught.value.reason, str(caught.value)


def partials(store):
    return list(store.folder.glob("partial/*"))


def test_a_file_is_copied_and_stays(take, store, tmp_path):
    file = write(tmp_path / "a.mp4")
    origin = take(file)
    assert store.path(origin.sha256).read_bytes() == CONTENT
    assert file.read_bytes() == CONTENT
    assert store.path(origin.sha256).stat().st_ino != file.stat().st_ino
    assert (origin.bytes, take.budget.received) == (len(CONTENT), len(CONTENT))
    assert origin.provenance.tool == "copy"
    assert origin.provenance.modified.endswith("+00:00")
    assert not partials(store)


def test_a_file_that_did_not_change_is_not_read_again(take, tmp_path):
    file = write(tmp_path / "a.mp4")
    origin = take(file)
    assert take(file) == origin
    assert take.budget.received == 0


def test_a_file_that_changed_is_read_again(take, store, tmp_path):
    file = write(tmp_path / "a.mp4")
    first = take(file)
    os.utime(write(file, CONTENT[::-1]), ns=(1, 1))
    assert store.path(take(file).sha256).read_bytes() == CONTENT[::-1]
    assert take(file) != first


def test_a_copy_that_was_stopped_goes_on(take, store, tmp_path):
    file = write(tmp_path / "a.mp4", bytes(100_000))
    status = file.stat()
    name, validator = files.key(file), f"{status.st_size}-{status.st_mtime_ns}"
    with partial.hold(store, name, patience_s=1.0) as part:
        part.begin(Note(name, validator, status.st_size, Provenance(etag=validator)))
        part.write(b"x" * 60_000)  # not the true bytes, which shows that they are kept
    origin = take(file)
    assert store.path(origin.sha256).read_bytes() == b"x" * 60_000 + bytes(40_000)
    assert take.budget.received == 40_000
    os.utime(file, ns=(1, 1))
    assert store.path(take(file).sha256).read_bytes() == bytes(100_000)


def test_an_empty_file_is_no_video(take, tmp_path):
    assert refusal(take, write(tmp_path / "a.mp4", b"")) == ("not_a_video", "the file is empty")


def test_a_file_whose_copy_is_lost_is_read_again(take, store, tmp_path):
    file = write(tmp_path / "a.mp4")
    origin = take(file)
    store.path(origin.sha256).unlink()
    assert take(file).sha256 == origin.sha256
    assert store.path(origin.sha256).exists()


def test_a_link_and_its_file_are_one(take, tmp_path):
    (tmp_path / "link.mp4").symlink_to(write(tmp_path / "a.mp4"))
    take(tmp_path / "link.mp4")
    take(tmp_path / "a.mp4")
    assert take.budget.received == 0


@pytest.mark.parametrize(
    "name",
    ["-rf.mp4", "--help", "a b#c?d%20.mp4", "影片 🎬.mp4", "n" * 255, "*[1].mp4", "\udcff.mp4"],
)
def test_a_file_may_have_any_name(take, tmp_path, name):
    assert take(write(tmp_path / name)).bytes == len(CONTENT)


@pytest.mark.parametrize(("listed", "stored"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_that_look_the_same_are_the_same(take, tmp_path, listed, stored):
    folder = tmp_path / unicodedata.normalize(stored, "für")
    folder.mkdir()
    write(folder / unicodedata.normalize(stored, "café.mp4"))
    name = unicodedata.normalize(listed, "für/café.mp4")
    assert not (tmp_path / name).exists()
    assert take(tmp_path / name).bytes == len(CONTENT)


def test_a_name_as_listed_goes_before_one_that_looks_the_same(take, store, tmp_path):
    for form in ("NFC", "NFD"):
        write(tmp_path / unicodedata.normalize(form, "é.mp4"), form.encode())
    for form in ("NFC", "NFD"):
        origin = take(tmp_path / unicodedata.normalize(form, "é.mp4"))
        assert store.path(origin.sha256).read_bytes() == form.encode()


@pytest.mark.parametrize(
    "name", ["none.mp4", "none/a.mp4", "file/a.mp4", "n" * 300, "a\0b", "loop"]
)
def test_a_name_of_no_file_is_not_found(take, tmp_path, name):
    write(tmp_path / "file")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert refusal(take, tmp_path / name)[0] == "not_found"


def test_only_files_are_read(take, store, tmp_path, monkeypatch):
    """Others would hang, or never end."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        for name in ("pipe", "device", "socket"):
            reason, message = refusal(take, tmp_path / name)
            assert (reason, message) == ("not_found", "a pipe, socket or device, not a file")
    assert refusal(take, tmp_path) == ("not_found", "a folder, not a file")
    assert not partials(store)


def test_a_file_that_may_not_be_read_says_so(take, tmp_path):
    file = write(tmp_path / "a.mp4")
    file.chmod(0)
    me = os.geteuid()
    try:
        os.seteuid(me or 65534)  # root may read everything
        assert refusal(take, file) == ("unreadable", "cannot be read: Permission denied")
    finally:
        os.seteuid(me)


def test_a_file_that_somebody_still_writes_is_left_out(take, store, tmp_path):
    file = write(tmp_path / "a.mp4", bytes(50_000_000))
    done = Event()

    def grow():
        with file.open("ab") as growing:
            while not done.is_set():
                growing.write(b"x" * 1000)
                growing.flush()

    writer = Thread(target=grow)
    writer.start()
    try:
        reason, message = refusal(take, file)
    finally:
        done.set()
        writer.join()
    assert (reason, message) == ("unreadable", "the file changed while it was copied")
    assert not partials(store)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"max_bytes": 4999}, "too_large"),
        ({"run_bytes": 4999}, "budget"),
        ({"min_free_bytes": 1 << 60}, "disk"),
    ],
)
def test_a_copy_keeps_to_the_limits(take, store, tmp_path, limits, reason):
    assert refusal(take, write(tmp_path / "a.mp4"), **limits)[0] == reason
    assert take.budget.received == 0
    assert not partials(store)
