"""Downloads over HTTP from a loopback server that fails in every way the web knows."""

import hashlib
import json
import multiprocessing
import socket
import threading
import tracemalloc
from contextlib import contextmanager, suppress

import httpx
import pytest

from mssync.download import answers, partial
from mssync.download import web as web_module
from mssync.download.budget import Budget
from mssync.download.secrets import Secrets
from mssync.errors import ClipRejectedError
from tests.download.faults import CONTENT, ETAG, MODIFIED, serving

HALF = len(CONTENT) // 2


@contextmanager
def rejected(reason, match=None):
    with pytest.raises(ClipRejectedError, match=match) as error:
        yield error
    assert error.value.reason == reason, error.value


def content_of(origin, store):
    return store.path(origin.sha256).read_bytes()


def left_over(store):
    return sorted(file.name for file in (store.folder / "partial").glob("*"))


def stop_half_way(bring, web, url):
    """The first answer to `url` is cut: its part stays, unless it is of no use."""
    with rejected("connection", "ended before the file did"):
        bring(url)
    assert web.sent() == HALF


# ---------------------------------------------------------------- what goes well


@pytest.mark.parametrize(
    "kind", ["plain", "bare", "untyped", "chunked", "until-close", "slow", "hints"]
)
def test_content_arrives_under_its_digest(web, store, bring, kind):
    origin = bring(web.url(kind, pause=0))
    assert content_of(origin, store) == CONTENT
    assert origin.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert origin.bytes == len(CONTENT)
    assert not left_over(store)


@pytest.mark.parametrize("size", [1, 4000, 65_536, 65_537])
def test_files_of_all_sizes_arrive(store, bring, size):
    content = CONTENT[:size]
    with serving(content) as web:
        assert content_of(bring(web.url("plain")), store) == content


@pytest.mark.parametrize("name", ["plain.mp4", "a #1 100% ?.mp4", "-π 视频.mp4", "a%2Fb.mp4", "…"])
def test_a_file_of_any_name_arrives(tmp_path, store, bring, name):
    (tmp_path / name).write_bytes(name.encode() * 100)
    with serving(folder=tmp_path) as web:
        assert content_of(bring(web.file_url(name)), store) == name.encode() * 100


def test_nothing_packed_is_asked_for(web, bring):
    bring(web.url("plain"))
    assert web.log[0].headers["accept-encoding"] == "identity"


def test_where_it_came_from_is_kept_without_secrets(web, store, bring):
    url = web.url("redirect", to=web.url("plain/final name.mp4", token="xyz"))
    origin = bring(url)
    seen = origin.provenance
    assert seen.url == url
    assert seen.final_url == f"{web.base}/plain/final%20name.mp4"
    assert (seen.etag, seen.modified, seen.content_type) == (ETAG, MODIFIED, "video/mp4")
    assert seen.tool == f"httpx {httpx.__version__}"
    assert seen.fetched.endswith("+00:00")
    assert origin.validator == ETAG
    assert store.recall(web_module.key(url)) == origin


def test_connections_are_kept_whatever_is_answered(web, bring, client):
    known = bring(web.url("tagged"), client=client)
    assert bring(web.url("tagged"), client=client, known=known) == known
    for path in ("404", "page", "hops/2", "429", "chunked-404"):
        with suppress(ClipRejectedError):
            bring(web.url(path), client=client)
    assert len({asked.connection for asked in web.log}) == 1


def test_a_refusal_without_end_is_not_read_to_its_end(web, bring):
    with rejected("not_a_video"):
        bring(web.url("endless", type="text/html"))
    with rejected("forbidden"):
        bring(web.url("endless", code=403))


def test_two_servers_of_one_host_are_told_apart():
    assert web_module.key("http://127.0.0.1:81/a?b") != web_module.key("http://127.0.0.1:82/a?b")
    assert web_module.key("http://a.org:81/") != web_module.key("http://a.org:82/")
    assert web_module.key("http://a.org:x/") == "http:http://a.org:x/"


