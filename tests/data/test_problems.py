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


@pytest.mark.parametrize(
    ("given", "answer", "solution"),
    [
        ({"solution": "$\\frac{1}{2}$"}, "$\\frac{1}{2}$", None),
        ({"solution": " 1,204 "}, "1,204", None),
        ({"solution": "\\(x+1\\)", "completion": "It is x+1."}, "\\(x+1\\)", "It is x+1."),
        ({"solution": "One and one: \\boxed{2}"}, "2", "One and one: \\boxed{2}"),
        ({"solution": "$2$", "answer": "2"}, "2", "$2$"),
    ],
)
def test_a_solution_that_is_the_answer_as_trl_has_it(
    write: Write, given: dict[str, Any], answer: str, solution: str | None
) -> None:
    (problem,) = load_problems(write({"prompt": [{"role": "user", "content": "1+1?"}], **given}))
    assert (problem.answer, problem.solution) == (answer, solution)
    # A reward function that asks for it by its name gets it.
    assert solution is not None or problem.columns["solution"] == given["solution"]


def test_a_solution_that_is_named_the_answer_is_no_demonstration(write: Write) -> None:
    source = write({"problem": "1+1?", "solution": "x = 2", "completion": "Two."})
    with pytest.raises(ValueError, match=r"the answer itself, give --data\.columns\.answer its name$"):
        load_problems(source)
    (problem,) = load_problems(source, columns={"answer": "solution"})
    assert (problem.answer, problem.solution) == ("x = 2", "Two.")
    source = write({"problem": "1+1?", "solution": "$2$"}, {"problem": "2+1?", "completion": "\\boxed{3}"})
    assert [(each.answer, each.solution) for each in load_problems(source)] == [("$2$", None), ("3", "\\boxed{3}")]


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
    + [("5", 5, {}), ("level: 4", 4, {}), ("Grade-6", 6, {})]
    + [
        (value, None, {"level": value})
        for value in ("Level ?", "hard", 0.25, "0.25", "3/8", "8 of 10", "Level 3/8", "v1.5")
    ],
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
        ("Which? A) one  B) two  C) three", "C", "choice"),
        ("Which? A. 1 B. 2", "B", "choice"),
        ("Which?\nA．one\nB．two", "B", "choice"),
        ("Which?\nA、one\nB、two", "B", "choice"),
        ("Which?\n**A.** one\n**B.** two", "A", "choice"),
        ("Which?\n**A)** one\n**B)** two", "A", "choice"),
        ("Which? $\\textbf{(A)}\\ 3 \\qquad\\textbf{(B)}\\ 4$", "B", "choice"),
        ("Lines A, B and C meet. Which is longest?", "B", "math"),
        ("Name one of the points A, B, C, D.", "A", "math"),
        ("If f(A) = 2 and f(B) = 3, where is f smallest?", "A", "math"),
        ("It runs through A. It meets the circle in B. Which is nearer?", "B", "math"),
        ("是？A．3B．4C．5", "B", "choice"),
        ("Which?<br>A. one<br>B. two", "A", "choice"),
        ("Which? a) one b) two", "b", "choice"),
        ("Which?\nA) one\nB) two", "B) two", "choice"),
        ("1) x > 0\n2) x > 1. Find the count.", "2", "math"),
        ("How many cells has it?\n1) 23\n2) 47", "2", "choice"),
        ("How many are true?\n1) x > 0\n2) x > 1\n3) x > 2", "2", "math"),
        ("1) x > 0 2) x > 1 3) x > 2, how many are true?", "2", "math"),
        ("1) x > 0\n2) x > 1\nHow many of these hold?", "2", "math"),
        ("Sum them:\n1. four\n2. five", "9", "math"),
    ],
)
def test_kinds(write: Write, problem: str, answer: str, kind: str) -> None:
    assert load_problems(write(row(problem=problem, answer=answer)))[0].kind == kind
    assert load_problems(write(row(problem=problem, answer=answer, kind="math")))[0].kind == "math"


@pytest.mark.parametrize("gold", ["(B)", "B.", "**B**", "Option B", "\\text{B}", "$\\textbf{(B)}$", "b)"])
def test_gold_labels(write: Write, gold: str) -> None:
    (problem,) = load_problems(write(row(problem="Which?\nA) one\nB) two", answer=gold)))
    assert (problem.answer, problem.kind) == ("B", "choice")


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


