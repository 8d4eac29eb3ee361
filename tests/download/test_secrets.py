"""Nothing that only the operator may know ever comes out in writing."""

import base64
import logging
import pickle
import re
import subprocess
import sys
import traceback

import pytest

from mssync import log
from mssync.download import secrets
from mssync.download.secrets import Secrets
from mssync.errors import InputError

PASSWORD = "p@ss/w:rd ü'1"
ENCODED = "p%40ss%2Fw%3Ard%20%C3%BC%271"
PROXY = f"http://operator:{ENCODED}@proxy.example.org:3128"
TOKEN = "tok-0123456789"
SESSION = "sess/ion+value=="
FUTURE = 32_503_680_000  # the year 3000


def cookie(domain, name, value, *, subdomains="FALSE", path="/", secure="FALSE", expires=FUTURE):
    return "\t".join([domain, subdomains, path, secure, str(expires), name, value]) + "\n"


COOKIES = "# Netscape HTTP Cookie File\n" + cookie("example.org", "SID", SESSION)
HIDDEN = Secrets(
    proxy=PROXY,
    cookies=COOKIES,
    headers={"example.org": {"Authorization": f"Bearer {TOKEN}"}},
    extractor_args={"youtube": {"po_token": ["web+PoToken123"], "player_client": ["web"]}},
)
VALUES = [PASSWORD, ENCODED, TOKEN, SESSION, "sess%2Fion%2Bvalue%3D%3D", "PoToken123"]


