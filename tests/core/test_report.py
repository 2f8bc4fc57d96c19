"""The report as text, frame, JSON, file and page."""

import base64
import hashlib
import html.parser
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_cases import LONG, NASTY, STATES, draw, make_report, outcome

from mlpapers.core._figure import INK, draw_svg
from mlpapers.core._html import render_page
from mlpapers.core._markup import Markup, cell_text, duration_text, element, number_text
from mlpapers.core._svg import embed_svg
from mlpapers.core._table import ClaimTable
from mlpapers.core.environment import describe_environment
from mlpapers.core.paper import Paper
from mlpapers.core.report import PaperInfo, Report
from mlpapers.core.result import ResultFormatError


@pytest.fixture(scope="module")
def report():
    return make_report()


@pytest.fixture(scope="module")
def page(report):
    return render_page(report)


def test_states_follow_from_measurements_and_declarations(report):
    assert {outcome.id: outcome.state for outcome in report.outcomes} == STATES
    assert report.counts() == {
        "holds": 2, "fails": 2, "error": 1, "unexpectedly holds": 1, "known miss": 1, "not run": 1
    }  # fmt: skip


@pytest.mark.parametrize(
    ("ends", "ok", "strict"),
    [
        ([{}], True, True),
        ([{}, {"value": 2.0}], False, False),
        ([{}, {"value": 2.0, "known_miss": "2"}], True, False),
        ([{}, {"known_miss": "2"}], False, False),
        ([{"measurements": (), "error": "E: e", "traceback": "t"}], False, False),
        ([{"measurements": (), "error": "E: e", "traceback": "t", "known_miss": "2"}], False, False),
        ([{"measurements": (), "missing": "needs cuda: none"}], True, True),
        ([], True, True),
    ],
)
def test_ok(ends, ok, strict):
    outcomes = tuple(outcome(f"c{i}", **fields) for i, fields in enumerate(ends))
    report = Report(outcomes=outcomes, scale="quick", seed=0, environment={})
    assert (report.ok(), report.ok(strict=True)) == (ok, strict)


def test_json_has_the_agreed_members_and_only_finite_numbers(report):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    records = json.loads(report.to_json(), parse_constant=refuse)
    assert [record["id"] for record in records] == list(STATES)
    by_id = {record["id"]: record for record in records}
    assert by_id["first-paper/miss"] == {
        "id": "first-paper/miss",
        "paper": "first-paper",
        "statement": "Statement of miss.",
        "holds": False,
        "reason": "distance = 2 m (target <= 1)",
        "known_miss": f"It is 2. {NASTY}",
        "seconds": 1.5,
        "measurements": [
            {"name": "distance", "value": 2.0, "relation": "<=", "target": 1.0, "unit": "m", "paper": 0.25}
        ],
    }
    assert by_id["first-paper/holds"]["reason"] is None
    assert by_id["second-paper/missing"]["holds"] is None
    assert by_id["second-paper/missing"]["reason"] == "needs cuda: no device"
    assert by_id["second-paper/odd"]["measurements"][0]["value"] is None
    assert by_id[f"second-paper/{LONG}"]["measurements"][0]["target"] == [0.0, None]


def test_frame_has_a_row_per_measurement_and_forgets_no_claim(report):
    frame = report.to_frame()
    assert set(frame["claim"]) == set(STATES)
    measured = frame.dropna(subset="measurement")
    assert len(measured) == sum(len(outcome.measurements) for outcome in report.outcomes)
    assert measured["holds"].tolist() == [m.holds for o in report.outcomes for m in o.measurements]
    interval = frame[frame["relation"] == "in"].iloc[0]
    assert (interval["target_low"], interval["target_high"]) == (0.0, math.inf)
    below = frame[frame["claim"] == "first-paper/holds"].iloc[0]
    assert math.isnan(below["target_low"])
    assert below["target_high"] == 1.0


def test_summary_counts_by_package_and_names_every_exception(report):
    lines = report.summary().splitlines()
    first = next(line for line in lines if line.startswith("mlpapers.first")).split()
    assert (first[1], first[-1]) == ("4", "6.0")
    total = next(line for line in lines if line.startswith("all")).split()
    assert total == ["all", "8", "2", "2", "1", "1", "1", "1", "10.5"]
    for claim_id, state in STATES.items():
        named = [line for line in lines if line.startswith(f"{state}: {claim_id}: ")]
        assert len(named) == (state != "holds")
    assert str(report) == report.summary()


