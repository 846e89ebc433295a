"""The page in a real browser: it loads without an error, asks for nothing, and its controls do what they say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, chromium
from written_runs import (
    WriteRun,
    metrics,
    rollout_lines,
    write_config,
    write_evaluation,
    write_metrics,
    write_rollouts,
)

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


LONG = "a-folder-whose-name-says-everything-that-there-is-to-say-about-the-run-in-it"
BROADER = """(() => {
    const inBox = (each) => each.closest(".wide, .list, svg, #tip");
    return [...document.querySelectorAll("body *")]
        .filter((each) => !inBox(each) && each.getBoundingClientRect().right > innerWidth + 1)
        .map((each) => `${each.tagName} ${each.className} ${each.textContent.slice(0, 40)}`);
})()"""
"""What is wider than the window, but for what scrolls in a box of its own."""
SCROLLED = """[...document.querySelectorAll(".wide, .list, .card, .text, td, th")]
    .filter((each) => each.scrollWidth > each.clientWidth + 1 || each.scrollHeight > each.clientHeight + 1)
    .map((each) => `${each.tagName} ${each.className} ${each.textContent.slice(0, 40)}`)"""
"""What has more in it than it shows."""
BROKEN = """[...document.querySelectorAll(".runs td:not(:nth-child(2)), thead th")]
    .filter((each) => each.textContent && each.clientWidth < 24).map((each) => each.textContent)"""
"""Cells so narrow that their words are broken."""
CONTRAST = r"""((selector) => {
    const parts = (colour) => colour.match(/[\d.]+/g).slice(0, 3).map((each) => {
        const share = each / 255;
        return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    const light = (colour) => { const [r, g, b] = parts(colour); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    const found = document.querySelector(selector);
    let behind = found;
    while (/^rgba\(.*, 0\)$/.test(getComputedStyle(behind).backgroundColor)) behind = behind.parentElement;
    const style = getComputedStyle(found);
    const [low, high] = [light(found.closest("svg") ? style.fill : style.color),
        light(getComputedStyle(behind).backgroundColor)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
})"""
"""Of a text with what is behind it, as WCAG has it."""
READ = ("h1", ".note", "td", "svg text", "#gate", ".verdict", ".verdict.right", ".card .s4", ".list small", "a")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that differ in much, with long names and questions, and two evaluations."""
    folder = tmp_path_factory.mktemp("reported")
    runs = [folder / f"{LONG}-{number}" for number in range(2)]
    for number, run in enumerate(runs):
        template = f"Question {number}: {{problem}}"
        keys = {"train__learning_rate": 10.0 ** -(4 + number), "rollout__top_k": 7 + number}
        write_config(run, method__name="hpt", data__prompt_template=template, **keys)
        by_level = {f"eval/tiny/level_{level}": 0.4 for level in range(1, 10)}
        write_metrics(run, [{**metrics(step, 0.5, 0.4), **by_level} for step in range(3)])
        for step in (1, 2):
            met = range(20 * step)
            write_rollouts(run, step, [line for each in met for line in rollout_lines(f"{each}-{LONG}", 3, (1, 0))])
    evaluations = [folder / f"ours-{LONG}", folder / "theirs"]
    for number, evaluation in enumerate(evaluations):
        write_evaluation(evaluation, evaluation.name, 0.5, {f"p{1 + each}": (each + number) % 5 for each in range(30)})
    assert main(["report", *map(str, [*runs, *evaluations]), "--out", str(folder / "page.html")]) == 0
    return folder / "page.html"


VIEWS = ("0/1/0", "1/2/0", "2/1/0", "3/1/0")
"""Run and step of each kind: of a run, of another, and of an evaluation."""


def to_view(browser: Browser, page: Path, place: str) -> None:
    run, step, question = place.split("/")
    browser.open("about:blank")
    browser.open(f"{page.as_uri()}#run={run}&step={step}&question={question}")
    shown(browser, place)


def test_nothing_is_wider_than_a_phone(page: Path, browser: Browser) -> None:
    browser.show_as(390)
    for place in VIEWS:
        to_view(browser, page, place)
        assert browser.evaluate("document.scrollingElement.scrollWidth") <= 390
        assert browser.evaluate(BROADER) == []
        assert browser.evaluate(BROKEN) == []
    assert browser.errors == []


def test_paper_cuts_nothing(page: Path, browser: Browser) -> None:
    # A4's width less the margins, in CSS's pixels.
    browser.show_as(718, media="print", scheme="dark")
    for place in VIEWS:
        to_view(browser, page, place)
        assert browser.evaluate("document.scrollingElement.scrollWidth") <= 718
        assert browser.evaluate(BROADER) == []
        assert browser.evaluate(SCROLLED) == []
        assert browser.evaluate(BROKEN) == []
    heights = "[...document.querySelectorAll('svg.chart')].map((each) => each.getBoundingClientRect().height)"
    assert max(browser.evaluate(heights)) < browser.evaluate("innerHeight")
    assert browser.evaluate("document.querySelectorAll('.list li').length") == 30
    assert text(browser, "#place") == "theirs, evaluation, MATH-500: "
    assert browser.evaluate("getComputedStyle(document.getElementById('place')).display") == "inline"
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_it_can_be_read_in_the_dark(page: Path, browser: Browser) -> None:
    for scheme in ("light", "dark"):
        browser.show_as(1280, scheme=scheme)
        to_view(browser, page, "0/1/0")
        for selector in READ:
            assert browser.evaluate(f"{CONTRAST}({selector!r})") >= 4.5, (scheme, selector)
        assert (browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)") == (
            scheme == "light"
        )


def test_the_completions_of_an_evaluation(page: Path, browser: Browser) -> None:
    to_view(browser, page, "3/1/0")
    assert text(browser, "#what") == "benchmark"
    assert browser.evaluate("document.getElementById('step').selectedOptions[0].textContent") == "MATH-500"
    assert browser.evaluate("document.getElementById('trained').offsetParent") is None
    assert text(browser, "#list button") == "What is p1?level 3, 1/4 solved"
    assert text(browser, "#gate") == "1 of 4 completions are right. Gold answer: 7"
    cards = "[...document.querySelectorAll('article')].map((each) => each.textContent)"
    assert browser.evaluate(cards) == [
        "completion 1✓ rightanswer 7, gold 74 tokensIt is 7.",
        *(f"completion {number}✗ wronganswer 8, gold 74 tokensIt is 8." for number in (2, 3, 4)),
    ]
    choose(browser, "outcome", "all")
    shown(browser, "3/1/3")
    assert text(browser, "#count") == "6 of 30 questions"
    choose(browser, "outcome", "")
    choose(browser, "run", "0")
    browser.wait("document.documentElement.dataset.shown.startsWith('0/1/')")
    assert text(browser, "#what") == "step"
    assert browser.evaluate("document.getElementById('trained').offsetParent") is not None
    assert browser.errors == []


def test_a_name_says_what_it_stands_for_under_the_pointer(page: Path, browser: Browser) -> None:
    browser.open(page.as_uri())
    settings = "top_k 8, learning_rate 1e-05"
    assert settings in browser.evaluate("document.querySelectorAll('.runs tbody th')[1].title")
    legend = "[...document.querySelectorAll('#reward title')].map((each) => each.textContent)"
    assert any(settings in each for each in browser.evaluate(legend))


def test_solved_is_what_the_run_calls_so(write_run: WriteRun, tmp_path: Path, browser: Browser) -> None:
    run = write_run(
        "run", {"a": [(1, 0)]}, {}, verify__reward_function="my.reward", method__solved_at=0.5, method__name="hpt"
    )
    lines = [
        {**line, "reward": 0.1 + 0.4 * line["reward"], "verdict": "reward function"}
        for line in rollout_lines("a", None, (1, 0))
    ]
    write_rollouts(run, 1, lines)
    assert main(["report", str(run), "--out", str(tmp_path / "page.html")]) == 0
    browser.open((tmp_path / "page.html").as_uri())
    shown(browser, "0/1/0")
    assert "1/2 solved" in text(browser, "#list button")
    verdicts = "[...document.querySelectorAll('.verdict')].map((each) => each.textContent[0])"
    assert browser.evaluate(verdicts) == ["✓", "✗"]
    assert "reward 0.5" in text(browser, "article")
