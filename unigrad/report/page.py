"""The page: one HTML file with everything in it, that asks nothing of any network."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib import resources
from math import isnan
from typing import Any

from unigrad import __version__
from unigrad.report.contents import Contents
from unigrad.report.drawing import panel_boxes
from unigrad.report.figures import Drawn
from unigrad.report.sample import Sample
from unigrad.report.tables import Table
from unigrad.runs.folder import Example

COLUMNS_ON_PAPER = 10
"""From more on a table is printed in small letters."""


def render(contents: Contents, pictures: Mapping[str, str]) -> str:
    """The page's text. pictures: each figure's <svg>, by its name.

    Whatever comes from files is escaped, or packed so that the script sets it as text.
    """
    style, script = (_resource(name) for name in ("style.css", "script.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Should a text ever slip through as markup: no script but this one runs, and nothing is fetched.
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    figures = "".join(_figure(drawn, _explained(pictures[drawn.name], contents.settings)) for drawn in contents.figures)
    return "".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            f"<title>unigrad report</title>\n<style>\n{style}</style>\n</head>\n<body>\n",
            "<h1>unigrad report</h1>\n",
            f'<p class="note">unigrad {__version__}; figures and tables bear the numbers of arXiv:2509.04419.</p>\n',
            _contents(contents),
            _table(contents.runs, "runs"),
            f'<h2 id="figures">Figures</h2>\n{figures}' if contents.figures else "",
            '<h2 id="tables">Tables</h2>\n' if contents.tables else "",
            *(_table(table) for table in contents.tables),
            _examples(contents.examples),
            _browser(contents.samples) if contents.samples else "",
            _missing(contents.missing),
            '<div id="tip" hidden></div>\n',
            f'<script type="application/json" id="meta">{_json(_meta(contents))}</script>\n',
            *_payloads(contents.samples),
            f"<script>{script}</script>\n</body>\n</html>\n",
        ]
    )


def _resource(name: str) -> str:
    return (resources.files("unigrad.report") / "page" / name).read_text(encoding="utf-8")


def _json(data: object) -> str:
    """For inside a <script>, which ends at the first `</script`, in a string or not."""
    return json.dumps(data, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")


def _contents(contents: Contents) -> str:
    links = [
        f'<a href="#{each.name}" title="{escape(each.title)}">{f"Fig. {each.number}" if each.number else "Reward"}</a>'
        for each in contents.figures
    ]
    links += ['<a href="#tables">Tables</a>'] * bool(contents.tables)
    links += ['<a href="#data">Data</a>'] * bool(contents.examples)
    links += ['<a href="#rollouts">Rollouts</a>'] * bool(contents.samples)
    links += ['<a href="#missing">Not shown</a>'] * bool(contents.missing)
    return f"<nav><p>{' · '.join(links)}</p></nav>\n"


def _figure(drawn: Drawn, picture: str) -> str:
    number = f"Figure {drawn.number}. " if drawn.number else ""
    caption = f"<strong>{number}{escape(drawn.title)}.</strong> {escape(drawn.note)}"
    how = '<span class="on-screen"> Hover over a cell to read it, click it to read its rollouts.</span>'
    hint = how if drawn.grid else ""
    return f'<figure><div class="wide">{picture}</div><figcaption>{caption}{hint}</figcaption></figure>\n'


def _explained(picture: str, settings: Mapping[str, str]) -> str:
    """The <svg> with what a number in its legend stands for, under the pointer."""
    for name, said in settings.items():
        picture = picture.replace(f">{escape(name)}</text>", f"><title>{escape(said)}</title>{escape(name)}</text>")
    return picture


def _table(table: Table, kind: str = "") -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.headings)
    if len(table.headings) > COLUMNS_ON_PAPER:
        kind += " broad"
    body = "".join(f"<tr>{_row(number, row, table)}</tr>\n" for number, row in enumerate(table.rows))
    return (
        f'<div class="wide"><table class="{kind}"><caption>{escape(table.title)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n"
        f'<p class="note">{escape(table.note)}</p>\n'
    )


def _row(number: int, row: Sequence[str], table: Table) -> str:
    hint = f' title="{escape(table.hints[number])}"' if table.hints and table.hints[number] else ""
    cells = [f'<th scope="row"{hint}>{escape(row[0])}</th>']
    for column, cell in enumerate(row[1:], start=1):
        best = ' class="best"' if (number, column) in table.best else ""
        cells.append(f"<td{best}>{escape(cell)}</td>")
    return "".join(cells)


def _examples(examples: Mapping[str, Sequence[Example]]) -> str:
    """Of each training set what its columns became, and a problem as the model gets it."""
    if not examples:
        return ""
    parts = ['<h2 id="data">Data</h2>\n']
    for run, sets in examples.items():
        for each in sets:
            texts = {"prompt": each.prompt, "demonstration": each.demonstration, "answer": each.answer}
            shown = "".join(
                f'<dt>{name}</dt><dd class="text">{escape(text)}</dd>\n' for name, text in texts.items() if text
            )
            parts.append(
                f"<details open><summary>{escape(run)}, {escape(each.set)}: {escape(each.columns)}</summary>\n"
                f'<dl class="example">{shown}</dl></details>\n'
            )
    return "".join(parts)


def _missing(sentences: Sequence[str]) -> str:
    if not sentences:
        return ""
    items = "".join(f"<li>{escape(sentence)}</li>\n" for sentence in sentences)
    return f'<h2 id="missing">Not shown</h2>\n<ul>\n{items}</ul>\n'


def _browser(samples: Mapping[str, Sample]) -> str:
    left_out = [
        f"{name}: {len(sample.steps)} of {sample.of} {_what(sample)}s, in them {_of_questions(sample)}"
        for name, sample in samples.items()
        if not sample.is_whole
    ]
    note = (
        f'<p class="note">Left out for size (--max-megabytes): {escape("; ".join(left_out))}.</p>\n' if left_out else ""
    )
    shades = ("p ≥ 0.9", "p ≥ 0.5", "p ≥ 0.2", "p ≥ 0.05", "p < 0.05")
    legend = " ".join(f'<span class="s{index}">{escape(shade)}</span>' for index, shade in enumerate(shades))
    return f"""<h2 id="rollouts">Rollouts</h2>
{note}<div class="bar">
<label>run <select id="run"></select></label>
<label><span id="what"></span> <select id="step"></select></label>
<button type="button" id="before"></button><button type="button" id="after"></button>
</div>
<div class="bar">
<label>solved <select id="outcome"><option value="">any</option><option value="none">none</option>\
<option value="some">some</option><option value="all">all</option>\
<option value="unsampled">not sampled</option></select></label>
<label class="of-run">trained on <select id="trained"><option value="">any</option>\
<option value="rollouts">its rollouts</option><option value="demonstration">its demonstration</option>\
<option value="nothing">nothing</option></select></label>
<label>has a verdict <select id="verdict"></select></label>
<label>holds the text <input id="find" type="search"></label>
<label class="tick of-run"><input id="shade" type="checkbox" checked> shade tokens</label>
</div>
<p class="note legend of-run">Probability of each token when it was sampled; the stronger the shade, the less likely: \
{legend} <span class="end"></span> a token without a text of its own.</p>
<p class="note"><span class="on-paper" id="place"></span><span id="count" role="status"></span> \
<span id="left-out"></span></p>
<div class="browser"><ul class="list" id="list"></ul><div id="detail"></div></div>
"""


def _what(sample: Sample) -> str:
    return "benchmark" if sample.is_evaluation else "step"


def _of_questions(sample: Sample) -> str:
    kept, every = sum(step.questions for step in sample.steps), sum(step.of for step in sample.steps)
    return f"{kept:,} of {every:,} questions"


def _meta(contents: Contents) -> dict[str, Any]:
    """What the script needs before a step is unpacked."""
    names = list(contents.samples)
    runs = [
        {
            "name": name,
            "settings": contents.settings.get(name, ""),
            "of": sample.of,
            "what": _what(sample),
            "steps": [
                {"step": each.step, "title": each.title, "questions": each.questions, "of": each.of}
                for each in sample.steps
            ],
        }
        for name, sample in contents.samples.items()
    ]
    grids = {}
    for drawn in contents.figures:
        if drawn.grid is None:
            continue
        grid, panels = drawn.grid, drawn.grid.by_level().values()
        run = contents.grid_runs[drawn.name]
        percents = [[None if isnan(each) else round(100 * each) for each in row] for row in grid.accuracy.tolist()]
        grids[drawn.name] = {
            "run": names.index(run) if run in names else None,
            "epochs": grid.epochs,
            "ids": grid.questions,
            "accuracy": percents,
            "steps": grid.steps.tolist(),
            "panels": [
                {"box": box, "rows": rows} for box, rows in zip(panel_boxes(drawn, len(panels)), panels, strict=True)
            ],
        }
    return {"runs": runs, "grids": grids}


def _payloads(samples: Mapping[str, Sample]) -> Iterator[str]:
    for number, sample in enumerate(samples.values()):
        for step in sample.steps:
            yield f'<script type="text/plain" id="r{number}s{step.step}">{step.payload}</script>\n'
