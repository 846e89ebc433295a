"""Reading problem sets: the columns that are recognised, the forms of rows, and one line for every bad row."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from unigrad.data import load_problems

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data"
Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_rows(*rows: Any, name: str = "train.jsonl") -> str:
        path = tmp_path / name
        text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
        return str(path)

    return write_rows


def row(**columns: Any) -> dict[str, Any]:
    return {"problem": "1+1?", "answer": "2"} | columns


def test_all_fields(write: Write) -> None:
    source = write(row(id="a", solution="It is 2.", source="sums", level=3, kind="math", hint="add", extra={"x": 1}))
    (problem,) = load_problems(source)
    assert (problem.id, problem.problem, problem.answer, problem.solution) == ("a", "1+1?", "2", "It is 2.")
    assert (problem.source, problem.level, problem.kind) == ("sums", 3, "math")
    assert problem.columns == {"hint": "add", "extra": {"x": 1}}


@pytest.mark.parametrize("name", ["train.jsonl", "train.jsonl.gz", "train.json", "train.json.gz"])
def test_json_lines_under_each_name(write: Write, name: str) -> None:
    problems = load_problems(write(row(), "", row(problem="2+2?", answer=4), name=name))
    assert [(problem.id, problem.answer) for problem in problems] == [(f"{name}:1", "2"), (f"{name}:3", "4")]


@pytest.mark.parametrize("name", ["train.json", "train.json.gz"])
def test_json_list(write: Write, name: str) -> None:
    problems = load_problems(write(json.dumps([row(), row()], indent=1), name=name))
    assert [problem.id for problem in problems] == [f"{name}:1", f"{name}:2"]
    with pytest.raises(ValueError, match=r"train\.json.*, row 2, column 'answer': .* it is empty"):
        load_problems(write("\ufeff" + json.dumps([row(), row(answer="")], indent=1), name=name))


def test_parquet_in_the_form_of_verl(tmp_path: Path) -> None:
    rows = [
        {
            "data_source": "openr1",
            "prompt": [{"role": "system", "content": "Think."}, {"role": "user", "content": f"{n}+1?"}],
            "target": [{"role": "assistant", "content": f"It is {n + 1}."}],
            "reward_model": {"style": "rule", "ground_truth": str(n + 1)},
            "extra_info": {"index": 7 * n, "split": "default"},
        }
        for n in range(3)
    ]
    path = tmp_path / "openr1.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    problem = load_problems(str(path))[2]
    assert (problem.id, problem.problem, problem.answer, problem.solution) == ("14", "2+1?", "3", "It is 3.")
    assert problem.source == "openr1"
    assert problem.columns["reward_model"] == {"style": "rule", "ground_truth": "3"}


def test_verl_positions_that_repeat_are_no_ids(write: Write) -> None:
    source = write(row(extra_info={"index": -1}), row(extra_info={"index": -1}))
    assert [problem.id for problem in load_problems(source)] == ["train.jsonl:1", "train.jsonl:2"]
    with pytest.raises(ValueError, match=r"line 2: the id '-1' is already that of .*line 1$"):
        load_problems(source, columns={"id": "extra_info.index"})


def test_messages_hold_problem_and_demonstration(write: Write) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": " 1+1? "},
        {"role": "assistant", "content": "2.\n"},
    ]
    (problem,) = load_problems(write({"messages": messages, "answer": 2}))
    assert (problem.problem, problem.solution, problem.columns) == ("1+1?", "2.", {"messages": messages})


def test_a_chat_without_an_assistant_is_no_demonstration(write: Write) -> None:
    (problem,) = load_problems(write({"messages": [{"role": "user", "content": "1+1?"}], "answer": 2}))
    assert problem.solution is None


def test_gsm8k_as_the_hub_has_it(write: Write) -> None:
    worked = "She has 600*2=<<600*2=1200>>1200 eggs.\nAnd 34 more: <<1200+34=1234>>1234.\n#### 1,234"
    (problem,) = load_problems(write({"question": "How many eggs?", "answer": worked}))
    assert problem.answer == "1234"
    assert problem.solution == ("She has 600*2=1200 eggs.\nAnd 34 more: 1234.\nThe final answer is \\boxed{1234}.")
    assert problem.columns == {"question": "How many eggs?"}


@pytest.mark.parametrize(
    ("answer", "read", "solution"),
    [("#### 72", "72", None), ("#### (1,2)", "(1,2)", None), ("a #### b", "a #### b", None), ("1,234", "1,234", None)],
)
def test_answers_near_the_form_of_gsm8k(write: Write, answer: str, read: str, solution: str | None) -> None:
    (problem,) = load_problems(write(row(answer=answer)))
    assert (problem.answer, problem.solution) == (read, solution)


@pytest.mark.parametrize(("answer", "read"), [(18, "18"), (18.0, "18"), (0.5, "0.5"), (-3, "-3"), (" 7 ", "7")])
def test_numbers_become_text(write: Write, answer: Any, read: str) -> None:
    assert load_problems(write(row(answer=answer)))[0].answer == read


@pytest.mark.parametrize(
    ("level", "read", "left"),
    [(2, 2, {}), (2.0, 2, {}), ("Level 3", 3, {}), (None, None, {})]
    + [(value, None, {"level": value}) for value in ("Level ?", "hard", 0.25, "0.25")],
)
def test_levels(write: Write, level: Any, read: int | None, left: dict[str, Any]) -> None:
    (problem,) = load_problems(write(row(level=level)))
    assert (problem.level, problem.columns) == (read, left)


@pytest.mark.parametrize(
    ("problem", "answer", "kind"),
    [
        ("Which?\nA) one\nB) two\nC) three", "C", "choice"),
        ("Which?\n(A) one\n(B) two", "B", "choice"),
        ("Which? (A) one (B) two", "A", "choice"),
        ("Which?\nA. one\n\nB. two\n", "A", "choice"),
        ("Which?\n1. one\n2. two\n\n3. three", "3", "choice"),
        ("Which?\nA) one\nB) two", "D", "math"),
        ("Name the point that is nearest to A.", "B", "math"),
        ("Which?\nA) one\nB) two", "12", "math"),
        ("1) x > 0\n2) x > 1\nHow many of these hold?", "2", "math"),
        ("Sum them:\n1. four\n2. five", "9", "math"),
    ],
)
def test_kinds(write: Write, problem: str, answer: str, kind: str) -> None:
    assert load_problems(write(row(problem=problem, answer=answer)))[0].kind == kind
    assert load_problems(write(row(problem=problem, answer=answer, kind="math")))[0].kind == "math"


def test_named_columns(write: Write) -> None:
    source = write(row(gold={"value": 5}, worked="It is 5.", solution="No."))
    (problem,) = load_problems(source, columns={"answer": "gold.value", "solution": "worked"})
    assert (problem.answer, problem.solution) == ("5", "It is 5.")
    assert load_problems(source, columns={"solution": None})[0].solution is None


def test_a_column_is_recognised_over_the_whole_set(write: Write) -> None:
    problems = load_problems(write(row(), row(solution="It is 2.")))
    assert [problem.solution for problem in problems] == [None, "It is 2."]


def test_limit_reads_no_further(write: Write) -> None:
    assert len(load_problems(write(row(), row(), "{bad"), limit=2)) == 2


def test_a_folder_loads_as_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "sums"
    for split in ("train", "test"):
        table = datasets.Dataset.from_list(
            [row(level=n, messages=[{"role": "user", "content": split}]) for n in (1, 2)]
        )
        table.to_parquet(folder / f"{split}.parquet")
    problems = load_problems(str(folder), split="test")
    assert [(problem.id, problem.level) for problem in problems] == [(f"{folder}:1", 1), (f"{folder}:2", 2)]
    assert problems[0].columns == {"messages": [{"role": "user", "content": "test"}]}
    with pytest.raises(ValueError, match=r"^data set .*sums, split 'dev': Unknown split \"dev\".*\Z"):
        load_problems(str(folder), split="dev")


def test_a_data_set_as_save_to_disk_left_it(tmp_path: Path) -> None:
    table = datasets.Dataset.from_list([row(id="a")])
    table.save_to_disk(tmp_path / "one")
    datasets.DatasetDict(held_out=table).save_to_disk(tmp_path / "several")
    assert load_problems(str(tmp_path / "one"))[0].id == "a"
    assert load_problems(str(tmp_path / "several"), split="held_out")[0].id == "a"
    with pytest.raises(ValueError, match=r"^data set .*several, split 'train': unknown split, it has held_out\Z"):
        load_problems(str(tmp_path / "several"))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["{bad"], r"line 1: malformed JSON: Expecting property name .* at column 2"),
        ([row(), '{"problem": "x"'], r"line 2: malformed JSON: Expecting ',' delimiter at column 16"),
        (["[" * 100_000], r"line 1: malformed JSON: .*"),
        ([row(), "[1]"], r"line 2: a row is an object, not list"),
        ([{"problem": "x", "anwser": "2"}], r"line 1: no column for the answer; the nearest is 'anwser' of .*"),
        ([row(), {"problem": "x"}], r"line 2: no column 'answer'; there are problem"),
        ([row(answer=" ")], r"line 1, column 'answer': ' ' is not an answer: it is empty"),
        ([row(answer=None)], r"line 1, column 'answer': None is not text or a finite number"),
        ([row(answer=["2"])], r"line 1, column 'answer': \['2'\] is not text or a finite number"),
        ([row(answer=True)], r"line 1, column 'answer': True is not .*"),
        ([row(answer=float("nan"))], r"line 1, column 'answer': nan is not .*"),
        ([row(problem="")], r"line 1, column 'problem': '' is not a problem: it is empty"),
        ([row(problem=7)], r"line 1, column 'problem': 7 is not text or a chat with a user message"),
        ([row(problem=[{"role": "system", "content": "x"}])], r"line 1, column 'problem': .* is not text or a chat .*"),
        ([row(solution=5)], r"line 1, column 'solution': 5 is not text or a chat; set its name to null .*"),
        ([row(kind="multiple")], r"line 1, column 'kind': 'multiple' is not 'math' or 'choice'; .*"),
        ([row(id=1.5)], r"line 1, column 'id': 1.5 is not text or a whole number; .*"),
        ([row(source=5)], r"line 1, column 'source': 5 is not text; .*"),
        ([row(id="a"), row(id="b"), row(id="a")], r"line 3: the id 'a' is already that of .*, line 1"),
        ([row(id=1), row(id="1")], r"line 2: the id '1' is already that of .*, line 1"),
        ([], r"no rows"),
        (["", ""], r"no rows"),
    ],
)
def test_bad_rows(write: Write, rows: list[Any], message: str) -> None:
    source = write(*rows)
    with pytest.raises(ValueError, match=rf"^.*train\.jsonl[:,] {message}\Z"):
        load_problems(source)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"answr": "answer"}, "a problem has no field 'answr'; the nearest is 'answer'"),
        ({"answer": "anser"}, "no column 'anser' for the answer; the nearest is 'answer' of problem, answer, level"),
        ({"answer": None}, "the column of the answer cannot be left out"),
        ({"level": "level"}, "column 'level': 'hard' is not a whole number or text that ends in one; .*"),
    ],
)
def test_bad_names_of_columns(write: Write, columns: dict[str, str | None], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^.*{message}\Z"):
        load_problems(write(row(level="hard")), columns=columns)


def test_missing_files_name_the_nearest(write: Write, tmp_path: Path) -> None:
    write(row(), name="train.jsonl.gz")
    write(row(), name="held_out.jsonl")
    with pytest.raises(FileNotFoundError, match=r"^no file .*trian\.jsonl; the nearest is .*train\.jsonl\.gz\Z"):
        load_problems(str(tmp_path / "trian.jsonl"))
    with pytest.raises(FileNotFoundError, match=r"^no file .*; there is no folder .*nowhere\Z"):
        load_problems(str(tmp_path / "nowhere" / "train"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"; no problem set lies in .*empty\Z"):
        load_problems(str(tmp_path / "empty" / "x.jsonl"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl.gz", b"plain text", r"cannot be read \(Not a gzipped file .*\)"),
        ("a.jsonl.gz", gzip.compress(b"x" * 9999)[:-9], r"cannot be read \(Compressed file ended .*\)"),
        ("a.jsonl.gz", gzip.compress(b"")[:10] + b"\xff" * 20, r"cannot be read \(Error -3 .*\)"),
        ("a.jsonl", b'{"problem": "ok"}\n{"problem": "\xff"}\n', r"not UTF-8 \(invalid start byte\)"),
        ("a.json", b'[{"problem":\n "\xff"}]\n', r"not UTF-8 \(invalid start byte\)"),
        ("a.json", b'[{"problem":\n 1,}]\n', r"malformed JSON: .* at column [34]"),
        ("a.parquet", b"plain text", r"not a readable parquet file \(.*\)"),
        ("a.csv", b"problem,answer", r"the name ends in none of .*"),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    line = ", line 2" if message.startswith(("not UTF-8", "malformed")) else ""
    with pytest.raises(ValueError, match=rf"^.*{name}{line}: {message}\Z"):
        load_problems(str(tmp_path / name))


def test_requests_that_cannot_be(write: Write) -> None:
    assert len(load_problems(write(row()), subset="main")) == 1
    with pytest.raises(ValueError, match="the limit is 0; it must be at least 1"):
        load_problems(write(row()), limit=0)


def real_files() -> list[Path]:
    return sorted(REAL.glob("*/*.jsonl.gz"))


@pytest.mark.skipif(not real_files(), reason="the benchmark files are not beside this repository")
def test_real_files() -> None:
    choice, rows = {"arc_c": 1172, "gpqa_diamond": 198}, {"gsm8k": 7473, "math500": 500}
    for path in real_files():
        name = path.name.removesuffix(".jsonl.gz")
        if path.parent.name == "train" and name != "gsm8k":
            continue
        problems = load_problems(str(path))
        assert sum(problem.kind == "choice" for problem in problems) == choice.get(name, 0)
        if path.parent.name == "train" or name == "math500":
            assert len(problems) == rows[name]
            assert all(problem.solution for problem in problems) == (name == "gsm8k")
