"""Headers by which servers ask not to be used for training."""

from http.client import HTTPMessage

import httpx
import pytest

from mssync.download import optout
from mssync.errors import ClipRejectedError


def refusal(headers, **options):
    """What the refusal says; None where there is none."""
    try:
        optout.check(headers, **options)
    except ClipRejectedError as error:
        return f"{error.reason}: {error}"
    return None


@pytest.mark.parametrize(
    "value",
    [
        "noai",
        "NoImageAI",
        " noindex ,  noai ",
        "mssync: noai",
        "MSSYNC : noimageai",
        "*: noai",
        "otherbot: noindex, mssync: nofollow, noai",
        "unavailable_after: 25 Jun 2010 15:00:00 PST, noai",
        "unavailable_after: Wed, 25 Jun 2010 15:00:00 PST, noai",
        "max-snippet:10,max-image-preview:large,noai",
    ],
)
def test_a_request_not_to_train_is_honoured(value):
    said = refusal({"X-Robots-Tag": value})
    assert said.startswith("opt_out: ")
    assert value.strip() in said


@pytest.mark.parametrize(
    "value",
    ["", "all", "noindex, nofollow", "otherbot: noai", "otherbot: noindex, noai", "noaibot", ":,:"],
)
def test_what_asks_others_or_something_else_is_not_for_us(value):
    assert refusal({"X-Robots-Tag": value}) is None


def test_names_of_headers_are_known_in_any_case():
    assert refusal({"x-robots-tag": "noai"})
    assert refusal({"X-ROBOTS-TAG": "noai"})


def test_the_agent_can_be_named():
    assert refusal({"X-Robots-Tag": "crawler: noai"}, agent="Crawler")


def test_every_header_of_a_name_counts():
    headers = [("X-Robots-Tag", "otherbot: noindex"), ("X-Robots-Tag", "noai")]
    assert refusal(httpx.Headers(headers))
    message = HTTPMessage()
    for name, value in headers:
        message[name] = value
    assert refusal(message)


def test_the_agent_of_one_header_does_not_reach_into_the_next():
    headers = [("X-Robots-Tag", "mssync: noindex"), ("X-Robots-Tag", "otherbot: noai")]
    assert refusal(httpx.Headers(headers)) is None


@pytest.mark.parametrize(
    ("value", "refused"),
    [("1", True), (" 1 ", True), ("0, 1", True), ("0", False), ("", False), ("10", False)],
)
def test_a_reservation_of_text_and_data_mining_is_honoured(value, refused):
    assert bool(refusal({"tdm-reservation": value})) is refused


def test_other_headers_may_say_what_they_like():
    assert refusal({"X-Other": "noai", "TDM-Policy": "1"}) is None


def test_what_a_server_says_at_length_is_quoted_in_short():
    assert len(refusal({"X-Robots-Tag": "noai," + "x" * 10_000})) < 300