# ---------------------------------------------------------------- what the status says


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "auth"),
        (407, "auth"),
        (403, "forbidden"),
        (400, "gone"),
        (404, "gone"),
        (410, "gone"),
        (418, "gone"),
        (408, "timeout"),
        (425, "rate_limit"),
        (429, "rate_limit"),
        (451, "geo"),
        (500, "server_error"),
        (502, "server_error"),
        (503, "server_error"),
        (599, "server_error"),
        (204, "server_error"),
        (300, "server_error"),
        (304, "server_error"),
        (416, "gone"),
    ],
)
def test_every_status_has_its_reason(web, store, bring, status, reason):
    with rejected(reason, f"the server answered {status}"):
        bring(web.url(f"{status}"))
    assert len(web.log) == 1
    assert not left_over(store)


def test_after_a_failure_the_next_try_works(web, store, bring):
    with rejected("server_error"):
        bring(web.url("failing"))
    assert content_of(bring(web.url("failing")), store) == CONTENT


@pytest.mark.parametrize(
    ("status", "reason"), [(429, "rate_limit"), (503, "server_error"), (403, "forbidden")]
)
def test_the_wait_that_is_asked_for_is_kept(web, bring, status, reason):
    with rejected(reason) as error:
        bring(web.url(f"{status}", after=120))
    assert error.value.wait_s == 120.0


def test_a_date_to_wait_for_is_read_by_the_servers_own_clock(web, bring):
    with rejected("rate_limit") as error:
        bring(web.url("429", on=90, clock=-864_000))
    assert error.value.wait_s == pytest.approx(90.0, abs=2.0)


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        ("0", 0.0),
        ("7", 7.0),
        ("1.5", 1.5),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 100.0),
        ("Wed, 31 Dec 1969 23:00:00 GMT", 0.0),
        ("9" * 500, 604_800.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 604_800.0),
        ("-5", None),
        ("nan", None),
        ("soon", None),
        ("Thu, 99 Jan 1970 00:01:40 GMT", None),
        ("", None),
    ],
)
def test_a_wait_is_never_negative_nor_absurd(header, wait_s):
    response = httpx.Response(429, headers={"Retry-After": header})
    assert answers.wait_s(response, clock=lambda: 0.0) == wait_s


@pytest.mark.parametrize(
    ("code", "name", "value"),
    [
        (403, "cf-mitigated", "challenge"),
        (503, "CF-Mitigated", "challenge"),
        (429, "x-vercel-mitigated", "challenge"),
        (202, "x-amzn-waf-action", "challenge"),
        (403, "x-datadome", "protected"),
    ],
)
def test_a_check_for_robots_is_told_from_a_refusal(web, bring, code, name, value):
    with rejected("bot_check"):
        bring(web.url("says", code=code, name=name, value=value))


def test_who_has_the_secret_gets_in(web, store, bring):
    with rejected("auth", "secrets"):
        bring(web.url("secret"))
    secrets = Secrets(headers={"127.0.0.1": {"Authorization": "Bearer open"}})
    assert content_of(bring(web.url("secret"), secrets=secrets), store) == CONTENT


# ---------------------------------------------------------------- opting out


@pytest.mark.parametrize("value", ["noai", "noimageai", "noindex, NoAI"])
def test_who_asks_not_to_be_used_is_left_in_peace(web, store, bring, value):
    url = web.url("says", name="X-Robots-Tag", value=value)
    with rejected("opt_out"):
        bring(url)
    assert not left_over(store)
    assert bring(url, honour_opt_out=False).bytes == len(CONTENT)


def test_asking_later_not_to_be_used_counts_too(web, bring):
    url = web.url("says", name="X-Robots-Tag", value="noai")
    known = bring(url, honour_opt_out=False)
    with rejected("opt_out"):
        bring(url, known=known)


def test_a_redirect_can_ask_not_to_be_used(web, bring, store):
    url = web.url("says", code=302, name="X-Robots-Tag", value="noai")
    with rejected("opt_out"):
        bring(url)


# ---------------------------------------------------------------- redirects


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_followed(web, store, bring, code):
    assert content_of(bring(web.url("redirect", to="/plain", code=code)), store) == CONTENT


def test_a_place_may_be_given_relative_to_the_page(web, store, bring):
    bring(web.url("redirect/a/b", to="../../plain/é x#part"))
    assert web.log[-1].target == "/plain/%C3%A9%20x"


def test_as_many_redirects_as_allowed_are_followed(web, store, bring):
    assert content_of(bring(web.url("hops/3"), max_redirects=3), store) == CONTENT
    with rejected("redirects", r"more than 3 redirects \(max_redirects\)"):
        bring(web.url("hops/4"), max_redirects=3)