def test_save_and_load_give_the_same_page(report, page, tmp_path):
    loaded = Report.load(report.save(tmp_path / "report.mlp"))
    assert loaded.to_json() == report.to_json()
    assert render_page(loaded) == page
    (tmp_path / "damaged.mlp").write_bytes(b"PK")
    with pytest.raises(ResultFormatError, match="damaged"):
        Report.load(tmp_path / "damaged.mlp")


def test_plot_has_a_bar_per_package_as_long_as_its_seconds(report):
    ax = report.plot()
    ends = {}
    for patch in ax.patches:
        row = round(patch.get_y() + patch.get_height() / 2)
        ends[row] = max(ends.get(row, 0.0), patch.get_x() + patch.get_width())
    assert list(ends.values()) == pytest.approx(list(report.seconds().values()))
    _, given_ax = plt.subplots()
    assert report.plot(given_ax, alpha=0.5) is given_ax
    plt.close("all")


def test_paper_info_prefers_the_preprint_and_falls_back_to_the_doi():
    facts = {"title": "T", "authors": ["A"], "year": 2024, "venue": "V", "package": "p", "summary": "S"}
    paper = Paper(key="k", arxiv="2401.1", doi="10.1/2", **facts)
    assert PaperInfo.of(paper).url == "https://arxiv.org/abs/2401.1"
    assert PaperInfo.of(Paper(key="k", doi="10.1/2", **facts)).url == "https://doi.org/10.1/2"
    assert PaperInfo.of(Paper(key="k", **facts)).url is None


class TestTable:
    def test_cells_are_plain_values_and_an_index_that_says_something_is_a_column(self):
        frame = pd.DataFrame(
            {
                "i": np.array([1, 2], dtype=np.int32),
                ("f", "g"): np.array([0.5, np.nan], dtype=np.float32),
                "b": [True, False],
                "t": [pd.Timestamp("2024-01-01"), pd.NaT],
                "o": [None, [1, 2]],
            }
        )
        table = ClaimTable.from_frame(frame)
        assert table.columns == ("i", "f / g", "b", "t", "o")
        assert table.rows[0] == (1, 0.5, True, "2024-01-01 00:00:00", None)
        assert table.rows[1][2:] == (False, None, "[1, 2]")
        assert {type(cell) for row in table.rows for cell in row} <= {int, float, bool, str, type(None)}
        indexed = ClaimTable.from_frame(frame.set_index("i", append=True))
        assert indexed.columns[:2] == ("", "i")
        assert indexed.rows[1][:2] == (1, 2)
        assert ClaimTable.from_frame(frame[["i"]]).to_frame()["i"].tolist() == [1, 2]

    def test_only_frames_are_tables(self):
        with pytest.raises(TypeError, match="table must be a pandas DataFrame; got list"):
            ClaimTable.from_frame([[1]])


