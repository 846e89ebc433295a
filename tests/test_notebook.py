"""The page "From Python" in a real notebook: each block a cell, run by a kernel."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import unigrad

pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("matplotlib")
PACKAGE = Path(unigrad.__file__).parents[1]
OPTIONS = {
    "train.max_steps": 12, "train.questions_per_step": 1, "rollout.num_generations": 2, "train.eval_steps": 0,
    "rollout.max_completion_length": 4, "train.tensorboard": False,
}  # fmt: skip
MANY_STEPS = f"unigrad.train('tiny-grpo', train=problems, output_dir='runs/many', **{OPTIONS})"
MISTAKE = "unigrad.train('tiny-grpo', train=problems, output_dir='runs/many')"
REPORT = "unigrad.report([run, 'runs/many'], 'report.html')"
EXECUTE = """
import sys
import nbclient, nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

notebook = nbformat.read(sys.argv[1], 4)
manager = AsyncKernelManager()
# This very Python's, whatever kernels are installed.
manager._kernel_spec = KernelSpec(
    argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"], language="python"
)
client = nbclient.NotebookClient(notebook, km=manager, timeout=500, allow_errors=True)
client.owns_km = True  # so that it ends the kernel
client.execute()
nbformat.write(notebook, sys.argv[1])
"""


def blocks() -> list[str]:
    text = (PACKAGE / "docs" / "from-python.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)


def executed(cells: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[Any]]:
    """The outputs of each cell."""
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(folder / name.lower()))
    monkeypatch.setenv("PYTHONPATH", str(PACKAGE), prepend=":")
    code = [
        {
            "cell_type": "code",
            "id": f"n{number}",
            "metadata": {},
            "execution_count": None,
            "outputs": [],
            "source": cell,
        }
        for number, cell in enumerate(cells)
    ]
    file = folder / "page.ipynb"
    file.write_text(json.dumps({"cells": code, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}), encoding="utf-8")
    subprocess.run([sys.executable, "-c", EXECUTE, str(file)], cwd=folder, check=True, timeout=550)
    return [cell["outputs"] for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]]


def shown(outputs: list[Any]) -> list[str]:
    texts = [output["data"]["text/plain"] for output in outputs if output["output_type"] == "display_data"]
    return ["".join(text) for text in texts]


def raised(outputs: list[Any]) -> list[str]:
    return [f"{output['ename']}: {output['evalue']}" for output in outputs if output["output_type"] == "error"]


def test_the_page_in_a_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Its last block goes on to comparisons, whose runs are processes of their own wherever they begin.
    cells = [*blocks()[:-1], MANY_STEPS, REPORT, MISTAKE]
    *outputs, many, report, mistake = executed(cells, tmp_path, monkeypatch)
    assert [raised(each) for each in (*outputs, many, report)] == [[]] * (len(cells) - 1)
    first = shown(outputs[0])
    assert [line.split("  ")[0] for line in first if re.match(r"step \d/", line)] == ["step 3/3"]
    assert first[-1].startswith("done: the trained model is in runs/sums/final")
    # Twelve steps are one line, replaced.
    assert [line.split("  ")[0] for line in shown(many) if line.startswith("step ")] == ["step 12/12"]
    assert (tmp_path / "report.html").is_file()
    (error,) = raised(mistake)
    assert error.startswith("ConfigError: output_dir runs/many already holds a run")