def test_a_circle_is_left_at_once(web, bring):
    with rejected("redirects", "circle"):
        bring(web.url("loop/a"), max_redirects=50)
    assert len(web.log) <= 3


def test_a_page_that_wants_its_cookie_back_is_no_circle(web, store, bring):
    assert content_of(bring(web.url("cookie-wall")), store) == CONTENT


def test_cookies_are_not_carried_from_one_download_to_the_next(web, bring, client):
    bring(web.url("cookie-wall/a"), client=client)
    bring(web.url("cookie-wall/b"), client=client)
    assert ["cookie" in asked.headers for asked in web.log] == [False, True, False, True]


def test_a_redirect_to_nowhere_is_the_servers_fault(web, bring):
    with rejected("server_error", "without Location"):
        bring(web.url("redirect"))


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("file:///etc/passwd", "file:///etc/passwd"),
        ("ftp://a.org/b", "ftp://a.org/b"),
        (
            "http://169.254.169.254/latest/meta-data/?key=hidden",
            "169.254.169.254/latest/meta-data/",
        ),
        ("http://[::1]:9/", "::1"),
        ("http://10.0.0.1/admin?key=hidden", "http://10.0.0.1/admin"),
        ("//127.0.0.2/", "http://127.0.0.2/"),
        ("http://user:hidden@127.0.0.1/", "http://127.0.0.1/"),
    ],
)
def test_a_redirect_to_where_we_must_not_go_is_refused(web, bring, target, shown):
    with rejected("refused") as error:
        bring(web.url("redirect", to=target))
    message = str(error.value)
    assert message.startswith("http://127.0.0.1/redirect redirects to ")
    assert shown in message
    assert "hidden" not in message
    assert len(web.log) == 1


@pytest.mark.parametrize("target", ["http://a.org:b/", "http://[half/", "http://a\x7f.org/"])
def test_a_redirect_to_what_is_no_address_is_refused(web, bring, target):
    with rejected("refused", "redirects to"):
        bring(web.url("redirect", to=target))


@pytest.mark.parametrize(
    "url",
    ["http://", "http://a b.org/", "http://a.org:99999/", f"http://{'a' * 80}.org/", "gopher://a/"],
)
def test_what_is_no_address_is_refused(bring, url):
    with rejected("refused"):
        bring(url)


def test_another_host_is_asked_politely_and_told_no_secret(web, bring):
    port = web.base.rpartition(":")[2]
    asked = []
    secrets = Secrets(headers={"127.0.0.1": {"X-Key": "k1"}, "localhost": {"X-Other": "k2"}})
    bring(
        web.url("redirect/1", to=f"http://localhost:{port}/redirect/2?to=/plain"),
        secrets=secrets,
        admit=asked.append,
    )
    assert asked == ["localhost", "localhost"]
    first, *others = web.log
    assert first.headers["x-key"] == "k1"
    assert "x-other" not in first.headers
    for other in others:
        assert other.headers["x-other"] == "k2"
        assert "x-key" not in other.headers


def test_a_host_that_must_not_be_asked_now_is_not(web, bring):
    def refuse(host):
        raise ClipRejectedError("host_paused", f"{host} rests")

    port = web.base.rpartition(":")[2]
    with rejected("host_paused", "localhost rests"):
        bring(web.url("redirect", to=f"http://localhost:{port}/plain"), admit=refuse)
    assert len(web.log) == 1


# ---------------------------------------------------------------- no video


@pytest.mark.parametrize(
    "kind", ["text/html", "Text/HTML; charset=utf-8", "application/json", "application/xml",
             "application/xhtml+xml", "application/ld+json", "text/plain"]
)  # fmt: skip
def test_a_web_page_is_no_video(web, bring, kind):
    with rejected("not_a_video", r"yt-dlp\+URL"):
        bring(web.url("page", type=kind))


@pytest.mark.parametrize(
    "kind", ["application/octet-stream", "video/x-anything", "audio/mp4", "image/gif", "binary/x"]
)
def test_whatever_else_may_be_one(web, store, bring, kind):
    assert content_of(bring(web.url("bare", type=kind)), store) == CONTENT


def test_a_page_that_claims_to_be_a_video_is_left_to_the_probe(web, store, bring):
    assert content_of(bring(web.url("html")), store).startswith(b"<!doctype")


def test_an_empty_file_is_no_video(store, bring):
    with serving(b"") as web, rejected("not_a_video", "empty"):
        bring(web.url("plain"))
    assert not left_over(store)