def test_a_folder_of_files_whose_names_tell_splits_apart(tmp_path: Path) -> None:
    for name, folder in (("train.parquet", tmp_path), ("test-00000-of-00001.parquet", tmp_path / "data")):
        folder.mkdir(exist_ok=True)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row(problem=name)]), folder / name)
    (problem,) = load_problems(str(tmp_path), split="test")
    assert (problem.id, problem.problem) == (
        "data/test-00000-of-00001.parquet:1",
        "test-00000-of-00001.parquet",
    )
    message = rf"^data set {tmp_path}, split 'validation': unknown split, it has test, train\Z"
    with pytest.raises(ValueError, match=message):
        load_problems(str(tmp_path), split="validation")


def test_several_files(write: Write, tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.csv", "sub/c.json"):
        (tmp_path / "sub").mkdir(exist_ok=True)
        write(
            "problem,answer" if name.endswith(".csv") else "", "1+1?,2" if name.endswith(".csv") else row(), name=name
        )
    (tmp_path / "notes.txt").write_text("no problem set")
    assert [each.id for each in load_problems(str(tmp_path))] == ["a.csv:2", "b.jsonl:2", "sub/c.json:2"]
    assert [each.id for each in load_problems(f"{tmp_path}/*.jsonl")] == ["b.jsonl:2"]
    assert [each.id for each in load_problems(f"{tmp_path}/**/*.json*")] == ["b.jsonl:2", "sub/c.json:2"]
    with pytest.raises(FileNotFoundError, match=r"^no file matches .*\*\.parquet; the nearest is .*"):
        load_problems(f"{tmp_path}/*.parquet")


def test_the_layout_of_math(write: Write, tmp_path: Path) -> None:
    """A folder for each subject, a file for each problem; the answer stands in the solution's box alone."""
    for split, subject, number in (("train", "algebra", 1), ("train", "geometry", 1), ("test", "algebra", 2)):
        (tmp_path / split / subject).mkdir(parents=True, exist_ok=True)
        content = {
            "problem": f"{subject} {number}?",
            "level": "Level 5",
            "type": subject.title(),
            "solution": f"So it is $\\boxed{{\\frac{{{number}}}{{2}}}}$.",
        }
        write(json.dumps(content, indent=4), name=f"{split}/{subject}/{number}.json")
    problems = load_problems(str(tmp_path))
    assert [each.id for each in problems] == ["train/algebra/1.json:1", "train/geometry/1.json:1"]
    assert (problems[0].answer, problems[0].level) == (r"\frac{1}{2}", 5)
    source = write({"problem": "x?", "solution": "It is 5."})
    with pytest.raises(
        ValueError, match=r"line 1: there is no column for the answer, and the solution holds no \\boxed"
    ):
        load_problems(source)


def test_tables(write: Write) -> None:
    text = '\ufeffproblem,answer,solution,level\n"Two\nlines, ""quoted""?",2,,Level 3\n1+2?,"1,000",It is 3.,\n'
    first, second = load_problems(write(text, name="a.csv"))
    assert (first.id, first.problem, first.solution, first.level) == ("a.csv:3", 'Two\nlines, "quoted"?', None, 3)
    assert (second.id, second.answer, second.solution, second.level) == ("a.csv:4", "1,000", "It is 3.", None)
    (problem,) = load_problems(write("question\tanswer\na, b?\t2\n", name="a.tsv"))
    assert (problem.problem, problem.answer) == ("a, b?", "2")
    with pytest.raises(ValueError, match=r"a\.csv, line 1: two columns have one name"):
        load_problems(write("problem,problem\n", name="a.csv"))
    with pytest.raises(ValueError, match=r"a\.csv, line 3: malformed CSV: .*"):
        load_problems(write('problem,answer\n"open,2\n', name="a.csv"))


def chat(*turns: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, text in zip(["user", "assistant"] * 3, turns, strict=False)]


@pytest.mark.parametrize(
    ("columns", "solution"),
    [
        ({"solution": "", "messages": chat("1+1?", "It is 2.")}, "It is 2."),
        ({"solution": None, "target": chat("1+1?", "It is 2.")}, "It is 2."),
        ({"solution": "  ", "response": "It is 2."}, "It is 2."),
        ({"solution": [], "output": "It is 2."}, "It is 2."),
        ({"messages": chat("1+1?", "It is 3.", "Sure?")}, None),
        ({"messages": chat("Hi", "Hello", "1+1?", "It is 2.")}, "It is 2."),
        ({"messages": chat("1+1?", "It is 3.", "Sure?"), "rationale": "It is 2."}, "It is 2."),
        ({"conversations": [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "It is 2."}]}, "It is 2."),
        ({"messages": [{"role": "assistant", "content": [{"type": "text", "text": "It is 2."}]}]}, "It is 2."),
    ],
)
def test_an_empty_column_hides_no_demonstration(write: Write, columns: dict[str, Any], solution: str | None) -> None:
    (problem,) = load_problems(write(row(**columns)))
    assert (problem.problem, problem.solution) == ("1+1?", solution)


