"""Rows: verdicts from inequalities, JSON there and back, texts."""

import itertools
import json

import pytest


@pytest.mark.parametrize(
    ("figures", "verdict"),
    [
        ({}, ""),
        ({"peer": "p", "ratio": 3.0}, ""),
        ({"peer": "p", "ratio": 3.0, "target": 3.0}, "met"),
        ({"peer": "p", "ratio": 2.9, "target": 3.0}, "missed"),
        ({"peer": "p", "ratio": 2.9, "target": 3.0, "relation": "<="}, "met"),
        ({"peer": "p", "ratio": None, "target": 3.0}, "missed"),
        ({"peer": "p", "ratio": 9.0, "ours": 0.0, "target": 3.0}, "met"),  # with a peer the ratio counts
        ({"ours": 0.5, "target": 1.0, "relation": "<="}, "met"),  # alone, the figure itself
        ({"ours": 1.5, "target": 1.0, "relation": "<="}, "missed"),
        ({"peer": "p", "ratio": 9.0, "tolerance": 1e-6, "difference": 1e-7}, "met"),
        ({"peer": "p", "ratio": 9.0, "tolerance": 1e-6, "difference": 1e-5}, "missed"),
        ({"peer": "p", "ratio": 9.0, "tolerance": 1e-6, "difference": None}, "missed"),
        ({"peer": "p", "target": 3.0, "skipped": "not installed"}, "not run"),
    ],
    ids=itertools.count(),
)
def test_verdict(rows, figures, verdict):
    assert rows.Row(what="w", **figures).verdict == verdict


def record(module, script="a", **more):
    found = (
        module.Row(
            what="x", peer="p", version="1.0", ours=1e-3, theirs=2.0, ratio=2e3, low=1.0, high=3e3, turns=3
        ),
        module.Row(what="y", unit="MiB", ours=3.5, target=4.0, relation="<=", note="alone"),
        module.Row(what="z", peer="q", target=2.0, skipped="not here"),
    )
    fields = {"rows": found, "date": "2026-01-31", "seconds": 1.5, "environment": {"cores": "2"}}
    return module.Record(script=script, **{**fields, **more})


def test_json_there_and_back(rows, tmp_path):
    records = {
        "a": record(rows),
        "b": record(rows, "b", rows=(), error="it stopped"),
        "c": record(rows, "c", shared=True),
    }
    path = tmp_path / "results.json"
    path.write_text(rows.records_text(dict(reversed(records.items()))), encoding="utf-8")
    assert rows.read_records(path) == records
    assert rows.records_text(records) == path.read_text(encoding="utf-8")  # whatever the order
    assert "skipped" not in json.loads(path.read_text(encoding="utf-8"))["scripts"][0]["rows"][0]


def test_no_file_holds_nothing(rows, tmp_path):
    assert rows.read_records(tmp_path / "nowhere.json") == {}


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"format": 2, "scripts": []}', '{"format": 1, "scripts": [{"script": "a"}]}'],
    ids=itertools.count(),
)
def test_another_file_is_named(rows, tmp_path, text):
    path = tmp_path / "results.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"results\.json does not hold benchmark results"):
        rows.read_records(path)


def test_cells_show_units_spread_and_reasons(rows):
    first, second, third = (row.cells() for row in record(rows).rows)
    assert (first["ours"], first["theirs"], first["ratio"], first["spread"]) == (
        "1 ms",
        "2 s",
        "2,000",
        "1–3,000",
    )
    assert (first["peer"], first["target"], first["verdict"]) == ("p 1.0", "", "")
    assert (second["ours"], second["target"], second["verdict"]) == ("3.5 MiB", "≤ 4 MiB", "met")
    assert (second["ratio"], second["spread"], second["remark"]) == ("", "", "alone")
    assert (third["target"], third["verdict"], third["remark"]) == ("≥ 2", "not run", "not here")


def test_agreement_alone_is_no_victory(rows):
    row = rows.Row(what="w", peer="p", ratio=0.5, tolerance=1e-6, difference=0.0)
    assert (row.verdict, row.cells()["verdict"]) == ("met", "same values")


def test_table_has_a_line_for_each_row_in_columns(rows):
    lines = rows.table(record(rows).rows).splitlines()
    assert len(lines) == 4
    assert lines[0].split() == list(rows.COLUMNS)
    column = lines[0].index("verdict")
    assert [line[column:].split("  ")[0].strip() for line in lines[2:]] == ["met", "not run"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(2.5, "2.5 s"), (0.0314, "31.4 ms"), (4.2e-6, "4.2 µs"), (1e-8, "0.01 µs")]
)
def test_short_times_have_short_units(rows, seconds, text):
    assert rows.quantity_text(seconds, "s") == text


@pytest.mark.parametrize(
    ("message", "plain"),
    [
        ("no module named x", "no module named x"),
        ("cannot import name 'a' from 'b' (/usr/lib/site-packages/b.py)", "cannot import name 'a' from 'b'"),
        ("cannot open\n /home/somebody/data.csv now", "cannot open now"),
        ("3 of 4 / 5 and n/a stay", "3 of 4 / 5 and n/a stay"),
    ],
    ids=itertools.count(),
)
def test_messages_lose_the_folders_of_the_machine(rows, message, plain):
    assert rows.without_paths(message) == plain
