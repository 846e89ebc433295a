"""How long `unigrad report` takes over large runs, and their page in a browser (Chromium, where it is installed).

    python benchmarks/report.py [FOLDER]

Writes two runs into FOLDER (default: a temporary one): a grid of 255 questions over 50 epochs (§5.2 of the paper), and
500 steps of 128 questions with 8 rollouts each (§4.1). Prints what reading, drawing and packing took, how large the
page is, and the seconds from navigation to its load event and to the first question shown.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from pathlib import Path

from unigrad.cli import main
from unigrad.config import load_config

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "report"))
from browser import Browser, chromium

TOKENS = 60
TEXTS = 500
TEXT = " so we add the two and get that if then hence is not equal to x y z 1 2 3 4 + = ( )"
WORDS = TEXT.replace(" ", "| ").split("|")[1:]


def completions(rng: random.Random) -> list[str]:
    """Tokens of some completions, as the end of a JSON object."""
    found = []
    for _ in range(TEXTS):
        pieces = rng.choices(WORDS, k=TOKENS)
        logprobs = [round(-rng.expovariate(3.0), 3) for _ in pieces]
        data = {"completion": "".join(pieces), "pieces": pieces, "logprobs": logprobs}
        found.append(json.dumps(data).removeprefix("{"))
    return found


def write_run(run: Path, steps: int, questions: int, rollouts: int, epochs: int | None) -> None:
    """epochs: None draws new questions at every step."""
    rng = random.Random(0)
    ends = completions(rng)
    (run / "rollouts").mkdir(parents=True)
    (run / "config.yaml").write_text(load_config("tiny-hpt").dump(), encoding="utf-8")
    with (run / "metrics.jsonl").open("w", encoding="utf-8") as metrics:
        for step in range(1, steps + 1):
            line = {"step": step, "reward/mean": 0.5, "gate/offline_ratio": 0.3, "policy/entropy": 0.2}
            metrics.write(json.dumps({**line, "response/length_mean": TOKENS}) + "\n")
            with (run / "rollouts" / f"{step:06d}.jsonl").open("w", encoding="utf-8") as file:
                for question in range(questions):
                    name = f"question-{question if epochs else step * questions + question}"
                    rewards = [float(rng.random() < question / questions) for _ in range(rollouts)]
                    shared = {
                        "id": name, "level": 3 + question % 3, "kind": "rollout", "prompt": f"What is {name}? " * 10,
                        "answer": "42", "extracted": "42", "truncated": False, "tokens": TOKENS, "trained": True,
                        "gate": {"alpha": 1.0, "beta": 0.0, "solved": int(sum(rewards)), "fell_back": False},
                    }  # fmt: skip
                    start = json.dumps(shared).removesuffix("}")
                    for sample, reward in enumerate(rewards):
                        verdict = "right" if reward else "wrong"
                        own = f'"sample": {sample}, "reward": {reward}, "verdict": "{verdict}"'
                        file.write(f"{start}, {own}, {rng.choice(ends)}\n")


def measure(run: Path, folder: Path) -> None:
    page = folder / f"{run.name}.html"
    size = sum(path.stat().st_size for path in (run / "rollouts").iterdir())
    start, cpu = time.perf_counter(), time.process_time()
    assert main(["report", str(run), "--out", str(page)]) == 0
    seconds, busy = time.perf_counter() - start, time.process_time() - cpu
    print(f"{run.name}: {size / 1e6:.0f} MB of rollouts, reported in {seconds:.1f} s ({busy:.1f} s of CPU)")
    if chromium() is None:
        print("no Chromium here to open it in")
        return
    for _ in range(3):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, Browser(Path(profile)) as browser:
            start = time.perf_counter()
            loaded = browser.open(page.as_uri())
            browser.wait("document.documentElement.dataset.shown")
            shown = time.perf_counter() - start
            print(f"  page of {page.stat().st_size / 1e6:.1f} MB: loaded {loaded:.2f} s, question {shown:.2f} s")


def run(folder: Path) -> None:
    grid, large = folder / "grid-255x50", folder / "steps-500x1024"
    if not grid.exists():
        write_run(grid, steps=50, questions=255, rollouts=8, epochs=50)
    if not large.exists():
        write_run(large, steps=500, questions=128, rollouts=8, epochs=None)
    measure(grid, folder)
    measure(large, folder)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            run(Path(temporary))
