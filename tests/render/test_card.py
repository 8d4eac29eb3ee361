import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from mssync.render.card import Card, Distribution, Table, write


@pytest.fixture
def card():
    rng = np.random.default_rng(0)
    return Card(
        revision="ab" * 32,
        summary="Three clips & <two> people.",
        tables=[
            Table("Splits", ("split", "clips"), [("train", 2), ("val", 1)]),
            Table("Languages", ("language", "clips"), [("a|b\\c", 3)]),
        ],
        distributions=[
            Distribution("yaw", "Turn, degrees", [*rng.normal(10, 3, 200), float("nan")]),
            Distribution("same", "Always the same", [5.0] * 10),
            Distribution("none", "Never known", [float("nan")] * 3),
        ],
        facts={"splits": {"train": {"clips": 2}}},
    )


class Page(HTMLParser):
    """Which elements there are, and that each is closed."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_markdown_has_every_table_and_picture(card, tmp_path):
    write(tmp_path, card)
    text = (tmp_path / "card.md").read_text()
    assert "| split | clips |\n|---|---|\n| train | 2 |" in text
    assert "a\\|b\\\\c" in text
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert pictures == ["yaw.svg", "same.svg"]
    assert all((tmp_path / name).exists() for name in pictures)


def test_the_page_is_whole_and_loads_nothing(card, tmp_path):
    write(tmp_path, card)
    source = (tmp_path / "card.html").read_text()
    page = Page()
    page.feed(source)
    assert page.open == []
    assert page.seen.count("svg") == 2
    assert page.seen.count("table") == 2
    assert "Three clips &amp; &lt;two&gt; people." in source
    assert not re.search(r"(src|href)=\"(?!data:)", source)


def test_numbers_are_those_of_the_clips(card, tmp_path):
    write(tmp_path, card)
    told = json.loads((tmp_path / "card.json").read_text())
    values = np.asarray(card.distributions[0].values[:-1])
    found = told["distributions"]["yaw"]
    assert found["clips"] == 200
    assert found["median"] == pytest.approx(np.median(values), abs=1e-4)
    assert found["p95"] == pytest.approx(np.quantile(values, 0.95), abs=1e-4)
    assert set(told["distributions"]) == {"yaw", "same"}
    assert told["splits"] == {"train": {"clips": 2}}


def test_every_clip_is_in_a_bar(card, tmp_path):
    write(tmp_path, card)
    picture = (tmp_path / "yaw.svg").read_text()
    heights = [float(h) for h in re.findall(r'class="bar"[^>]*height="([\d.]+)"', picture)]
    highest = int(re.search(r">(\d+) clips<", picture)[1])
    assert sum(heights) / max(heights) * highest == pytest.approx(200, rel=0.02)


def test_the_same_card_is_the_same_to_the_byte_and_old_pictures_go(card, tmp_path):
    (tmp_path / "old.svg").write_text("")
    write(tmp_path, card)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write(tmp_path, card)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert "old.svg" not in before
