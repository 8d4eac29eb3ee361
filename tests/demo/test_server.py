import http.client
from urllib.parse import urlsplit

import pytest

from mssync.demo.server import serve
from mssync.errors import InputError

CONTENT = bytes(range(200))


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    (folder / "media" / "speaker_00").mkdir(parents=True)
    (folder / "media" / "speaker_00" / "clip 0.mp4").write_bytes(CONTENT)
    (folder / "secret.txt").write_text("not for you")
    with serve(folder) as url:
        yield urlsplit(url).netloc


def _ask(address, path="/speaker_00/clip%200.mp4", method="GET", **headers):
    connection = http.client.HTTPConnection(address, timeout=5)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, headers=names)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


def test_a_whole_file_is_served(address):
    response, body = _ask(address)
    assert response.status == 200
    assert body == CONTENT
    assert response.headers["Accept-Ranges"] == "bytes"
    assert response.headers["Last-Modified"]


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [("bytes=10-19", 10, 19), ("bytes=150-", 150, 199), ("bytes=-5", 195, 199),
     ("bytes=190-1000", 190, 199)],
)  # fmt: skip
def test_a_range_is_served(address, wanted, first, last):
    response, body = _ask(address, Range=wanted)
    assert response.status == 206
    assert response.headers["Content-Range"] == f"bytes {first}-{last}/200"
    assert body == CONTENT[first : last + 1]


def test_a_range_past_the_end_cannot_be_satisfied(address):
    response, body = _ask(address, Range="bytes=200-")
    assert response.status == 416
    assert response.headers["Content-Range"] == "bytes */200"
    assert body == b""


def test_a_range_that_is_not_understood_gets_the_whole_file(address):
    response, body = _ask(address, Range="lines=1-2")
    assert (response.status, body) == (200, CONTENT)


def test_a_range_of_an_older_file_gets_the_whole_file(address):
    tag = _ask(address)[0].headers["ETag"]
    assert _ask(address, Range="bytes=1-2", If_Range=tag)[0].status == 206
    assert _ask(address, Range="bytes=1-2", If_Range='"older"')[0].status == 200


def test_head_gives_the_length_and_no_body(address):
    response, body = _ask(address, method="HEAD")
    assert response.headers["Content-Length"] == "200"
    assert body == b""


@pytest.mark.parametrize(
    "path", ["/../secret.txt", "/%2e%2e/secret.txt", "//etc/passwd", "/speaker_00", "/gone.mp4"]
)
def test_nothing_but_media_is_served(address, path):
    assert _ask(address, path)[0].status == 404


def test_the_server_ends_with_its_context(tmp_path):
    (tmp_path / "media").mkdir()
    with serve(tmp_path) as url:
        address = urlsplit(url).netloc
        assert _ask(address, "/gone.mp4")[0].status == 404
    with pytest.raises(OSError, match="refused"):
        _ask(address, "/gone.mp4")


def test_a_folder_without_media_is_refused(tmp_path):
    with pytest.raises(InputError, match="make the corpus first"), serve(tmp_path):
        pass
