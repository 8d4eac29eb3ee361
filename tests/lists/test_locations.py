"""Where sources are, and who is asked for them."""

import unicodedata
from urllib.parse import unquote, urlsplit

import httpx
import pytest

from mssync.demo.server import serve
from mssync.lists.locations import (
    fault,
    host_of,
    locate,
    location_kind,
    relative_to,
    site_name,
    without_secrets,
)

AWKWARD = [
    "-dash-first.mp4",
    "id10283#u3s9xdUlmmk#002705.mp4",
    "name with spaces.mp4",
    unicodedata.normalize("NFD", "café.mp4"),
    "x" * 246 + ".mp4",
    "two.dots..in.name.mp4",
    "100%.mp4",
    "a%20b.mp4",
    "what?.mp4",
    "a+b&c=d;e.mp4",
    "日本語/動画.mp4",
    'quote"and,comma.mp4',
]


@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize("base", ["http://host/x", "http://host:8080/x/"])
def test_an_awkward_name_goes_into_an_address_and_back(name, base, tmp_path):
    address = locate(name, base=base, folder=tmp_path)
    assert address.isascii()
    assert unquote(urlsplit(address).path) == f"/x/{name}"
    assert relative_to(base, address) == name


@pytest.mark.parametrize("name", AWKWARD)
def test_an_awkward_name_is_found_by_a_server_and_on_disk(name, tmp_path):
    file = tmp_path / "media" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(name)
    with serve(tmp_path) as url:
        assert httpx.get(locate(name, base=url, folder=tmp_path)).text == name
    assert locate(name, base="", folder=tmp_path / "media") == str(file)
    assert relative_to(str(tmp_path / "media"), str(file)) == name


def test_relative_sources_start_from_the_base_or_from_the_list(tmp_path):
    assert locate("a b.mp4", base="http://host/x/", folder=tmp_path) == "http://host/x/a%20b.mp4"
    assert locate("a b.mp4", base="s3://bucket/x/", folder=tmp_path) == "s3://bucket/x/a b.mp4"
    assert locate("a.mp4", base="/media", folder=tmp_path) == "/media/a.mp4"
    assert locate("a.mp4", base="", folder=tmp_path) == str(tmp_path / "a.mp4")
    for whole in ("https://h/a.mp4", "s3://b/a.mp4", "yt-dlp+https://h/a", "/videos/a.mp4"):
        assert locate(whole, base="/media", folder=tmp_path) == whole


def test_what_would_not_lead_back_stays_absolute():
    for base, source in [
        ("http://h/x", "http://h/x/a.mp4?token=1"),
        ("http://h/x", "http://h/x/%2Fetc/passwd"),
        ("http://h/x", "http://h/x/"),
        ("http://h/x", "http://h/xy/a.mp4"),
        ("/videos", "/videos//etc/passwd"),
        ("/videos", "/videos/http://h/a"),
        ("", "/videos/a.mp4"),
    ]:
        assert relative_to(base, source) == source