def test_columns_are_found_row_by_row(write: Write) -> None:
    source = write(row(solution="a"), row(solution=None, response="b"), row(answer="", ground_truth=3))
    assert [(each.solution, each.answer) for each in load_problems(source)] == [("a", "2"), ("b", "2"), (None, "3")]


def test_alpacas_instruction_and_input_are_one_problem(write: Write) -> None:
    rows = [
        {"instruction": "Add the numbers.", "input": "3 and 4", "output": "It is \\boxed{7}."},
        {"instruction": "Add 1 and 1.", "input": "", "output": "It is \\boxed{2}."},
    ]
    first, second = load_problems(write(*rows))
    assert (first.problem, first.answer, first.solution) == ("Add the numbers.\n\n3 and 4", "7", "It is \\boxed{7}.")
    assert (second.problem, second.answer) == ("Add 1 and 1.", "2")


@pytest.mark.parametrize(
    ("columns", "problem", "answer"),
    [
        ({"choices": ["red", "blue"], "answer": 1}, "Which?\nA. red\nB. blue", "B"),
        ({"choices": {"text": ["red", "blue"], "label": ["1", "2"]}, "answerKey": "2"}, "Which?\nA. red\nB. blue", "B"),
        ({"options": {"A": "red", "B": "blue"}, "answer_idx": "B"}, "Which?\nA. red\nB. blue", "B"),
        ({"options": ["A)red", "B)blue"], "correct": "B"}, "Which?\nA. red\nB. blue", "B"),
        ({"options": [{"label": "A", "text": "red"}, {"label": "B", "text": "blue"}], "answer": "blue"},
         "Which?\nA. red\nB. blue", "B"),
        ({"options": '["red", "blue"]', "answer": "(B)"}, "Which?\nA. red\nB. blue", "B"),
        ({"A": "red", "B": "blue", "answer": "B"}, "Which?\nA. red\nB. blue", "B"),
        ({"option_a": "red", "option_b": "blue", "answer": "B."}, "Which?\nA. red\nB. blue", "B"),
        ({"choices": ["4", "2"], "answer": "2"}, "Which?\nA. 4\nB. 2", "B"),
        ({"options": [3, 4, 5], "answer": 4}, "Which?\nA. 3\nB. 4\nC. 5", "B"),
        ({"options": "['red', 'blue']", "answer": 1}, "Which?\nA. red\nB. blue", "B"),
        ({"opa": "red", "opb": "blue", "cop": 1}, "Which?\nA. red\nB. blue", "B"),
        ({"problem": "Which?\nA) red\nB) blue", "options": ["red", "blue"], "answer": "B"},
         "Which?\nA) red\nB) blue", "B"),
    ],
)  # fmt: skip
def test_options_in_columns_of_their_own(write: Write, columns: dict[str, Any], problem: str, answer: str) -> None:
    (read,) = load_problems(write({"problem": "Which?"} | columns))
    assert (read.problem, read.answer, read.kind) == (problem, answer, "choice")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"choices": ["red", "blue"], "answer": 2},
            "the answer 2 is no label, text or position of .*",
        ),
        ({"choices": ["red", "red"], "answer": "red"}, "the answer 'red' is no label, text or position .*"),
        ({"options": {"A": "red", "B": "blue"}, "answer": "green"}, "the answer 'green' is no label, .*"),
        ({"options": [str(n) for n in range(11)], "answer": "A"}, "column 'options' holds 11 options; .*"),
        ({"options": "a ) 5 , b ) 6", "answer": "b"}, "column 'options' holds options that are no list: .*"),
        ({"correct_answer": "x", "distractor1": "x", "distractor2": "y", "distractor3": "z"}, ".* not all different"),
        ({"options": ["red"], "answer": "A"}, "column 'options' holds 1 options; 2 to 10, with labels of their own"),
    ],
)
def test_options_that_do_not_go_with_the_answer(write: Write, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"train\.jsonl, line 1: {message}\Z"):
        load_problems(write({"problem": "Which?"} | columns))


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
        ([row(answer=["2", "3"])], r"line 1, column 'answer': \['2', '3'\] is not text or a finite number"),
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
        ({"level": "level"}, "column 'level': 'hard' is not a whole number, alone or behind a word; .*"),
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
        ("a.txt", b"problem,answer", r"the name ends in none of .*"),
        ("a.csv", b"problem,answer\n1+1?,2,3\n", r"3 cells under 2 columns \(problem, answer\)"),
        ("a.csv", b"problem,answer\n\xff,2\n", r"not UTF-8 \(invalid start byte\)"),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    line = ", line 2" if message.startswith(("not UTF-8", "malformed", "3 cells")) else ""
    with pytest.raises(ValueError, match=rf"^.*{name}{line}: {message}\Z"):
        load_problems(str(tmp_path / name))


