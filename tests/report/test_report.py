"""`unigrad report` as a user runs it: what is written, and what the page holds."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from written_runs import WriteRun, metrics, rollout_lines, write_config, write_metrics, write_rollouts

from unigrad.cli import main

NASTY = '</script><img src=x onerror="throw 1">'
LEVELS = {"a": 3, "b": 5}
OUTCOMES = {"a": [(1, 0), (1, 1)], "b": [(0, 0), (1, 0)]}


class Page(HTMLParser):
    """The page as a parser sees it: elements with their attributes, and the text of each script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self.text = ""
        self._script: str | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag == "script":
            self._script = dict(attributes).get("id") or "program"
            self.scripts[self._script] = ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._script = None

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self.scripts[self._script] += data
        else:
            self.text += data

    @property
    def ids(self) -> set[str]:
        return {found for _, attributes in self.elements if (found := attributes.get("id"))}

    @property
    def meta(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(self.scripts["meta"])
        return data

    def step(self, run: int, step: int) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(self.scripts[f"r{run}s{step}"])))
        return data


def reported(out: Path, *runs: Path, options: tuple[str, ...] = ()) -> Page:
    assert main(["report", *map(str, runs), "--out", str(out), *options]) == 0
    return Page(out.read_text(encoding="utf-8"))


def test_two_runs_give_every_figure_that_their_data_is_there_for(write_run: WriteRun, tmp_path: Path) -> None:
    first = write_run("hpt", OUTCOMES, LEVELS, method__name="hpt")
    second = write_run("hpt_gate2", {"a": [None, (0, 1)], "b": [(1, 0), (1, 1)]}, LEVELS, method__name="hpt_gate2")
    page = reported(tmp_path / "page.html", first, second)
    names = {"reward", "fig3-1", "fig3-2", "fig4", "fig5", "fig6", "fig7", "fig8"}
    assert names <= page.ids
    files = tmp_path / "page"
    assert {path.name for path in files.iterdir()} == {
        f"{name}.{ending}" for name in names for ending in ("svg", "png")
    }
    for path in files.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")
    for path in files.glob("*.svg"):
        assert ElementTree.parse(path).getroot().tag.endswith("svg")
    # Text of the page's <svg> is in the page's colour, that of the file in ink on white.
    assert "#010203" not in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "#010203" not in (files / "fig5.svg").read_text(encoding="utf-8")
    assert "Table 6: the gate's threshold" in page.text
    missing = page.text[page.text.rindex("Not shown") :]
    assert "Figure 2, pass@k" in missing
    assert "Table 4, exclusive solves" in missing
    assert "Figure 3" not in missing

    grid = page.meta["grids"]["fig3-1"]
    assert (grid["run"], grid["ids"], grid["epochs"]) == (0, ["a", "b"], 2)
    assert (grid["accuracy"], grid["steps"]) == ([[50, 100], [0, 50]], [[1, 2], [1, 2]])
    assert [panel["rows"] for panel in grid["panels"]] == [[0], [1]]
    assert all(0 <= share <= 1 for panel in grid["panels"] for share in panel["box"])
    assert page.meta["grids"]["fig3-2"]["accuracy"][0] == [None, 50]
    assert page.meta["grids"]["fig4"]["accuracy"] == [[None, 50], [-50, -50]]


def test_the_page_stands_alone(write_run: WriteRun, tmp_path: Path) -> None:
    page = reported(tmp_path / "page.html", write_run("run", OUTCOMES, LEVELS))
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|//cdn|@import|<link", text)
    for _, attributes in page.elements:
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    (policy,) = [each["content"] for tag, each in page.elements if tag == "meta" and "http-equiv" in each]
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    ids = [found for _, attributes in page.elements if (found := attributes.get("id"))]
    assert len(ids) == len(set(ids))


def test_texts_of_models_and_names_of_folders_never_become_markup(tmp_path: Path) -> None:
    run = tmp_path / "<b>run $x$"
    write_config(run, method__name="hpt")
    lines = rollout_lines(NASTY, 3, (1, 0), completion=NASTY, prompt=NASTY, answer=NASTY, extracted=NASTY, pieces=None)
    for step in (1, 2):
        write_rollouts(run, step, lines)
    write_metrics(run, [metrics(0, accuracy=0.2), metrics(1)])
    shutil.copytree(run, tmp_path / "again")
    page = reported(tmp_path / "page.html", run, tmp_path / "again")
    assert [tag for tag, _ in page.elements].count("img") == 0
    assert [tag for tag, _ in page.elements].count("b") == 0
    assert page.meta["grids"]["fig3-1"]["ids"] == [NASTY]
    assert page.step(0, 1)["questions"][0]["lines"][0]["text"] == NASTY
    scripts = [each for tag, each in page.elements if tag == "script"]
    assert len(scripts) == 2 + 4