@pytest.mark.parametrize(
    ("location", "kind", "host"),
    [
        ("/videos/a.mp4", "file", ""),
        ("/videos/https:/x.mp4", "file", ""),
        ("https://Example.org:8080/a.mp4", "web", "example.org"),
        ("HTTP://example.org/a", "web", "example.org"),
        ("http://127.0.0.1:9/clip?id=3", "web", "127.0.0.1"),
        ("http://[::1]:9/clip", "web", "::1"),
        ("http://[::1/x", "web", ""),
        ("https://www.youtube.com/watch?v=AbCdEfGhIjK", "site", "youtube"),
        ("https://youtu.be/AbCdEfGhIjK?t=3", "site", "youtube"),
        ("https://m.youtube.com/shorts/AbCdEfGhIjK", "site", "youtube"),
        ("https://vimeo.com/76979871", "site", "vimeo"),
        ("https://www.bilibili.tv/en/video/2045730385", "site", "bilibili"),
        ("https://x.com/someone/status/1790637656616943991", "site", "twitter"),
        ("https://archive.org/details/some_item", "site", "archiveorg"),
        ("https://archive.org/download/some_item/a.mp4", "web", "archive.org"),
        ("https://commons.wikimedia.org/wiki/File:A.webm", "web", "commons.wikimedia.org"),
        (
            "yt-dlp+https://commons.wikimedia.org/wiki/File:A.webm",
            "site",
            "wikimedia",
        ),
        ("yt-dlp+https://Example.org/talk", "site", "example.org"),
        ("YT-DLP+HTTPS://example.org/talk", "site", "example.org"),
        ("s3://bucket/folder/a.mp4", "object", "s3://bucket"),
        ("gs://bucket/a.mp4", "object", "gs://bucket"),
    ],
)
def test_a_location_tells_how_it_is_read_and_who_is_asked(location, kind, host):
    assert location_kind(location) == kind
    assert host_of(location) == host


def test_a_page_of_no_site_goes_by_its_host():
    assert site_name("https://talks.example.org/1") == "talks.example.org"


def test_the_short_cut_finds_what_trying_every_extractor_finds():
    from yt_dlp.extractor import gen_extractor_classes

    from mssync.lists import locations

    extractors = [one for one in gen_extractor_classes() if one.IE_NAME != "generic"]
    urls = [
        "https://www.youtube.com/watch?v=AbCdEfGhIjK",
        "https://www.youtube.com/watch?feature=foo",
        "https://www.youtube-nocookie.com/embed/AbCdEfGhIjK",
        "https://www.tiktok.com/@someone/video/6748451240264420610",
        "https://www.ted.com/talks/some_talk",
        "https://www.bbc.co.uk/programmes/b039g8p7",
        "https://media.example.edu/Mediasite/Play/7d0a8d2b5f3d4a0e9d5b0e8c5f3d4a0e1d",
        "https://www.dailymotion.com/video/x5kesuj",
        "https://www.facebook.com/video.php?v=637842556329505",
        "https://www.bilibili.com/video/BV13x41117TL",
        "https://www.c-span.org/video/?313572-1/senate",
        "https://www.56.com/u39/v_OTM0NDA3MTY.html",
        "https://talks.example.org/video/1",
        "https://cdn.example.co.uk/watch?v=1",
        "http://127.0.0.1:8000/videos/1",
    ]
    found = [locations._extractor(url) for url in urls]
    assert found == [next((e for e in extractors if e.suitable(url)), None) for url in urls]
    assert sum(one is None for one in found) == 3


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("a:b@c.mp4", ""),
        ("https://h/x@y?a=b@c", ""),
        ("yt-dlp+https://h/x", ""),
        ("s3://bucket/a.mp4", ""),
        ("gs://bucket/a.mp4", ""),
        ("https://user:pa55@h/x", "secrets file"),
        ("yt-dlp+https://user@h/x", "secrets file"),
        ("s3://key:pa55@bucket/x", "secrets file"),
        ("file:///etc/passwd", "give the path"),
        ("gopher://h/x", "gopher:// is not known"),
        ("yt-dlp+file:///etc/passwd", "is not known"),
        ("local:///etc/passwd", "local:// is not known"),
        ("memory://x", "memory:// is not known"),
        ("simplecache::s3://bucket/x", ""),  # a path: no scheme begins so
        ("s3://bucket/x::file:///etc/passwd", "chains file systems"),
        ("a\0b", "NUL"),
    ],
)
def test_what_a_list_may_not_hold_is_told_without_the_secret(source, wrong):
    told = fault(source)
    assert wrong in told
    assert bool(wrong) == bool(told)
    assert "pa55" not in told


def test_an_address_is_logged_without_its_secrets():
    assert without_secrets("https://user:pa55@h:8/a?token=1#x") == "https://h:8/a"
    assert without_secrets("/a@b?c") == "/a@b?c"
