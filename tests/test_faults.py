"""Faults from outside, a few of those that benchmarks/faults.py tries by the hundred: after each, the same end."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import EVALUATE, KILLED
from faulty import Faulty, contents, go_on, has_compiler, train

from unigrad.cli import main
from unigrad.train.claim import claimed

ROOT = Path(__file__).parents[1]
needs_compiler = pytest.mark.skipif(not has_compiler(), reason="what happens at a write is written in C, for Linux")


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    with Faulty(tmp_path_factory.mktemp("server")) as server:
        yield server


@needs_compiler
@pytest.mark.parametrize("kind", ["half", "full"])
def test_a_run_killed_or_out_of_room_at_a_write_ends_as_any_other(faulty: Faulty, tmp_path: Path, kind: str) -> None:
    whole = faulty.run(tmp_path, *train("run"))
    assert (whole.code, whole.writes is not None) == (0, True), whole.output
    (tmp_path / "run").rename(tmp_path / "whole")
    for at in random.Random(kind).sample(range(1, whole.writes or 0), 2):
        first = faulty.run(tmp_path, *train("run"), at=at, kind=kind)
        if kind == "half":
            assert first.code == KILLED
        else:
            errors = [line for line in first.output.splitlines() if line.startswith("unigrad: error: ")]
            assert (first.code, len(errors)) == (1, 1), first.output
            assert "No space left" in errors[0] or "no space left" in errors[0]
            assert "Traceback" not in first.output
        again = go_on(faulty, tmp_path)
        assert again.code == 0, again.output
        assert contents(tmp_path / "run") == contents(tmp_path / "whole")
        shutil.rmtree(tmp_path / "run")


@needs_compiler
@pytest.mark.parametrize("kind", ["half", "full"])
def test_an_evaluation_killed_or_out_of_room_at_a_write_ends_as_any_other(
    faulty: Faulty, tmp_path: Path, kind: str
) -> None:
    whole = faulty.run(tmp_path, *EVALUATE)
    (tmp_path / "run").rename(tmp_path / "whole")
    # Its first writes make the folder, by which it must be known again.
    for at in (4, 6, whole.writes or 0):
        first = faulty.run(tmp_path, *EVALUATE, at=at, kind=kind)
        assert first.code == KILLED if kind == "half" else "Traceback" not in first.output
        again = faulty.run(tmp_path, *EVALUATE)
        assert again.code == 0, again.output
        assert contents(tmp_path / "run") == contents(tmp_path / "whole")
        shutil.rmtree(tmp_path / "run")


def test_two_processes_do_not_train_in_one_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with claimed(run):
        assert main(train(str(run))) == 2
    assert f"another process trains in {run}; wait for its end" in capsys.readouterr().err
    assert list(run.iterdir()) == []
    assert main([*train(str(run)), "--train.save_steps", "0"]) == 0
    with claimed(run):
        assert main(["train", "--resume", str(run)]) == 2
    assert f"another process trains in {run}; wait for its end" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not Path("/proc/self").exists():
        pytest.skip("/proc is the folder that takes nothing")
    compare = ("compare", "tiny", "--methods", "sft", "--seeds", "1", "--out", "/proc/run")
    for command in (train("/proc/run"), (*EVALUATE, "--out", "/proc/run"), compare):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "/proc/run: no folder can be made in /proc: No such file or directory" in error


OFFLINE = """
import sys
def forbid(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        sys.stderr.write(f"NETWORK {event} {arguments}\\n")
        raise OSError("no network here")
sys.addaudithook(forbid)
from unigrad.cli import main
for command in COMMANDS:
    code = main(command)
    assert code == 0, (command, code)
"""


def test_no_connection_is_made_and_no_secret_is_saved(tmp_path: Path) -> None:
    """A local model trains, is measured and reported without a thought of the network; what the environment holds stays
    there."""
    run = str(tmp_path / "run")
    measured = ["evaluate", f"{run}/final", *EVALUATE[2:], "--out", str(tmp_path / "evaluation")]
    report = ["report", run, str(tmp_path / "evaluation"), "--out", str(tmp_path / "page.html")]
    commands = [[*train(run), "--train.tensorboard", "true"], ["train", "--resume", run], measured, report]
    names = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "HTTPS_PROXY")
    secrets = {name: f"http://user:s3cret-{name}@proxy" for name in names}
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE.replace("COMMANDS", repr(commands))],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **secrets},
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "NETWORK" not in done.stderr
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 20
    assert [path for path in written if b"s3cret" in path.read_bytes()] == []