def test_no_name_in_a_file_becomes_markup(tmp_path: Path) -> None:
    """Ids and metrics, and of an evaluation its folder, its model and its benchmarks."""
    run, evaluation = tmp_path / "run", tmp_path / NASTY.replace("/", "")
    write_config(run, method__name="hpt")
    accuracies = {f"eval/{NASTY}/accuracy": 0.4, f"eval/{NASTY}/level_3": 0.4, NASTY: 1.0}
    write_metrics(run, [metrics(0, accuracy=0.2) | accuracies, metrics(1) | accuracies])
    write_rollouts(run, 1, rollout_lines(NASTY, 3, (1, 0), verdict=NASTY, kind=NASTY))
    out = [
        "--suite",
        "tiny",
        "--limit",
        "2",
        "--samples",
        "2",
        "--max-completion-length",
        "8",
        "--out",
        str(evaluation),
    ]
    assert main(["evaluate", "tiny", *out]) == 0
    results = evaluation / "results.json"
    data = results.read_text(encoding="utf-8").replace('"tiny"', json.dumps(NASTY))
    results.write_text(data, encoding="utf-8")
    page = reported(tmp_path / "page.html", run, evaluation)
    assert [tag for tag, _ in page.elements].count("img") == 0
    assert [name for _, attributes in page.elements for name in attributes if name.startswith("on")] == []
    assert NASTY in page.text


def test_an_unfinished_run(tmp_path: Path) -> None:
    """No final/, a torn last line, and the newest step's rollouts not there yet."""
    write_config(tmp_path / "run", method__name="hpt")
    write_rollouts(tmp_path / "run", 1, rollout_lines("a", 3, (1, 0)))
    write_metrics(tmp_path / "run", [metrics(0, accuracy=0.2), metrics(1), metrics(2, accuracy=0.3)])
    with (tmp_path / "run" / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 3')
    page = reported(tmp_path / "page.html", tmp_path / "run")
    assert "2 of 80, not finished" in page.text
    assert {"fig5", "fig6", "fig7"} <= page.ids
    assert "fig3" not in page.ids
    assert [each["step"] for each in page.meta["runs"][0]["steps"]] == [1]


def test_a_run_that_has_only_begun_is_still_a_page(tmp_path: Path) -> None:
    write_config(tmp_path / "run", method__name="hpt")
    page = reported(tmp_path / "page.html", tmp_path / "run")
    assert "rollouts" not in page.ids
    for figure in range(2, 9):
        assert f"Figure {figure}" in page.text


def test_a_budget_is_held_and_said(write_run: WriteRun, tmp_path: Path) -> None:
    outcomes = {str(question): [(1, 0)] * 30 for question in range(20)}
    run = write_run("run", outcomes, {})
    whole = reported(tmp_path / "whole.html", run)
    assert "Left out for size" not in whole.text
    assert whole.meta["runs"][0]["of"] == len(whole.meta["runs"][0]["steps"]) == 30
    size = sum(len(text) for name, text in whole.scripts.items() if re.fullmatch(r"r\d+s\d+", name))
    part = reported(tmp_path / "part.html", run, options=("--max-megabytes", str(size / 4e6)))
    assert sum(len(text) for name, text in part.scripts.items() if re.fullmatch(r"r\d+s\d+", name)) <= size / 4
    kept = len(part.meta["runs"][0]["steps"])
    assert 0 < kept < 30
    assert f"Left out for size (--max-megabytes): hpt: {kept} of 30 steps, in them" in part.text


def test_seeds_of_a_comparison_become_a_line_with_a_band(write_run: WriteRun, tmp_path: Path) -> None:
    for method in ("hpt", "sft"):
        for seed in range(3):
            write_run(f"compared/{method}/seed-{seed}", OUTCOMES, LEVELS, method__name=method, train__seed=seed)
    page = reported(tmp_path / "page.html", tmp_path / "compared")
    assert "mean of 3 seeds, from the smallest to the largest" in page.text
    assert "40.0 ± 0.0" in page.text
    assert [run["name"] for run in page.meta["runs"]] == [
        f"{method}, seed {seed}" for method in ("hpt", "sft") for seed in range(3)
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: no run and no comparison there"),
        (["run", "--out", "page"], "--out page: must end in .html or .htm; did you mean page.html?"),
        (["run", "--max-megabytes", "0"], "--max-megabytes 0: must be above 0"),
        (["run", "--max-megabyte", "3"], "unknown option --max-megabyte; did you mean --max-megabytes?"),
        (["run", "--out", "folder.html"], "--out folder.html is a folder, not a file"),
        ([], "the following arguments are required: RUN"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path / "run", method__name="hpt")
    (tmp_path / "folder.html").mkdir()
    assert main(["report", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.html", "run"]
