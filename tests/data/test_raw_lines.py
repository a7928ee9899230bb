import ast
import gzip
import json
import string
import warnings
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prismrec.data import raw_lines
from prismrec.data.raw_catalogue import TEXT as LONGEST_TEXT
from prismrec.data.raw_catalogue import identity, number, plain
from prismrec.data.raw_lines import Reading, loose, records, rows
from prismrec.errors import PrismError

TEXT = st.text(alphabet=string.printable + "é’🙂\\'\"\x00", max_size=20)
VALUES = st.recursive(
    TEXT
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
    | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture
def reading(tmp_path):
    return Reading(tmp_path / "blocks")


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(TEXT, VALUES, max_size=5))
def test_literals_of_python_are_read_as_python_reads_them(value):
    assert loose(repr(value)) == value
    assert loose(ascii(value)) == value


@pytest.mark.parametrize(
    "text",
    [
        r"{'a': 'caf\xe9 \u2019 \U0001f642 \101 \'q\' \"d\" \\ \n\t'}",
        "{'a': \"it's\"}",
        r"{'a': u'b', 'c': '\q'}",
        "{'True': True, 'None': None, 'x': [False]}",
    ],
)
def test_escapes_are_those_of_python(text):
    with warnings.catch_warnings(action="ignore"):
        expected = ast.literal_eval(text)
    assert loose(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "{'a': open('x')}",
        "{'a': 'b'",
        "[" * 100_000,
        "{'a': " * 10_000,
        "{'a': lambda: 1}",
        r"{'a': '\U99999999'}",
        "{'a': " + "9" * 10_000 + "}",
        "{'a': 'b' * 10**9}",
    ],
)
def test_what_is_no_literal_is_refused_and_never_run(text):
    with pytest.raises((ValueError, RecursionError)):
        loose(text)


@pytest.mark.parametrize("pack", ["plain", "gzip", "zst", "two members"])
def test_files_are_unpacked_by_what_they_hold_not_by_their_name(pack, tmp_path, reading):
    text = b'\xef\xbb\xbf{"a": 1}\r\n\n{"a": 2}\n{"a": 3}'
    if pack == "zst":
        text = pytest.importorskip("zstandard", reason="needs the extra zst").compress(text)
    elif pack != "plain":
        half = len(text) // 2
        text = gzip.compress(text[:half]) + gzip.compress(text[half:]) if "two" in pack else gzip.compress(text)
    (tmp_path / "x.json").write_bytes(text)
    assert [(n, found["a"]) for n, found in records(tmp_path / "x.json", reading)] == [(1, 1), (3, 2), (4, 3)]


def test_bad_lines_are_left_out_and_counted(tmp_path, reading, monkeypatch):
    monkeypatch.setattr(raw_lines, "LONGEST", 3000)
    monkeypatch.setattr(raw_lines, "_BLOCK", 64)
    good = [json.dumps({"text": t}) for t in ("é", "🙂", "tab\there", "x" * 500, "last")]
    bad = ["{broken", "[1, 2]", '"text"', "", "y" * 5000, "\xff\xfe"]
    lines = [text for pair in zip(good, bad, strict=False) for text in pair] + bad[5:]
    path = tmp_path / "x.json"
    path.write_bytes(b"\n".join(t.encode("latin-1" if t == "\xff\xfe" else "utf-8") for t in lines))
    assert [found["text"] for _, found in records(path, reading)] == ["é", "🙂", "tab\there", "x" * 500, "last"]
    found = reading.tally.found["x.json"]
    assert found["records"] == 5 and found["no record of JSON"] == 4 and found["longer than a line can be"] == 1
    assert reading.tally.first["x.json"].startswith("line 2: no record of JSON: '{broken'")


def test_latin_1_is_read_where_a_line_is_no_utf_8(tmp_path, reading):
    (tmp_path / "x").write_bytes("1|Misérables\n2|Amélie\n".encode("latin-1") + "3|Amélie\n".encode())
    assert [fields[1] for _, fields in rows(tmp_path / "x", reading, "|")] == ["Misérables", "Amélie", "Amélie"]