def test_requests_that_cannot_be(write: Write) -> None:
    assert len(load_problems(write(row()), subset="main")) == 1
    with pytest.raises(ValueError, match="the limit is 0; it must be at least 1"):
        load_problems(write(row()), limit=0)


def test_right_and_wrong_options_are_shown_in_an_order_of_their_own(write: Write) -> None:
    columns = {"question": "Which?", "correct_answer": "d"} | {
        f"distractor{n}": text for n, text in enumerate("abc", 1)
    }
    (problem,) = load_problems(write(columns))
    question, *options = problem.problem.splitlines()
    assert (question, problem.kind) == ("Which?", "choice")
    assert [line[:3] for line in options] == ["A. ", "B. ", "C. ", "D. "]
    assert {line[3:] for line in options} == set("abcd")
    assert f"{problem.answer}. d" in options


def test_columns_a_and_b_may_be_a_problems_numbers(write: Write) -> None:
    (problem,) = load_problems(write(row(A=3, B=4, answer="7")))
    assert (problem.problem, problem.answer, problem.kind) == ("1+1?", "7", "math")


def test_names_of_columns_in_any_case(write: Write) -> None:
    (problem,) = load_problems(write("Question,Answer\n1+1?,2\n", name="a.csv"))
    assert (problem.problem, problem.answer) == ("1+1?", "2")


def test_a_chat_as_json_in_a_table(write: Write) -> None:
    cell = json.dumps(chat("1+1?", "It is 2.")).replace('"', '""')
    (problem,) = load_problems(write(f'messages,answer\n"{cell}",2\n', name="a.csv"))
    assert (problem.problem, problem.solution) == ("1+1?", "It is 2.")


def test_an_answer_that_leans_on_a_tool_is_no_demonstration(write: Write) -> None:
    tool = [{"role": "assistant", "content": None}, {"role": "tool", "content": "2"}]
    messages = [*chat("1+1?"), *tool, {"role": "assistant", "content": "2"}]
    (problem,) = load_problems(write({"messages": messages, "answer": 2}))
    assert problem.solution is None


def test_a_scale_with_fractions_is_no_level(write: Write) -> None:
    problems = load_problems(write(row(difficulty=5.0), row(difficulty=4.5)))
    assert [(each.level, each.columns["difficulty"]) for each in problems] == [(None, 5.0), (None, 4.5)]


def test_gsm8k_as_verl_prepares_it(write: Write) -> None:
    columns = {"reward_model": {"ground_truth": "2"}, "extra_info": {"answer": "1+1=<<1+1=2>>2\n#### 2"}}
    (problem,) = load_problems(write({"prompt": chat("1+1?")} | columns))
    assert (problem.answer, problem.solution) == ("2", "1+1=2\nThe final answer is \\boxed{2}.")


def test_files_that_count_their_own_ids(write: Write, tmp_path: Path) -> None:
    write(row(id=0), name="a.jsonl")
    write(row(id=0), row(id=1), name="b.jsonl")
    assert [each.id for each in load_problems(str(tmp_path))] == ["a.jsonl/0", "b.jsonl/0", "b.jsonl/1"]


def real_files() -> list[Path]:
    return sorted(REAL.glob("*/*.jsonl.gz"))


@pytest.mark.skipif(not real_files(), reason="the benchmark files are not beside this repository")
def test_real_files() -> None:
    choice, rows = {"arc_c": 1172, "gpqa_diamond": 198, "math500": 3}, {"gsm8k": 7473, "math500": 500}
    for path in real_files():
        name = path.name.removesuffix(".jsonl.gz")
        if path.parent.name == "train" and name != "gsm8k":
            continue
        problems = load_problems(str(path))
        assert sum(problem.kind == "choice" for problem in problems) == choice.get(name, 0)
        if path.parent.name == "train" or name == "math500":
            assert len(problems) == rows[name]
            assert all(problem.solution for problem in problems) == (name == "gsm8k")