# ---------------------------------------------------------------- packed, unasked


@pytest.mark.parametrize("by", ["gzip", "x-gzip", "members", "deflate", "raw", "identity"])
def test_what_is_packed_unasked_is_unpacked(web, store, bring, by):
    assert content_of(bring(web.url("encoded", by=by)), store) == CONTENT


@pytest.mark.parametrize("by", ["br", "zstd", "gzip, br", "aes128gcm"])
def test_what_cannot_be_unpacked_is_named(web, bring, by):
    with rejected("not_a_video", by):
        bring(web.url("encoded", by=by))


def test_a_damaged_packing_is_corrupt(bring):
    with serving(b"no gzip") as web, rejected("corrupt", "gzip"):
        bring(web.url("says", name="Content-Encoding", value="gzip"))


@pytest.mark.parametrize("by", ["gzip", "deflate"])
def test_a_packing_without_its_end_is_not_taken_for_a_file(web, bring, by):
    with rejected("connection", "end of the"):
        bring(web.url("encoded", by=by, half=1))


def test_a_packed_download_does_not_go_on(web, store, bring):
    url = web.url("encoded", by="gzip", cut=1)
    with rejected("connection"):
        bring(url)
    assert not left_over(store)
    assert content_of(bring(url), store) == CONTENT
    assert "range" not in web.log[1].headers