def test_a_file_of_another_kind_is_refused_with_its_first_line(tmp_path, reading):
    (tmp_path / "x").write_text("user,item\n1,2\n")
    with pytest.raises(PrismError, match=r"2 of 2 lines .*the first: 'user,item'"):
        list(records(tmp_path / "x", reading))


@pytest.mark.parametrize("pack", ["gzip", "zst"])
def test_half_a_file_is_no_file(pack, tmp_path, reading):
    text = b"".join(b'{"a": "%d"}\n' % n for n in range(40_000))
    packed = gzip.compress(text) if pack == "gzip" else pytest.importorskip("zstandard").compress(text)
    (tmp_path / "x").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(PrismError, match=r"cut short or damaged after line \d"):
        list(records(tmp_path / "x", reading))
    (tmp_path / "x").write_bytes(packed[:40] + b"\0\xff" * 40 + packed[120:])
    with pytest.raises(PrismError, match="cut short or damaged"):
        list(records(tmp_path / "x", reading))


def test_missing_files_and_archives_are_refused_in_a_sentence(tmp_path, reading):
    with pytest.raises(PrismError, match="There is no file"):
        list(records(tmp_path / "no", reading))
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04" + bytes(20))
    with pytest.raises(PrismError, match="zip archive; unpack it"):
        list(records(tmp_path / "x.zip", reading))


def test_rows_of_another_width_are_counted(tmp_path, reading):
    (tmp_path / "x.csv").write_text('a,b\n1,"x, ""y""\nz"\n2\n3,4,5\n6,7\n\n8,9\n')
    assert [fields for _, fields in rows(tmp_path / "x.csv", reading, ",", header=True)] == [
        ["a", "b"], ["1", 'x, "y"\nz'], ["6", "7"], ["8", "9"],
    ]  # fmt: skip
    assert reading.tally.found["x.csv"] == {"not of 2 fields": 2, "rows": 3}


def test_a_quote_that_is_never_closed_costs_what_a_field_may_hold_and_no_more(tmp_path, reading):
    lines = ["a,b", '1,"open', *(f"{n},{n}" for n in range(30_000))]
    (tmp_path / "x.csv").write_text("\n".join(lines))
    read = list(rows(tmp_path / "x.csv", reading, ",", header=True))
    assert len(read) > 10_000 and read[-1][1] == ["29999", "29999"]


def test_progress_is_told_in_bytes_of_the_file(tmp_path):
    told = []
    (tmp_path / "x").write_bytes(gzip.compress(b'{"a": 1}\n' * 120_000))
    list(records(tmp_path / "x", Reading(tmp_path, watch=lambda path, done, of: told.append((done, of)))))
    size = (tmp_path / "x").stat().st_size
    assert told[-1] == (size, size), told
    assert all(a[0] <= b[0] <= size for a, b in pairwise(told))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("  A <b>bold</b>\n move &amp; more ", "A bold move & more"),
        ("a < b and c > d", "a < b and c > d"),
        ("&lt;p&gt;twice&lt;/p&gt;", "twice"),
        (["one", "", None, ["two", 3]], "one, two, 3"),
        ("half \ud83d", "half ?"),
        ("x" * 30_000, "x" * LONGEST_TEXT),
        ("", None), ("  ", None), (None, None), ([], None), ({"a": 1}, None),
    ],
)  # fmt: skip
def test_texts_are_as_people_read_them(value, said):
    assert plain(value) == said


def test_numbers_and_ids():
    assert [number(v) for v in ("$1,234.50", 3, "x", None, "nan", float("inf"), [1])] == [1234.5, 3, *[None] * 5]
    known = [identity(v) for v in (" B01 ", 7, 7.0, "", None, 1.5, True, "\ud83d")]
    assert known == ["B01", "7", "7", None, None, None, None, "?"]
