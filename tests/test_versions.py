"""The versions that the package stands on: known, printed, recorded, and named where they are others."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import NoReturn

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from unigrad import versions
from unigrad.cli import main, train
from unigrad.runs.folder import ENVIRONMENT_FILE, read_environment
from unigrad.versions import environment, untested, windows


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield
    versions.windows.cache_clear()
    versions.warn_of_untested.cache_clear()


@pytest.fixture
def other_version(monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """A release that nobody has tried, its neighbour, and one too old."""
    found = {**versions.installed(), "transformers": "5.99.1", "torch": "2.13.0+cpu", "math-verify": "0.8.0"}
    monkeypatch.setattr(versions, "installed", lambda: found)
    versions.warn_of_untested.cache_clear()
    return found


def test_each_package_has_a_floor_and_a_ceiling() -> None:
    assert {"torch", "transformers", "math-verify", "datasets", "pydantic", "huggingface-hub"} <= windows().keys()
    for name, window in windows().items():
        assert sorted(each.operator for each in window) == ["<", ">="], name


def imported_packages() -> set[str]:
    found = set()
    for path in Path(versions.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {each.name.split(".")[0] for each in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                found.add(node.module.split(".")[0])
    return found - sys.stdlib_module_names - {"unigrad"}


def test_each_package_that_is_imported_is_declared() -> None:
    """One that only comes along with another may go, or change, with any release of that other."""
    extras = "".join(str(each) for each in map(Requirement, requires("unigrad") or ()) if each.marker)
    distributions = packages_distributions()
    for package in imported_packages():
        if package in distributions:
            (name,) = {canonicalize_name(each) for each in distributions[package]}
            assert name in map(canonicalize_name, windows()) or name in extras, package
        else:
            assert canonicalize_name(package) in extras, package


def test_what_this_suite_runs_on_lies_within_them() -> None:
    assert untested() == []


def test_the_installed_package_says_what_its_source_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = dict(windows())
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'another'\ndependencies = ['torch<1']\n")
    monkeypatch.setattr(versions, "__file__", str(tmp_path / "unigrad" / "versions.py"))
    windows.cache_clear()
    assert windows() == source, "pip install -e . once more: the installation is older than pyproject.toml"
    assert source == {
        each.name: each.specifier for each in map(Requirement, requires("unigrad") or ()) if not each.marker
    }


@pytest.mark.parametrize(
    ("number", "inside"),
    [("5.16.0", True), ("5.24.3", True), ("5.15.9", False), ("5.25.0", False), ("5.25.0.dev0", False),
     ("5.24.0+local", True), ("6.0", False)],
)  # fmt: skip
def test_the_edges_of_a_window(number: str, inside: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "windows", lambda: {"transformers": SpecifierSet(">=5.16,<5.25")})
    monkeypatch.setattr(versions, "installed", lambda: {"transformers": number})
    expected = [] if inside else [f"transformers {number} (tested: >=5.16, <5.25)"]
    assert untested() == expected


def test_an_untested_version_is_said_once_before_it_is_used(
    other_version: Mapping[str, str], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    for _ in range(2):
        assert main(["train", "--train.max_steps", "1", "--dry-run", "--output_dir", str(tmp_path / "run")]) == 0
    found = {name: versions.with_window(name) for name in ("transformers", "math-verify")}
    assert [record.getMessage() for record in caplog.records if record.name == "unigrad.versions"] == [
        f"unigrad: warning: not tested with {found['transformers']}",
        f"unigrad: warning: not tested with {found['math-verify']}",
    ]
    assert found["transformers"].startswith("transformers 5.99.1 (tested: >=")


def test_a_failure_under_an_untested_version_names_the_tested_ones(
    other_version: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def moved(arguments: list[str]) -> NoReturn:
        raise TypeError("update() got an unexpected keyword argument")

    monkeypatch.setattr(train, "run", moved)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["train"]) == 1
    line = capsys.readouterr().err
    assert line.startswith(
        "unigrad: error: unexpected TypeError: update() got an unexpected keyword argument (traceback:"
    )
    (file,) = tmp_path.iterdir()
    assert str(file) in line
    notes = [f"not tested with {each}" for each in untested()]
    assert len(notes) == 2
    assert file.read_text(encoding="utf-8").splitlines()[-2:] == notes


def test_a_name_that_is_gone_names_the_tested_versions() -> None:
    code = """
import transformers
module = type(transformers)
there = module.__getattr__

def gone(self, name):
    if name == "DynamicLayer":
        raise AttributeError(name)
    return there(self, name)

module.__getattr__ = gone
import unigrad.policy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert f"{versions.with_window('transformers')}, {versions.with_window('huggingface-hub')}" in done.stderr


def test_version_prints_what_it_stands_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    first, python, *rest = capsys.readouterr().out.splitlines()
    assert first == f"unigrad {environment()['unigrad']}"
    assert python == f"python {environment()['python']}"
    assert [line.split()[:2] for line in rest] == [[name, environment()[name]] for name in windows()]
    assert all("(tested: >=" in line for line in rest)


def test_version_never_imports_torch() -> None:
    code = "import sys\nfrom unigrad.cli import main\nmain(['--version'])\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False).returncode == 0


def test_changed_names_what_is_otherwise_now() -> None:
    assert versions.changed(environment()) == []
    before = {**environment(), "transformers": "5.1.0", "gone": "1.0"}
    now = environment()["transformers"]
    assert versions.changed(before) == [
        f"transformers was 5.1.0 and is now {now}",
        "gone was 1.0 and is now not installed",
    ]


@pytest.mark.parametrize("text", ["{", "[1]", "\udcff"])
def test_a_damaged_record_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / ENVIRONMENT_FILE).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"environment\.json is damaged .*; without it the run goes on$") as failure:
        read_environment(tmp_path)
    assert "\n" not in str(failure.value)


SMALL = (
    "--tiny.train_problems", "8", "--tiny.eval_problems", "4", "--train.questions_per_step", "4",
    "--rollout.num_generations", "4", "--rollout.max_completion_length", "24", "--train.max_steps", "1",
)  # fmt: skip


def test_no_dependency_warns_on_the_terminal(tmp_path: Path) -> None:
    """Not hidden either: what a dependency deprecates, by a warning or by its log, is made visible here."""
    environment = {**os.environ, "TRANSFORMERS_VERBOSITY": "warning", "HF_HUB_VERBOSITY": "warning"}
    run, warn = tmp_path / "run", ("-W", "default::FutureWarning")
    for arguments in (
        ["train", "--output_dir", str(run), "--model.gradient_checkpointing", "true", *SMALL],
        ["train", "--resume", str(run), "--train.max_steps", "1"],
        [
            "evaluate",
            str(run / "final"),
            "--suite",
            "tiny",
            "--limit",
            "2",
            "--samples",
            "1",
            "--out",
            str(tmp_path / "e"),
        ],
    ):
        done = subprocess.run(
            [sys.executable, *warn, "-m", "unigrad", *arguments],
            capture_output=True, text=True, timeout=300, check=False, env=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        ours = ("written: ", "run-final ", f"as {run / 'config.yaml'} has it: ")
        assert [line for line in done.stderr.splitlines() if not line.startswith(ours)] == []
    assert json.loads((run / "environment.json").read_text()) == versions.environment()