@pytest.fixture
def restored_log():
    """Leaves the log as it was."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    excepthook = sys.excepthook
    yield
    log.redact_with(str)
    sys.excepthook = excepthook
    root.handlers[:] = before[0]
    root.setLevel(before[1])


@pytest.fixture
def folder(tmp_path):
    """Writes files that nobody else may read."""

    def write(name, content, mode=0o600):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(mode)
        return path

    return write


def leaks(text):
    return [value for value in VALUES if value in text]


def test_nothing_is_shown_of_secrets():
    assert repr(HIDDEN) == str(HIDDEN) == f"{HIDDEN}" == "Secrets()"


@pytest.mark.parametrize(
    "text",
    [
        f"could not connect to {PROXY}",
        f"password {PASSWORD}",
        repr(PASSWORD),
        ascii([PASSWORD]),
        f"?password={ENCODED.lower()}",
        f"Proxy-Authorization: Basic {base64.b64encode(f'operator:{PASSWORD}'.encode()).decode()}",
        f"Cookie: SID={SESSION}; x=1",
        "https://example.org/?sid=sess%2Fion%2Bvalue%3D%3D",
        f"Authorization: {TOKEN}",
        "[youtube] a po_token of web+PoToken123 is used",
    ],
)
def test_every_spelling_of_a_secret_is_hidden(text):
    redacted = HIDDEN.redact(text)
    assert "***" in redacted
    assert not leaks(redacted)
    assert not leaks(redacted.replace("***", ""))
    assert "p%40" not in redacted


def test_text_without_secrets_stays_as_it_is():
    text = "web: https://example.org/@handle?mail=a@b gave 404, player_client web, operator"
    assert HIDDEN.redact(text) == text


def test_the_longest_secret_is_hidden_whole():
    found = Secrets(extractor_args={"a": {"b": ["abcdef", "abcdefghijkl", "ghijklmnop"]}})
    assert found.redact("abcdefghijkl abcdef") == "*** ***"


@pytest.mark.parametrize(
    "url", ["ftp://user:pass@example.org/x", "HTTPS://user:p@ss@example.org/x", "s3://key:s@b/x"]
)
def test_the_password_of_any_url_is_hidden(url):
    redacted = Secrets().redact(f"cannot reach {url}, sorry")
    assert "user" not in redacted
    assert "key" not in redacted
    assert re.fullmatch(r"cannot reach \w+://\*\*\*@(example.org|b)/x, sorry", redacted)


def test_headers_of_the_basic_scheme_are_hidden_decoded_too():
    pair = base64.b64encode(b"ada:lovelace").decode()
    found = Secrets(headers={"example.org": {"Authorization": f"Basic {pair}"}})
    assert found.redact(f"{pair} ada:lovelace lovelace") == "*** *** ***"


def test_a_referer_is_no_secret():
    found = Secrets(headers={"example.org": {"Referer": "https://example.org/"}})
    assert found.redact("https://example.org/a.mp4 is gone") == "https://example.org/a.mp4 is gone"


def test_no_log_line_holds_a_secret(capsys, restored_log):
    log.set_up("DEBUG")
    logger = logging.getLogger("somewhere.else")
    logger.info("before they are known: %s", TOKEN)
    capsys.readouterr()
    secrets.register(HIDDEN)
    logger.info("message with %s", PROXY)
    logger.warning("arguments %r %s", {"password": PASSWORD}, [SESSION])
    logger.info("the arguments of a wrong line are not shown: %d", TOKEN)
    try:
        raise ValueError(f"cookie {SESSION}")
    except ValueError:
        logger.exception("failed with %s", TOKEN)
    written = capsys.readouterr().err
    assert "failed with ***" in written
    assert "ValueError: cookie ***" in written
    assert "a line that cannot be logged" in written
    assert not leaks(written)
    assert not leaks("\n".join(log.tail()))
    assert "before they are known: ***" in "\n".join(log.tail())


def test_reports_outside_the_log_can_be_redacted(restored_log):
    assert log.redact(TOKEN) == TOKEN
    secrets.register(HIDDEN)
    assert log.redact(f"the token {TOKEN}") == "the token ***"


def test_an_error_that_nobody_handles_is_shown_without_secrets():
    program = (
        "from mssync.download import secrets\n"
        f"secrets.register(secrets.Secrets(extractor_args={{'a': {{'b': [{TOKEN!r}]}}}}))\n"
        f"raise RuntimeError('tok' + {TOKEN[3:]!r})\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr
    assert ended.stderr.endswith("RuntimeError: ***\n")
    assert not leaks(ended.stderr)


def test_secrets_reach_another_process_whole():
    HIDDEN.headers_for("https://example.org/")  # fills what is not taken along
    assert HIDDEN.redact(TOKEN) == "***"
    assert pickle.loads(pickle.dumps(HIDDEN)) == HIDDEN


# ---- headers


@pytest.mark.parametrize(
    ("host", "given"),
    [
        ("example.org", True),
        ("EXAMPLE.org.", True),
        ("cdn.example.org:8080", True),
        ("notexample.org", False),
        ("example.org.evil.net", False),
        ("org", False),
    ],
)
def test_headers_go_to_their_host_and_its_subdomains_alone(host, given):
    headers = HIDDEN.headers_for(f"https://{host}/a.mp4")
    assert headers.get("Authorization") == (f"Bearer {TOKEN}" if given else None)


def test_a_user_in_the_url_does_not_name_the_host():
    assert HIDDEN.headers_for("https://example.org@evil.net/") == {}
    assert HIDDEN.headers_for("https://evil.net@example.org/")["Cookie"] == f"SID={SESSION}"


def test_the_nearest_host_has_the_last_word():
    found = Secrets(headers={"a.example.org": {"x-key": "near"}, "example.org": {"X-Key": "far"}})
    assert found.headers_for("https://a.example.org/") == {"x-key": "near"}
    assert found.headers_for("https://b.example.org/") == {"X-Key": "far"}


def test_a_top_level_domain_and_an_address_have_no_subdomains():
    found = Secrets(headers={"org": {"X-Key": "a"}, "127.0.0.1": {"X-Key": "b"}})
    assert found.headers_for("https://example.org/") == {}
    assert found.headers_for("http://1.127.0.0.1/") == {}
    assert found.headers_for("http://127.0.0.1:8000/") == {"X-Key": "b"}


def test_a_host_is_known_in_unicode_and_in_ascii():
    found = Secrets(headers={"bücher.example": {"X-Key": "a"}})
    assert found.headers_for("https://xn--bcher-kva.example/") == {"X-Key": "a"}


@pytest.mark.parametrize(
    ("line", "url", "sent"),
    [
        (cookie("example.org", "a", "1"), "http://example.org:8080/x", True),
        (cookie("example.org", "a", "1"), "http://sub.example.org/", False),
        (cookie(".example.org", "a", "1", subdomains="TRUE"), "http://sub.example.org/", True),
        (cookie("example.org", "a", "1", subdomains="TRUE"), "http://sub.example.org/", True),
        (cookie(".example.org", "a", "1", subdomains="TRUE"), "http://badexample.org/", False),
        (cookie("example.org", "a", "1", path="/videos"), "http://example.org/videos/1", True),
        (cookie("example.org", "a", "1", path="/videos"), "http://example.org/videos2", False),
        (cookie("example.org", "a", "1", secure="TRUE"), "http://example.org/", False),
        (cookie("example.org", "a", "1", secure="TRUE"), "https://example.org/", True),
        (cookie("example.org", "a", "1", expires=1000), "http://example.org/", False),
        (cookie("example.org", "a", "1", expires=0), "http://example.org/", True),
        (cookie("example.org", "a", "1", expires=""), "http://example.org/", True),
        ("#HttpOnly_" + cookie("example.org", "a", "1"), "http://example.org/", True),
        (cookie("example.org", "a", "ü"), "http://example.org/", False),
        (cookie("127.0.0.1", "a", "1"), "http://127.0.0.1:8000/", True),
    ],
)
def test_cookies_go_where_they_belong(line, url, sent):
    assert Secrets(cookies=line).headers_for(url) == ({"Cookie": "a=1"} if sent else {})


# ---- reading


def test_nothing_is_secret_where_nothing_is_named():
    assert secrets.load({}) == Secrets()


def test_a_file_of_secrets_is_read(folder, caplog):
    folder("cookies.txt", COOKIES.replace("\n", "\r\n"))
    path = folder(
        "secrets.yaml",
        f"proxy: {PROXY}\n"
        "cookies: cookies.txt\n"
        f"headers: {{example.org: {{Authorization: Bearer {TOKEN}}}}}\n"
        "extractor_args: {youtube: {player_client: web, po_token: [web+PoToken123]}}\n",
    )
    found = secrets.load({"MSSYNC_SECRETS": str(path)})
    assert found.proxy == PROXY
    assert found.headers == HIDDEN.headers
    assert found.extractor_args == HIDDEN.extractor_args
    assert found.headers_for("https://example.org/")["Cookie"] == f"SID={SESSION}"
    assert not caplog.messages


def test_single_variables_go_before_the_file(folder):
    other = folder("other.txt", COOKIES.replace("SID", "OTHER"))
    path = folder("secrets.yaml", "proxy: http://a:b@one:1\ncookies: none.txt\n")
    environ = {"MSSYNC_SECRETS": str(path), "MSSYNC_SECRET_COOKIES": str(other)}
    found = secrets.load(environ | {"MSSYNC_SECRET_PROXY": "http://two:2"})
    assert found.proxy == "http://two:2"
    assert found.headers_for("http://example.org/")["Cookie"] == f"OTHER={SESSION}"


def test_cookies_are_handed_on_in_one_spelling(folder):
    """As Python's own reader wants them, which gives up at a dot too many."""
    path = folder(
        "cookies.txt",
        "# HTTP Cookie File\n\n"
        + cookie("a.example", "a", "1", subdomains="TRUE", expires="1893456000.5")
        + cookie(".b.example", "b", "2", subdomains="false", expires=-1)
        + "#HttpOnly_"
        + cookie("c.example", "", "3").rstrip(),
    )
    found = secrets.load({"MSSYNC_SECRET_COOKIES": str(path)})
    assert found.cookies.splitlines()[1:] == [
        ".a.example\tTRUE\t/\tFALSE\t1893456000\ta\t1",
        "b.example\tFALSE\t/\tFALSE\t0\tb\t2",
        f"c.example\tFALSE\t/\tFALSE\t{FUTURE}\t\t3",
    ]


