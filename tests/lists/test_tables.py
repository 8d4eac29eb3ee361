"""Rows of a list, whatever its format."""

import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mssync.errors import InputError
from mssync.lists.tables import header, read_rows


def test_every_format_gives_the_same_rows(tmp_path):
    wanted = [{"source": "a, b.mp4", "start_s": "1.5", "n": "3", "tags": "x,y", "none": ""},
              {"source": "é", "start_s": "", "n": "", "tags": "", "none": ""}]  # fmt: skip
    (tmp_path / "a.csv").write_text(
        '\ufeffsource, start_s,n,tags,none\n"a, b.mp4",1.5 ,3,"x,y"\n\né\n', encoding="utf-8"
    )
    (tmp_path / "a.TSV").write_text(
        "source\tstart_s\tn\ttags\tnone\na, b.mp4\t1.5\t3\tx,y\né\n", encoding="utf-8"
    )
    (tmp_path / "a.jsonl").write_text(
        '{"source": "a, b.mp4", "start_s": 1.5, "n": 3, "tags": ["x", "y"], "none": null}\n\n'
        '{"source": "\\u00e9", "start_s": null, "n": NaN, "tags": [], "none": ""}\n'
    )
    table = {"source": ["a, b.mp4", "é"], "start_s": [1.5, float("nan")], "n": [3, None],
             "tags": [["x", "y"], None], "none": pa.nulls(2)}  # fmt: skip
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    numbers = {"a.csv": [2, 4], "a.TSV": [2, 3], "a.jsonl": [1, 3], "a.parquet": [1, 2]}
    for name, expected in numbers.items():
        rows = list(read_rows(tmp_path / name))
        assert [row for _, row in rows] == wanted, name
        assert [number for number, _ in rows] == expected, name
        assert header(tmp_path / name) == list(wanted[0]), name
        assert next(row for _, row in read_rows(tmp_path / name, columns=["n"])) == {"n": "3"}


def test_a_cell_may_go_over_lines_and_the_next_row_is_still_found(tmp_path):
    (tmp_path / "a.csv").write_text('source\n"a\nb"\nc\n')
    assert list(read_rows(tmp_path / "a.csv")) == [(3, {"source": "a\nb"}), (4, {"source": "c"})]


WRONG = [
    ("a.txt", b"source\n", r"a\.txt: the name of a list ends in \.csv, .* found \.txt: rename"),
    ("list", b"source\n", "found no ending"),
    ("a.csv", b"", "is empty, expected a header such as source"),
    ("a.csv", b"source,source\na,b\n", "has the column source twice"),
    ("a.csv", b"source,n\na.mp4,1\na, b.mp4,1\n", "row 3: 3 cells under a header of 2: put quotes"),
    ("a.csv", b"source\na\n\xff\n", "cannot be read as comma-separated UTF-8"),
    ("a.csv", b"source\n" + b"a" * 200_000, "cannot be read as comma-separated UTF-8: field lar"),
    ("a.jsonl", b'{"source": "a"}\n{"source": \n', "row 2: expected one JSON object a line, found"),
    ("a.jsonl", b'["a"]\n', "found a list: write the list's items one a line"),
    ("a.jsonl", b'{"source": "a"}\n{"source": "\\ud800"}\n', "cannot be read as JSON lines UTF-8"),
    ("a.jsonl", b"[" * 100_000, "row 1: expected one JSON object a line"),
    ("a.parquet", b"PAR1 is not enough", "cannot be read as Parquet"),
    ("a.parquet", b"", "cannot be read as Parquet"),
]


@pytest.mark.parametrize(("name", "content", "message"), WRONG)
def test_a_list_that_cannot_be_read_says_why(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        list(read_rows(tmp_path / name))


def test_a_missing_list_and_a_folder_say_what_to_do(tmp_path):
    with pytest.raises(InputError, match=r"none\.csv does not exist: name an existing list"):
        list(read_rows(tmp_path / "none.csv"))
    with pytest.raises(InputError, match=r"is a folder, .* `mssync import-sources folder"):
        list(read_rows(tmp_path))


READ = """
import resource, sys
from pathlib import Path
from mssync.lists.sources import read_sources
from mssync.shards import cut
path, short = map(Path, sys.argv[1:3])
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
list(read_sources(short, base=""))
cut(short, path.parent / "warm", 8, base="")
before = peak()
print(sum(1 for _ in read_sources(path, base="")))
if path.suffix == ".csv": cut(path, path.parent / "out", 8, base="")
print(peak() - before)
"""
ROWS = 200_000


@pytest.mark.parametrize("name", ["long.csv", "long.parquet"])
def test_memory_does_not_grow_with_the_list(tmp_path, name):
    (tmp_path / "short.csv").write_text("source,speaker_id\na.mp4,a\n")
    rows = [(f"folder/video_{n}.mp4", f"speaker_{n % 97}", n % 9) for n in range(ROWS)]
    if name == "long.csv":
        lines = [f"{source},{speaker},{start}.25\n" for source, speaker, start in rows]
        (tmp_path / name).write_text("source,speaker_id,start_s\n" + "".join(lines))
    else:
        columns = dict(
            zip(("source", "speaker_id", "start_s"), zip(*rows, strict=True), strict=True)
        )
        pq.write_table(pa.table(columns), tmp_path / name, row_group_size=20_000)
    command = [sys.executable, "-c", READ, tmp_path / name, tmp_path / "short.csv"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    count, grown_kib = map(int, result.stdout.split())
    assert count == ROWS
    # as a list of objects they would take 100 MiB
    assert grown_kib < 24 * 1024