def test_a_bomb_is_too_large_and_memory_stays_flat(web, bring):
    bring(web.url("plain"))  # what is loaded once
    tracemalloc.start()
    try:
        with rejected("too_large"):
            bring(web.url("bomb"), max_bytes=60_000_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000


def test_much_that_unpacks_to_nothing_is_too_large(web, bring):
    with rejected("too_large"):
        bring(web.url("hollow"), max_bytes=1_000_000)


# ---------------------------------------------------------------- sizes


def test_what_is_announced_too_large_is_not_begun(web, store, bring):
    with rejected("too_large"):
        bring(web.url("plain"), max_bytes=len(CONTENT) - 1)
    with rejected("too_large"):
        bring(web.url("huge"))
    assert not left_over(store)


def test_an_endless_stream_ends(web, store, bring, params):
    budget = Budget(params.model_copy(update={"max_bytes": 3_000_000}), store.folder)
    with rejected("too_large"):
        bring(web.url("endless"), budget=budget)
    assert 3_000_000 <= budget.received < 6_000_000
    assert not left_over(store)


def test_every_byte_is_counted(web, store, bring, params):
    budget = Budget(params, store.folder)
    bring(web.url("plain"), budget=budget)
    assert budget.received == len(CONTENT)


def test_what_the_budget_cannot_pay_for_is_not_begun(web, store, bring, params):
    budget = Budget(params.model_copy(update={"run_bytes": len(CONTENT) - 1}), store.folder)
    with rejected("budget", "run_bytes"):
        bring(web.url("plain"), budget=budget)
    assert budget.received == 0


def test_a_run_that_has_spent_its_bytes_keeps_the_part(web, store, bring):
    url = web.url("tagged", cut=1)
    stop_half_way(bring, web, url)
    with rejected("budget", "run_bytes"):
        bring(url, run_bytes=1000)
    assert content_of(bring(url), store) == CONTENT
    assert web.log[-1].headers["range"] == f"bytes={HALF}-"


@pytest.mark.parametrize(("kind", "words"), [("shorter", "ended"), ("chunked-cut", "ended")])
def test_a_body_that_ends_early_is_not_taken_for_a_file(web, store, bring, kind, words):
    with rejected("connection", words):
        bring(web.url(kind))


def test_an_announced_length_does_not_count_beside_chunks():
    headers = {"Transfer-Encoding": "chunked", "Content-Length": "5"}
    assert answers.length(httpx.Response(200, headers=headers)) == -1


def test_of_a_longer_body_only_what_was_announced_is_taken(web, store, bring):
    assert content_of(bring(web.url("longer")), store) == CONTENT[:-1000]


# ---------------------------------------------------------------- slow and silent


@pytest.mark.parametrize("kind", ["stall", "stall-inside"])
def test_silence_is_a_timeout(web, bring, kind):
    with rejected("timeout", r"no answer for 0\.3 s"):
        bring(web.url(kind), timeout_s=0.3)


def test_a_drip_is_a_timeout(web, bring):
    with rejected("timeout", "min_bytes_per_s"):
        bring(web.url("drip", pause=0.02), timeout_s=0.4, min_bytes_per_s=1000.0)


def test_a_drip_after_a_good_start_is_a_timeout(web, bring):
    url = web.url("drip", burst=len(CONTENT) - 1000, pause=0.02)
    with rejected("timeout", "min_bytes_per_s"):
        bring(url, timeout_s=0.4, min_bytes_per_s=1000.0)


def test_a_slow_server_that_is_fast_enough_is_waited_for(web, store, bring):
    url = web.url("slow", pause=0.1)
    assert bring(url, timeout_s=0.3, min_bytes_per_s=1000.0).bytes == len(CONTENT)


# ---------------------------------------------------------------- broken


def test_a_server_that_hangs_up_is_a_connection(web, bring):
    with rejected("connection", "disconnected"):
        bring(web.url("hangs-up"))


def test_a_server_that_is_not_there_is_a_connection(bring):
    with serving() as web:
        url = web.url("plain")
    with rejected("connection", "refused"):
        bring(url)


def test_a_failed_handshake_is_a_connection_with_its_own_words(web, bring):
    with rejected("connection", "SSL") as error:
        bring(web.url("plain").replace("http:", "https:"))
    assert "_ssl.c" not in str(error.value)


@pytest.mark.parametrize("kind", ["nonsense", "huge-headers"])
def test_what_is_not_http_is_a_server_error(web, bring, kind):
    with rejected("server_error", "not HTTP"):
        bring(web.url(kind))


@pytest.mark.parametrize("url", ["http://93.184.215.14/407", "https://93.184.215.14/"])
def test_a_proxy_that_wants_a_login_says_so(bring, url):
    with serving() as proxy, rejected("auth", "407"):
        bring(url, proxy=proxy.base)


def test_a_header_that_cannot_be_sent_is_not_shown(web, bring):
    secrets = Secrets(headers={"127.0.0.1": {"X-Key": "hidden\r\nvalue"}})
    with rejected("refused", "from the secrets") as error:
        bring(web.url("plain"), secrets=secrets)
    assert "hidden" not in str(error.value)


# ---------------------------------------------------------------- going on


@pytest.mark.parametrize(
    ("kind", "validator"), [("plain", ETAG), ("tagged", ETAG), ("dated", MODIFIED)]
)
def test_a_broken_download_goes_on_where_it_stopped(web, store, bring, kind, validator):
    url = web.url(kind, cut=1)
    stop_half_way(bring, web, url)
    assert content_of(bring(url), store) == CONTENT
    assert web.log[1].headers["range"] == f"bytes={HALF}-"
    assert web.log[1].headers["if-range"] == validator
    assert web.sent() == len(CONTENT)
    assert not left_over(store)


@pytest.mark.parametrize("kind", ["bare", "weak"])
def test_without_a_promise_of_the_same_bytes_it_starts_anew(web, store, bring, kind):
    url = web.url(kind, cut=1)
    stop_half_way(bring, web, url)
    assert not left_over(store)
    assert content_of(bring(url), store) == CONTENT
    assert "range" not in web.log[1].headers


@pytest.mark.parametrize(
    "kind", ["wrong-range", "wrong-total", "no-range-header", "whole", "unsatisfiable"]
)
def test_a_range_that_is_not_what_was_asked_for_starts_anew(web, store, bring, kind):
    url = web.url(kind, cut=1)
    stop_half_way(bring, web, url)
    assert content_of(bring(url), store) == CONTENT
    assert "range" in web.log[1].headers
    assert len(web.log) == (2 if kind == "whole" else 3)


def test_a_range_may_be_shorter_than_asked_for(web, store, bring):
    url = web.url("short-range", cut=1)
    stop_half_way(bring, web, url)
    with rejected("connection", "the server ended before the file did"):
        bring(url)
    with rejected("connection"):
        bring(url)
    assert web.log[2].headers["range"] == f"bytes={HALF + HALF // 2}-"


@pytest.mark.parametrize("kind", ["changing", "careless"])
def test_two_versions_are_never_mixed(web, store, bring, kind):
    url = web.url(kind, cut=1)
    stop_half_way(bring, web, url)
    assert web.log[0].time == 0
    content = content_of(bring(url), store)
    assert len(set(content)) == 1
    assert len(content) == len(CONTENT)


def test_nothing_is_left_of_a_longer_version(web, store, bring):
    url = web.url("shrinking", cut=1)
    stop_half_way(bring, web, url)
    assert content_of(bring(url), store) == bytes([1]) * (len(CONTENT) // 4)


def test_a_part_that_was_not_asked_for_is_not_taken_for_a_file(web, store, bring):
    with rejected("server_error", "206"):
        bring(web.url("partial-unasked"))


def test_a_part_without_its_note_starts_anew(web, store, bring):
    url = web.url("tagged", cut=1)
    stop_half_way(bring, web, url)
    for note in (store.folder / "partial").glob("*.json"):
        note.unlink()
    assert content_of(bring(url), store) == CONTENT
    assert "range" not in web.log[1].headers


def test_the_note_of_another_source_does_not_count(web, store, bring):
    url = web.url("tagged", cut=1)
    stop_half_way(bring, web, url)
    (note,) = (store.folder / "partial").glob("*.json")
    note.write_text(json.dumps(json.loads(note.read_text()) | {"key": "another"}))
    assert content_of(bring(url), store) == CONTENT
    assert "range" not in web.log[1].headers


def test_a_part_that_is_complete_is_taken_without_asking(web, store, bring):
    url = web.url("tagged", cut=1)
    stop_half_way(bring, web, url)
    (part,) = (file for file in (store.folder / "partial").glob("*") if not file.suffix)
    with part.open("ab") as file:
        file.write(CONTENT[HALF:])
    origin = bring(url)
    assert content_of(origin, store) == CONTENT
    assert origin.provenance.etag == ETAG
    assert len(web.log) == 1


def test_what_will_never_be_wanted_leaves_no_part(web, store, bring):
    url = web.url("tagged", cut=1)
    stop_half_way(bring, web, url)
    with rejected("too_large"):
        bring(url, max_bytes=HALF + 1)
    assert not left_over(store)


# ---------------------------------------------------------------- asking again


@pytest.mark.parametrize(
    ("kind", "header"),
    [("tagged", "if-none-match"), ("weak", "if-none-match"), ("dated", "if-modified-since")],
)
def test_what_has_not_changed_is_not_sent_again(web, store, bring, kind, header):
    known = bring(web.url(kind))
    assert bring(web.url(kind), known=known) == known
    assert web.log[1].headers[header] == known.validator
    assert web.sent() == len(CONTENT)


def test_what_has_changed_is_fetched(web, store, bring):
    known = bring(web.url("changing"))
    newer = bring(web.url("changing"), known=known)
    assert newer.sha256 != known.sha256
    assert store.recall(web_module.key(web.url("changing"))) == newer


# ---------------------------------------------------------------- several at a time


def test_two_who_want_the_same_file_fetch_it_once(web, store, bring):
    origins = []
    url = web.url("slow", pause=0.05)
    threads = [threading.Thread(target=lambda: origins.append(bring(url))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert [content_of(origin, store) for origin in origins] == [CONTENT] * 3
    assert len(web.log) == 1


def hold_until_told(store, key, connection):
    with partial.hold(store, key, patience_s=1.0):
        connection.send("held")
        connection.poll(30)


@pytest.fixture
def holder(store, web):
    """Another process, which holds the part of `/plain`."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    key = web_module.key(web.url("plain"))
    process = context.Process(target=hold_until_told, args=(store, key, there), daemon=True)
    process.start()
    there.close()
    assert here.poll(30)
    yield process
    here.close()
    process.join(timeout=30)


def test_a_process_that_holds_a_part_is_not_waited_for_without_end(web, bring, holder):
    with rejected("timeout", "another process"):
        bring(web.url("plain"), timeout_s=0.1, max_wait_s=0.1)
    assert not web.log


def test_the_lock_of_a_process_that_died_does_not_hold(web, store, bring, holder):
    holder.kill()
    holder.join(timeout=30)
    assert content_of(bring(web.url("plain")), store) == CONTENT


def test_a_kept_connection_that_closes_in_that_very_moment_is_no_failure(bring, client):
    """The server reads the second request of a connection, and hangs up without a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            for requests in (2, 1):
                connection, _ = server.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
                    if requests == 2:
                        connection.recv(65536)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        base = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert bring(f"{base}/a.mp4", client=client).bytes == 5
        assert bring(f"{base}/b.mp4", client=client).bytes == 5
        thread.join(timeout=5)
