import datetime
import ipaddress
import pickle
import socket
import ssl
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mssync import __version__
from mssync.download.addresses import MIRRORS, Policy, environment_proxy, goes_direct, make_client
from mssync.errors import ClipRejectedError, InputError


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append((self.path, dict(self.headers), self.client_address))
        redirect = self.path.startswith("/to?")
        self.send_response(302 if redirect else 200)
        if redirect:
            self.send_header("Location", self.path.removeprefix("/to?"))
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_):
        pass


@contextmanager
def _serving(address="127.0.0.1", port=0, context=None):
    server = ThreadingHTTPServer((address, port), _Handler)
    server.asked = []
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server():
    with _serving() as server:
        yield server


@contextmanager
def _client(*mirrors, timeout_s=5.0, **options):
    policy = Policy(mirrors)
    with make_client(policy, timeout_s=timeout_s, connections=2, **options) as client:
        yield client


def _reason(call, *args):
    with pytest.raises(ClipRejectedError) as caught:
        call(*args)
    return caught.value.reason


@pytest.fixture
def names(monkeypatch):
    """What names lead to: per name, the answers of one look-up after the other."""
    real, table = socket.getaddrinfo, {}

    def look_up(host, port, *args, **kwargs):
        answers = table.get(host)
        if answers is None:
            return real(host, port, *args, **kwargs)
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [each for address in addresses for each in real(address, port, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return table


# the form of a URL


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org",
        "HTTPS://Example.ORG:8443/a%20b.mp4?x=1#t=3",
        "http://example.org./talk one.mp4",
        "http://bücher.example/ü.mp4",
        "https://[2606:4700::1]/x",
        "http://a_b.example/",
    ],
)
def test_a_web_address_has_the_right_form(url):
    Policy().check_url(url)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("file:///etc/passwd", "scheme is 'file'"),
        ("ftp://example.org/x", "scheme is 'ftp'"),
        ("data:text/plain,x", "scheme is 'data'"),
        ("//example.org/x", "no scheme"),
        (" http://example.org/", "no scheme"),
        ("http:///x", "no host"),
        ("http://", "no host"),
        ("http://a b/", "no host"),
        ("http://a%2eb/", "no host"),
        ("http://*/", "no host"),
        ("http://a\\b/", "no host"),
        ("http://[fe80::1%25lo]/", "no host"),
        ("http://[::1/", "Invalid"),
        ("http://example.org:0/", "port 0"),
        ("http://example.org:65536/", "port 65536"),
        ("http://example.org:http/", "Invalid port"),
        ("http://example.org/\r\nX: y", "control character"),
        ("http://example.org/\x00", "control character"),
        ("http://example.org/\udc80", "half a character"),
        ("http://user@example.org/", "user or password"),
    ],
)
def test_another_form_is_refused_with_what_is_wrong(url, says):
    with pytest.raises(ClipRejectedError, match=says) as caught:
        Policy().check_url(url)
    assert caught.value.reason == "refused"


@pytest.mark.parametrize(
    "url", ["http://u:hunter2@h/", "http://u:hunter2/@h/", "http://u:hunter2@h:x/", "u:hunter2@h"]
)
def test_a_password_in_a_url_is_refused_and_not_shown(url):
    with pytest.raises(ClipRejectedError) as caught:
        Policy().check_url(url)
    assert "hunter2" not in str(caught.value)


# which addresses