class Outline(html.parser.HTMLParser):
    """Elements, ids, and everything that makes a browser load or run something."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.loads, self.handlers, self.links, self.open = [], [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.tags.append(tag)
        self.ids += [values["id"]] if "id" in values else []
        self.handlers += [name for name in values if name.startswith("on")]
        self.loads += [
            values[name] for name in ("src", "srcset", "data", "action", "poster") if name in values
        ]
        if tag in ("a", "link", "use", "image"):
            (self.links if tag == "a" else self.loads).append(values.get("href", "#"))
        if tag not in ("meta", "link", "input", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


class TestPage:
    def test_elements_are_closed_and_ids_are_unique(self, page):
        outline = Outline(page)
        assert outline.open == []
        assert len(set(outline.ids)) == len(outline.ids)

    def test_every_claim_and_paper_has_its_anchor(self, page):
        outline = Outline(page)
        assert set(STATES) | {"first-paper", "second-paper"} <= set(outline.ids)
        inside = [link[1:] for link in outline.links if link.startswith("#")]
        assert set(inside) <= set(outline.ids)

    def test_nothing_is_loaded_and_nothing_foreign_runs(self, page):
        outline = Outline(page)
        assert all(link.startswith(("#", "data:image/")) for link in outline.loads)
        assert outline.handlers == []
        assert outline.tags.count("script") == 1
        assert "@import" not in page
        assert not re.search(r"url\((?!#)", page)
        assert [link for link in outline.links if not link.startswith("#")] == [
            "https://arxiv.org/abs/2401.00001"
        ]

    def test_texts_are_escaped_wherever_they_come_from(self, page):
        assert NASTY not in page
        assert "onerror=alert(1)>" not in page
        # Statement, source, notes, known miss, traceback, title, environment, measurement, figure.
        assert page.count("&lt;script&gt;document.title") >= 9

    def test_content_security_policy_names_the_script_of_the_page(self, page):
        script = re.search(r"<script>(.*?)</script>", page, re.DOTALL).group(1)
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"script-src 'sha256-{digest}'" in page
        assert "default-src 'none'" in page

    def test_the_same_report_is_the_same_page(self, page):
        assert render_page(make_report()) == page

    def test_numbers_targets_and_stated_figures_are_shown(self, page):
        text = re.sub(r"<[^>]+>", " ", page)
        assert re.search(r"distance\s+2\s+m\s+≤ 1\s+0\.25", text)
        assert "NaN" in text
        assert "in [0, ∞]" in text
        assert "needs cuda: no device" in text

    def test_long_tables_are_cut_and_say_so(self):
        rows = tuple((f"row {i}.",) for i in range(250))
        long = outcome("long", table=ClaimTable(("name",), rows))
        text = render_page(Report(outcomes=(long,), scale="quick", seed=0, environment={}))
        assert "row 199." in text
        assert "row 200." not in text
        assert "The first 200 of 250 rows" in text

    def test_an_empty_report_is_a_page(self):
        outline = Outline(render_page(Report(outcomes=(), scale="quick", seed=0, environment={})))
        assert outline.open == []
        assert "article" not in outline.tags

    def test_write_html_replaces_the_page_as_a_whole(self, report, page, tmp_path):
        path = tmp_path / "index.html"
        path.write_text("old")
        assert report.write_html(path) == path
        assert path.read_text(encoding="utf-8") == page
        assert [entry.name for entry in tmp_path.iterdir()] == ["index.html"]

    def test_notebook_table_escapes_too(self, report):
        text = report._repr_html_()
        assert Outline(text).tags.count("tr") == 3
        assert "<script" not in text


class TestMarkup:
    @given(st.text(), st.text())
    def test_text_and_attributes_come_back_from_a_parser(self, text, title):
        found = {}

        class Reader(html.parser.HTMLParser):
            def handle_starttag(self, tag, attributes):
                found["title"] = dict(attributes)["title"]

            def handle_data(self, data):
                found["text"] = found.get("text", "") + data

        reader = Reader()
        reader.feed(element("p", text, title=title))
        reader.close()
        assert found["title"] == title
        assert found.get("text", "") == text

    def test_markup_stays_none_goes(self):
        assert element("p", Markup("<b>x</b>"), None, "<", hidden=True, id=None, open=False) == (
            "<p hidden><b>x</b>&lt;</p>"
        )

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (None, ""),
            (0.0, "0"),
            (-3.1e-16, "−3.1e−16"),
            (1e20, "1e+20"),
            (-math.inf, "−∞"),
            (math.nan, "NaN"),
            (2e-7, "2e−7"),
        ],
    )
    def test_numbers(self, value, text):
        assert number_text(value) == text

    def test_cells_and_durations(self):
        assert [cell_text(cell) for cell in (None, True, "a-b", -12345678, 0.1)] == [
            "", "True", "a-b", "−12345678", "0.1"
        ]  # fmt: skip
        assert [duration_text(s) for s in (0.0123, 9.0, 42.4, 61, 3660)] == [
            "0.012 s", "9 s", "42 s", "1 min 1 s", "1 h 1 min"
        ]  # fmt: skip


class TestPicture:
    def test_the_same_drawing_is_the_same_text_whatever_was_drawn_before(self):
        first = draw_svg(draw, "a")
        assert draw_svg(draw, "b") != first
        assert draw_svg(draw, "a") == first

    def test_settings_of_the_process_are_left_alone(self):
        import matplotlib as mpl

        before = dict(mpl.rcParams)
        draw_svg(draw, "a")
        assert dict(mpl.rcParams) == before

    def test_pictures_on_a_page_do_not_mix(self):
        parts = [embed_svg(draw_svg(draw, "same"), prefix, "Label") for prefix in ("one-", "two-")]
        ids = [set(re.findall(r'\bid="([^"]+)"', part)) for part in parts]
        assert ids[0]
        assert not ids[0] & ids[1]
        for part, own in zip(parts, ids, strict=True):
            used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', part))
            assert used
            assert used <= own
            assert "<style" not in part

    def test_ink_and_black_lines_take_the_colour_of_the_page(self):
        part = embed_svg(draw_svg(draw, "a"), "p-", "Label")
        assert INK not in part
        assert "stroke: #000000" not in part
        assert "stroke: currentColor" in part

    def test_black_text_stays_black(self):
        part = embed_svg(
            draw_svg(lambda ax: ax.text(0, 0, "on a light patch", color="black"), "a"), "p-", "L"
        )
        (node,) = [node for node in ET.fromstring(part).iter("text") if node.text == "on a light patch"]
        assert "fill: #000000" in node.get("style")

    def test_what_could_run_or_load_is_left_out(self):
        hostile = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" onload="a()">'
            '<script>a()</script><foreignObject><b/></foreignObject><g onclick="a()">'
            '<use xlink:href="https://example.org/x#y"/><image href="https://example.org/x.png"/>'
            '<image href="data:image/svg+xml,x"/><image href="data:image/png;base64,AA=="/>'
            '<path style="fill: url(https://example.org/f)" clip-path="url(#c)"/><use href="#c"/>'
            '<text>kept</text></g><style>@import "x"</style></svg>'
        )
        part = embed_svg(hostile, "p-", "Label")
        assert "example.org" not in part
        for word in ("script", "foreignObject", "onload", "onclick", "svg+xml", "style"):
            assert word not in part
        for word in ("data:image/png", "url(#p-c)", 'href="#p-c"', "kept"):
            assert word in part

    @pytest.mark.parametrize("text", ["", "<svg>", "<html xmlns='x'/>", "no markup"])
    def test_what_is_no_svg_is_refused(self, text):
        with pytest.raises(ValueError, match="figure must be the text of an SVG file"):
            embed_svg(text, "p-", "Label")


class TestEnvironment:
    def test_names_machine_and_versions(self):
        facts = describe_environment()
        assert facts["numpy"] == np.__version__
        assert facts["python"].startswith(".".join(map(str, sys.version_info[:3])))
        assert int(facts["cores"]) >= 1
        assert all(isinstance(fact, str) and fact for fact in facts.values())

    def test_the_commit_is_that_of_the_checkout(self):
        import mlpapers

        folder = Path(mlpapers.__file__).parent
        answer = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        )
        tracked = subprocess.run(
            ["git", "-C", str(folder), "ls-files", "__init__.py"], capture_output=True, text=True, check=False
        )
        commit = describe_environment().get("commit", "")
        if answer.returncode == 0 and tracked.stdout:
            assert commit.split()[0] == answer.stdout.strip()
        else:
            assert commit == ""

    def test_a_copy_inside_a_foreign_repository_has_no_commit(self, tmp_path):
        from mlpapers.core.environment import _commit

        git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@example.org"]
        try:
            subprocess.run([*git, "init", "-q"], check=True)
        except FileNotFoundError:
            pytest.skip("git is not installed")
        package = tmp_path / "package"
        package.mkdir()
        (package / "__init__.py").touch()
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
        assert _commit(package) == ""
        subprocess.run([*git, "add", "package"], check=True)
        subprocess.run([*git, "commit", "-q", "-m", "second"], check=True)
        commit = _commit(package)
        assert re.fullmatch(r"[0-9a-f]{40,64}", commit)
        (package / "__init__.py").write_text("changed")
        assert _commit(package) == f"{commit} (modified)"


def test_reports_load_no_heavy_library():
    code = (
        "import sys; import mlpapers.core.report, mlpapers.core.reproduce; "
        "from mlpapers.core.environment import describe_environment; describe_environment(); "
        "heavy = {'torch', 'cvxpy', 'matplotlib', 'transformers', 'numba'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
