"""One taxonomy: every code that is raised is in it, and the documentation shows it."""

import ast

import pytest

from mssync.errors import ClipRejectedError
from mssync.reasons import DATASET, DOWNLOAD, EXTRACTION, REASONS


@pytest.mark.parametrize(("code", "reason"), REASONS.items())
def test_every_reason_is_documented_as_it_is(root, code, reason):
    again = {"now": "in the run, and in later ones", "later": "in later runs", "never": "no"}
    row = f"| `{code}` | {reason.meaning} |"
    if code in DOWNLOAD:
        row += f" {again[reason.again]} |"
    assert row in (root / "docs" / "data.md").read_text().splitlines()


def test_a_code_means_one_thing():
    assert len(DOWNLOAD) + len(EXTRACTION) + len(DATASET) == len(REASONS)


def test_every_reason_is_used_somewhere(root):
    """A code that nothing raises is a promise that nobody keeps."""
    package = root / "src" / "mssync"
    words = {
        node.value
        for file in package.rglob("*.py")
        if file.name != "reasons.py"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert sorted(set(REASONS) - words) == []


def test_an_unknown_code_is_a_bug():
    with pytest.raises(AssertionError):
        ClipRejectedError("no_such_reason", "")