_PRIVATE = [
    "127.0.0.1",
    "127.8.9.1",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.100.100.200",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "168.63.129.16",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fec0::1",
    "fd00:ec2::254",
    "ff02::1",
    "2001:db8::1",
    "3fff::1",
    "100::1",
    "5f00::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::8.8.8.8",
    "2002:7f00:1::",
    "2002:808:808::",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
]
_PUBLIC = ["93.184.216.34", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", _PRIVATE)
def test_an_address_that_is_not_public_is_refused(address):
    with pytest.raises(ClipRejectedError, match=f"not a public address.*{MIRRORS}") as caught:
        Policy().resolve(address, 80)
    assert caught.value.reason == "refused"
    assert _reason(Policy().check_target, address, 80) == "refused"


@pytest.mark.parametrize("address", _PUBLIC)
def test_a_public_address_is_allowed(address):
    assert Policy().resolve(address, 443) == [address]
    Policy().check_target(address, 443)


_SPELLINGS = [
    "127.1", "0x7f.1", "0x7f000001", "2130706433", "017700000001", "0177.0.0.1", "127.0.0.1.", "0",
    "[::1]", "[::ffff:127.0.0.1]", "[0:0:0:0:0:0:0:1]", "localhost", "LOCALHOST", "localhost.",
    "１２７.0.0.1", "ｌｏｃａｌｈｏｓｔ",
]  # fmt: skip


@pytest.mark.parametrize("host", _SPELLINGS)
def test_no_spelling_of_this_machine_is_connected_to(server, host):
    with _client() as client:
        url = f"http://{host}:{server.server_port}/"
        reasons = set()
        try:
            client.get(url)
        except ClipRejectedError as error:
            reasons.add(error.reason)
        except httpx.InvalidURL:
            reasons.add("refused")
    assert reasons == {"refused"}
    assert server.asked == []


def test_a_name_that_leads_nowhere_is_a_connection_failure():
    with pytest.raises(ClipRejectedError, match=r"^nowhere\.invalid cannot be found: ") as caught:
        Policy().resolve("nowhere.invalid", 80)
    assert caught.value.reason == "connection"


@pytest.mark.parametrize("host", ["", "a..b", "x" * 70 + ".org", "a/b", "localhost\0.com", "a b"])
def test_what_can_be_no_host_is_refused(host):
    assert _reason(Policy().resolve, host, 80) == "refused"


def test_a_name_is_reached_at_its_public_addresses_only(names):
    names["mixed.example"] = [["127.0.0.1", "93.184.216.34", "10.0.0.1", "93.184.216.34"]]
    assert Policy().resolve("mixed.example", 80) == ["93.184.216.34"]


def test_a_proxy_is_not_asked_for_a_name_that_may_lead_inside(names):
    names["mixed.example"] = [["93.184.216.34", "10.0.0.1"]]
    with pytest.raises(ClipRejectedError, match=r"mixed\.example leads to 10\.0\.0\.1"):
        Policy().check_target("mixed.example", 80)
    Policy().check_target("nowhere.invalid", 80)


# mirrors


@pytest.mark.parametrize("mirror", ["127.0.0.1", "127.0.0.0/8", "localhost", "LocalHost."])
def test_a_mirror_is_reached(server, mirror):
    host = "localhost" if "ocal" in mirror else "127.0.0.1"
    with _client(mirror) as client:
        answer = client.get(f"http://{host}:{server.server_port}/a.mp4")
    assert answer.content == b"hello"
    assert server.asked[0][1]["User-Agent"] == f"mssync/{__version__}"


def test_an_allowed_address_does_not_allow_its_neighbours():
    policy = Policy(("127.0.0.1", "10.1.0.0/16", "mirror.example"))
    assert _reason(policy.resolve, "127.0.0.2", 80) == "refused"
    assert _reason(policy.resolve, "10.2.0.1", 80) == "refused"
    assert _reason(policy.resolve, "169.254.169.254", 80) == "refused"
    assert policy.resolve("10.1.255.1", 80) == ["10.1.255.1"]
    assert policy.resolve("::ffff:127.0.0.1", 80) == ["::ffff:127.0.0.1"]


def test_a_mirror_s_name_does_not_allow_its_subdomains(names):
    names["mirror.example"] = names["sub.mirror.example"] = [["10.0.0.1"]]
    policy = Policy(("mirror.example",))
    assert policy.resolve("Mirror.Example.", 80) == ["10.0.0.1"]
    assert _reason(policy.resolve, "sub.mirror.example", 80) == "refused"


def test_mirrors_are_read_from_the_environment():
    policy = Policy.from_environment({MIRRORS: " 127.0.0.1, [::1] ,bücher.example,10.0.0.0/8,"})
    assert policy.mirrors == ("127.0.0.1", "[::1]", "bücher.example", "10.0.0.0/8")
    for host in ("127.0.0.1", "::1", "xn--bcher-kva.example", "10.9.9.9"):
        assert policy.is_mirror(host)
    assert not policy.is_mirror("example.org")
    assert Policy.from_environment({}) == Policy()


@pytest.mark.parametrize(
    "entry",
    ["http://mirror.lan", "mirror.lan:8000", "127.0.0.1:80", "10.1.2.3/8", "127.1", "2130706433",
     "0x7f.0x1", "a b", "*.lan", "u@h", "", "[::1]:80", "a..b"],
)  # fmt: skip
def test_an_entry_that_is_no_mirror_is_said(entry):
    with pytest.raises(InputError, match=MIRRORS):
        Policy((entry,))


def test_a_policy_travels_between_processes():
    policy = pickle.loads(pickle.dumps(Policy(("10.0.0.0/8",))))
    assert policy.resolve("10.0.0.1", 80) == ["10.0.0.1"]


# connecting


def test_a_name_that_changes_between_check_and_connection_is_not_followed(server, names):
    names["rebind.example"] = [["93.184.216.34"], ["127.0.0.1"]]
    Policy().resolve("rebind.example", 80)
    with _client() as client:
        url = f"http://rebind.example:{server.server_port}/"
        assert _reason(client.get, url) == "refused"
    assert server.asked == []


def test_the_address_that_was_checked_is_the_one_connected_to(server, names):
    names["rebind.example"] = [["127.0.0.2"], ["127.0.0.1"]]
    with _serving("127.0.0.2", server.server_port) as mirror, _client("127.0.0.2") as client:
        client.get(f"http://rebind.example:{server.server_port}/")
    assert [path for path, *_ in mirror.asked] == ["/"]
    assert mirror.asked[0][1]["Host"] == f"rebind.example:{server.server_port}"
    assert server.asked == []


def test_the_next_address_is_tried_when_one_does_not_answer(server, names):
    names["two.example"] = [["127.0.0.3", "127.0.0.1"]]
    with _client("127.0.0.0/8") as client:
        assert client.get(f"http://two.example:{server.server_port}/").content == b"hello"


def test_a_mirror_that_is_down_is_a_failure_of_the_connection():
    with socket.socket() as taken, _client("127.0.0.1") as client:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(httpx.ConnectError, match="refused"):
            client.get(f"http://127.0.0.1:{taken.getsockname()[1]}/")


@pytest.mark.parametrize(
    "target", ["http://169.254.169.254/latest/", "http://127.0.0.2/", "http://[::1]/", "file:///x"]
)
def test_a_redirect_is_checked_like_any_request(server, target):
    with _client("127.0.0.1") as client:
        answer = client.get(f"http://127.0.0.1:{server.server_port}/to?{target}")
        assert answer.status_code == 302
        assert _reason(client.get, answer.headers["Location"]) == "refused"
        assert _reason(client.send, answer.next_request) == "refused"


def test_a_connection_is_used_again(server):
    with _client("127.0.0.1") as client:
        for _ in range(3):
            client.get(f"http://127.0.0.1:{server.server_port}/")
    assert len({client_address for *_, client_address in server.asked}) == 1


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for localhost and media.example, signed by its own key."""
    file = tmp_path_factory.mktemp("tls") / "certificate.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.DNSName("media.example"),
             x509.IPAddress(ipaddress.ip_address("127.0.0.9"))]  # fmt: skip
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return file


@pytest.fixture
def tls(certificate):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    context.asked_names = []
    context.sni_callback = lambda _socket, name, _context: context.asked_names.append(name)
    with _serving(context=context) as server:
        server.asked_names = context.asked_names
        yield server


def test_tls_is_verified_for_the_name_and_not_the_address(tls, certificate, names, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    names["media.example"] = names["other.example"] = [["127.0.0.1"]]
    with _client("127.0.0.1", "localhost") as client:
        for host in ("media.example", "localhost"):
            assert client.get(f"https://{host}:{tls.server_port}/").content == b"hello"
        with pytest.raises(httpx.ConnectError, match="Hostname mismatch"):
            client.get(f"https://other.example:{tls.server_port}/")
    assert tls.asked_names == ["media.example", "localhost", "other.example"]


def test_a_certificate_nobody_vouches_for_is_refused(tls):
    with _client("localhost") as client, pytest.raises(httpx.ConnectError, match="CERTIFICATE"):
        client.get(f"https://localhost:{tls.server_port}/")
    assert tls.asked == []


# proxies


def test_everything_goes_through_the_operator_s_proxy_after_a_check(server, names):
    names["media.example"] = [["93.184.216.34"]]
    proxy = f"http://ada:pass%20word@127.0.0.1:{server.server_port}"
    with _client(proxy=proxy) as client:
        client.get("http://media.example/a.mp4")
        client.get("http://nowhere.invalid/b.mp4")
        for target in ("169.254.169.254", "localhost", "127.1", "[::ffff:10.0.0.1]"):
            assert _reason(client.get, f"http://{target}/") == "refused"
            assert _reason(client.get, f"https://{target}/") == "refused"
    paths = [path for path, *_ in server.asked]
    assert paths == ["http://media.example/a.mp4", "http://nowhere.invalid/b.mp4"]
    assert server.asked[0][1]["Proxy-Authorization"] == "Basic YWRhOnBhc3Mgd29yZA=="


@pytest.mark.parametrize("proxy", ["socks5://u:hunter2@h:1", "h:1", "http://", "http://u:hunter2@",
                                   "http://u:hunter2/@h", "https://h"])  # fmt: skip
def test_a_proxy_that_is_not_understood_is_said_without_its_password(proxy):
    with pytest.raises(InputError) as caught:
        make_client(Policy(), timeout_s=1.0, connections=1, proxy=proxy)
    assert "hunter2" not in str(caught.value)


def test_proxies_of_the_environment_are_not_used_unless_given(server, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with _client("127.0.0.1") as client:
        assert client.get(f"http://127.0.0.1:{server.server_port}/").content == b"hello"


def test_the_environment_may_name_the_proxy():
    assert environment_proxy({}) == ""
    assert environment_proxy({"https_proxy": "proxy.lan:3128"}) == "http://proxy.lan:3128"
    names = {"http_proxy": "http://one.lan", "HTTPS_PROXY": "http://u:p@other.lan:3128"}
    assert environment_proxy(names) == "http://u:p@other.lan:3128"


def test_mirrors_and_exceptions_are_asked_past_the_proxy(server, names, monkeypatch):
    monkeypatch.setenv("no_proxy", "inside.example")
    names["inside.example"] = [["93.184.216.34"]]
    policy = Policy(("10.0.0.0/8", "mirror.lan"))
    for direct in ("inside.example", "a.inside.example", "10.1.1.1", "mirror.lan", "localhost"):
        assert goes_direct(f"http://{direct}:8000/x", policy)
    assert not goes_direct("http://example.org/x", policy)
    with _client("127.0.0.1", proxy="http://127.0.0.1:9") as client:
        assert client.get(f"http://127.0.0.1:{server.server_port}/").content == b"hello"
