"""Figures as files, and as SVG that lives in a page."""

from __future__ import annotations

import html
import io
import re
from pathlib import Path

from matplotlib import rc_context

from unigrad.report.figures import INK, STYLE, Drawn

PRINTED_INK = "#1b1f24"
DPI = 150
_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def write(drawn: Drawn, folder: Path) -> str:
    """Write NAME.svg and NAME.png, on white. Returns the figure as an element for a page.

    That is an <svg> in the page's colours, whose ids are its own and which names no address outside.
    """
    text = _svg(drawn)
    opening = re.compile(r"(<svg [^>]*>)")
    on_white = opening.sub(r'\1\n <rect width="100%" height="100%" fill="#ffffff"/>', text, count=1)
    (folder / f"{drawn.name}.svg").write_text(on_white.replace(INK, PRINTED_INK), encoding="utf-8")
    with rc_context(STYLE):
        drawn.figure.savefig(folder / f"{drawn.name}.png", dpi=DPI, facecolor="white")
    return _inline(drawn, text)


def _inline(drawn: Drawn, text: str) -> str:
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'\bid="', f'id="{drawn.name}-', text)
    text = text.replace("url(#", f"url(#{drawn.name}-").replace('href="#', f'href="#{drawn.name}-')
    # A line may be black too.
    text = text.replace(INK, "currentColor").replace("#000000", "currentColor")
    text = text.replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")
    kind = "chart grid" if drawn.grid else "chart"
    opening = f'<svg id="{drawn.name}" class="{kind}" role="img" aria-label="{html.escape(drawn.title)}"'
    return re.sub(r'<svg width="[^"]*" height="[^"]*"', opening, text, count=1)


def panel_boxes(drawn: Drawn, count: int) -> list[tuple[float, float, float, float]]:
    """Left, top, right and bottom of the first panels, as shares of the figure, once it was drawn."""
    boxes = [axes.get_position() for axes in drawn.figure.axes[:count]]
    return [(box.x0, 1 - box.y1, box.x1, 1 - box.y0) for box in boxes]


def _svg(drawn: Drawn) -> str:
    file = io.StringIO()
    with rc_context({**STYLE, "svg.hashsalt": drawn.name}):
        drawn.figure.savefig(file, format="svg", facecolor="none", metadata=_METADATA)
        # What was laid out stays so: to lay it out again for the next format takes longer than to draw it.
        drawn.figure.set_layout_engine("none")
    return file.getvalue()
