"""The page in a real browser: it loads without an error, asks for nothing, and its controls do what they say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, chromium
from written_runs import WriteRun, metrics, rollout_lines, write_config, write_metrics, write_rollouts

from unigrad.cli import main

pytestmark = pytest.mark.skipif(chromium() is None, reason="no Chromium here to open the page in")
NASTY = '</script><img src=x onerror="document.title=\'owned\'"><script>document.title="owned"</script>'
LEVELS = {"a": 3, "b": 5, "c": 5}
OUTCOMES = {"a": [(1, 0), (1, 1)], "b": [(0, 0), (1, 0)], "c": [(1, 1), None]}


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path / "profile") as opened:
        yield opened


def shown(browser: Browser, place: str) -> None:
    browser.wait(f"document.documentElement.dataset.shown === {place!r}")


def choose(browser: Browser, control: str, value: str) -> None:
    browser.evaluate(
        f"""(() => {{
            const it = document.getElementById({control!r});
            it.value = {value!r};
            for (const name of ["input", "change"]) it.dispatchEvent(new Event(name, {{bubbles: true}}));
        }})()"""
    )


def text(browser: Browser, selector: str) -> str:
    # Not innerText: what is far outside the window is not rendered yet.
    found: str = browser.evaluate(f"document.querySelector({selector!r}).textContent")
    return found


def test_the_controls(write_run: WriteRun, tmp_path: Path, browser: Browser) -> None:
    runs = [
        write_run("hpt", OUTCOMES, LEVELS, method__name="hpt"),
        write_run("grpo", OUTCOMES, LEVELS, method__name="grpo"),
    ]
    page = tmp_path / "page.html"
    assert main(["report", *map(str, runs), "--out", str(page)]) == 0
    browser.open(page.as_uri())
    shown(browser, "0/1/0")
    assert text(browser, "#count") == "3 of 3 questions"
    assert "Question a, level 3" in text(browser, "#detail")
    assert "1 of 2 rollouts solved: α = 1 (rollouts), β = 0 (demonstration)" in text(browser, "#gate")
    assert "Trained on rollouts." in text(browser, "#gate")
    cards = text(browser, "#detail")
    assert "✓ right" in cards
    assert "answer 8, gold 7" in cards

    shades = "[...document.querySelectorAll('.card')[1].querySelectorAll('.text span')].map((each) => each.className)"
    assert browser.evaluate(shades) == ["", "s1", "s3", "s4 end"]
    assert browser.evaluate("document.querySelectorAll('.card')[1].querySelector('.text').textContent") == "It is 7."
    title = browser.evaluate("document.querySelector('.card .s3').title")
    assert title == '" 7.": p = 0.14, log p = −2.00'
    browser.evaluate("document.getElementById('shade').click()")
    colour = "getComputedStyle(document.querySelector('.card .s4')).backgroundColor"
    assert browser.evaluate(colour) == "rgba(0, 0, 0, 0)"

    choose(browser, "outcome", "none")
    shown(browser, "0/1/1")
    assert text(browser, "#count") == "1 of 3 questions"
    assert "demonstration" in text(browser, "#detail")
    choose(browser, "outcome", "")
    choose(browser, "find", "what is c")
    shown(browser, "0/1/2")
    choose(browser, "find", "nowhere at all")
    shown(browser, "0/1/")
    assert "No question" in text(browser, "#detail")
    choose(browser, "find", "")
    choose(browser, "trained", "demonstration")
    shown(browser, "0/1/1")
    choose(browser, "trained", "")
    browser.evaluate("document.getElementById('after').click()")
    shown(browser, "0/2/0")
    choose(browser, "run", "1")
    shown(browser, "1/2/0")
    browser.evaluate("document.querySelectorAll('#list button')[2].click()")
    shown(browser, "1/2/2")
    assert "nothing was sampled" in text(browser, "#gate")

    # What is shown has an address, and a cell of the grid leads to its rollouts.
    assert browser.evaluate("location.hash") == "#run=1&step=2&question=2"
    browser.open("about:blank")
    browser.open(f"{page.as_uri()}#run=1&step=1&question=1")
    shown(browser, "1/1/1")
    x, y = browser.evaluate(
        """(() => {
            const svg = document.getElementById("fig3-1");
            svg.scrollIntoView();
            const at = svg.getBoundingClientRect();
            const [left, top, right, bottom] = JSON.parse(document.getElementById("meta").textContent)
                .grids["fig3-1"].panels[1].box;
            return [at.x + (left + 0.75 * (right - left)) * at.width, at.y + (top + 0.75 * (bottom - top)) * at.height];
        })()"""
    )
    for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
        browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
    shown(browser, "0/2/1")
    assert "Question b, level 5" in text(browser, "#detail")
    assert browser.errors == []
    assert browser.requests == [page.as_uri(), page.as_uri()]


def test_texts_stay_texts(tmp_path: Path, browser: Browser) -> None:
    run = tmp_path / "run"
    write_config(run, method__name="hpt")
    pieces = ["</script>", "<img src=x onerror=", '"document.title=1">', "\x00\u2028\ud800"]
    lines = rollout_lines("id", 3, (1, 0), prompt=NASTY, answer=NASTY, extracted=NASTY, verdict=NASTY, pieces=pieces)
    write_rollouts(run, 1, [*lines, *rollout_lines(NASTY, None, (0,), completion=NASTY, pieces=None)])
    write_metrics(run, [metrics(1)])
    assert main(["report", str(run), "--out", str(tmp_path / "page.html")]) == 0
    browser.open((tmp_path / "page.html").as_uri())
    for question in (0, 1):
        browser.evaluate(f"document.querySelectorAll('#list button')[{question}]?.click()")
        shown(browser, f"0/1/{question}")
    assert NASTY in text(browser, "#detail")
    assert browser.evaluate("document.title") == "unigrad report"
    assert browser.evaluate("document.querySelectorAll('img').length") == 0
    assert browser.errors == []


def test_a_page_without_rollouts_has_no_errors_either(tmp_path: Path, browser: Browser) -> None:
    write_config(tmp_path / "run", method__name="hpt")
    assert main(["report", str(tmp_path / "run"), "--out", str(tmp_path / "page.html")]) == 0
    browser.open((tmp_path / "page.html").as_uri())
    assert "Not shown" in text(browser, "body")
    assert browser.errors == []