@pytest.mark.parametrize("name", ["secrets.yaml", "cookies.txt"])
def test_a_file_that_others_may_read_is_warned_of(folder, caplog, name):
    folder("secrets.yaml", "cookies: cookies.txt\n")
    folder("cookies.txt", COOKIES).with_name(name).chmod(0o640)
    secrets.load({"MSSYNC_SECRETS": str(folder("x", "").with_name("secrets.yaml"))})
    [message] = caplog.messages
    assert f"{name} holds secrets and others may read it" in message


def test_expired_cookies_are_warned_of_by_domain(folder, caplog):
    lines = [cookie(f"{n}.example", "name", SESSION, expires=1000) for n in range(7)]
    path = folder("cookies.txt", COOKIES + "".join(lines))
    secrets.load({"MSSYNC_SECRET_COOKIES": str(path)})
    [message] = caplog.messages
    assert "cookies of 0.example, 1.example, 2.example" in message
    assert "and 2 more have expired" in message
    assert not leaks(message)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"proxxy: {PROXY}", "proxxy: Extra inputs are not permitted"),
        (f"headers: {{example.org: {TOKEN}}}", "headers.example.org: Input should be a valid dict"),
        (f"headers: {TOKEN}", "headers: Input should be a valid dictionary"),
        ("headers: {a.org: {X-Key: 0123}}", "headers.a.org.X-Key: Input should be a valid string"),
        (f"headers: {{a.org: {{Host: {TOKEN}}}}}", "the downloader sets this header itself"),
        (f"headers: {{a.org: {{'X Y': {TOKEN}}}}}", "not the name of a header"),
        (f'headers: {{a.org: {{X: "{TOKEN}\\r\\nY: z"}}}}', "expected one line of ASCII text"),
        (f"headers: {{a.org: {{X: {TOKEN}ü}}}}", "expected one line of ASCII text"),
        (f"extractor_args: {{youtube: [{TOKEN}]}}", "extractor_args.youtube: "),
        (f"{TOKEN}", "the file: Input should be a valid dictionary"),
        (f"proxy: {{{PROXY}: 1}}", "proxy: Input should be a valid string"),
        (f"{PROXY}: 1", "http://***@proxy.example.org:3128: Extra inputs"),
        (f"proxy: *{TOKEN}", "not YAML, line 1"),
        (f"a: 1\nb: [\n{TOKEN}\n", "not YAML, line 4"),
        (f"!{TOKEN} 1", "not YAML"),
        (f"proxy: 2024-99-99 # {TOKEN}", "not YAML"),
        ("proxy: \x00", "not YAML"),
        (b"proxy: \xff", "not UTF-8 text"),
        (f"proxy: socks4://a:{ENCODED}@b", "proxy: "),
        (f"cookies: {TOKEN}", "No such file"),
    ],
)
def test_a_mistake_names_file_and_key_and_no_value(folder, content, said):
    path = folder("secrets.yaml", content)
    with pytest.raises(InputError) as caught:
        secrets.load({"MSSYNC_SECRETS": str(path)})
    assert said in str(caught.value)
    assert "secrets.yaml" in str(caught.value) or "No such file" in said
    known = [TOKEN] if said == "No such file" else []  # a path is no secret
    assert leaks("".join(traceback.format_exception(caught.value))) == known


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f'[{{"value": "{SESSION}"}}]', "expected a cookie file in Netscape's format"),
        (COOKIES + f"example.org\t{SESSION}\n", "line 3 is no cookie"),
        (COOKIES.replace("FALSE", SESSION), "line 2 is no cookie"),
        (COOKIES.replace(str(FUTURE), SESSION), "line 2 is no cookie"),
        (COOKIES.replace("SID", "\x01"), "line 2 is no cookie"),
        ("", "expected a cookie file"),
    ],
)
def test_a_mistake_in_the_cookies_names_file_and_line_and_no_value(folder, content, said):
    path = folder("cookies.txt", content)
    with pytest.raises(InputError, match=said) as caught:
        secrets.load({"MSSYNC_SECRET_COOKIES": str(path)})
    assert "cookies.txt (MSSYNC_SECRET_COOKIES)" in str(caught.value)
    assert not leaks("".join(traceback.format_exception(caught.value)))


@pytest.mark.parametrize("variable", ["MSSYNC_SECRETS", "MSSYNC_SECRET_COOKIES"])
def test_a_missing_file_is_named(tmp_path, variable):
    with pytest.raises(InputError, match=rf"none.txt \({variable}\): No such file"):
        secrets.load({variable: str(tmp_path / "none.txt")})


def test_a_proxy_that_is_none_is_not_quoted():
    with pytest.raises(InputError, match="MSSYNC_SECRET_PROXY: ") as caught:
        secrets.load({"MSSYNC_SECRET_PROXY": f"ftp://a:{ENCODED}@b"})
    assert not leaks("".join(traceback.format_exception(caught.value)))
