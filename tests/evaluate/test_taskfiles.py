"""The files that a local task is made of: a change in any of them makes it another task."""

from __future__ import annotations

from pathlib import Path

import pytest

from steep.evaluate.taskfiles import fingerprint_tasks, task_files

QUIZ = """
include: ../common/base.yaml
task: quiz
dataset_path: json
dataset_kwargs: {data_files: {test: data/*.jsonl}}
process_docs: !function helpers.tidy.drop_empty
doc_to_text: "Question: {{question}}\\nAnswer:"
"""


@pytest.fixture
def quiz(tmp_path: Path) -> Path:
    """A task with all that it can be made of, and a file that it has nothing to do with."""
    files = {
        "tasks/quiz.yaml": QUIZ,
        "tasks/data/a.jsonl": '{"question": "one"}',
        "tasks/data/b.jsonl": '{"question": "two"}',
        "tasks/helpers/tidy.py": "def drop_empty(documents): ...",
        "tasks/other.yaml": "task: other",
        "common/base.yaml": "include: ../tasks/quiz.yaml\noutput_type: multiple_choice",  # a circle ends too
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path / "tasks" / "quiz.yaml"


def test_all_that_a_task_names_and_nothing_else(quiz: Path) -> None:
    names = [path.name for path in task_files(quiz)]
    assert sorted(names) == ["a.jsonl", "b.jsonl", "base.yaml", "quiz.yaml", "tidy.py"]


@pytest.mark.parametrize(
    "name", ["quiz.yaml", "data/b.jsonl", "data/c.jsonl", "helpers/tidy.py", "../common/base.yaml"]
)
def test_a_change_in_any_of_them_is_another_task(quiz: Path, name: str) -> None:
    before = fingerprint_tasks(["arc_easy", str(quiz)])
    assert fingerprint_tasks(["arc_easy", str(quiz)]) == before
    with open(quiz.parent / name, "a", encoding="utf-8") as stream:
        stream.write("\n# changed")
    assert fingerprint_tasks(["arc_easy", str(quiz)]) != before


def test_a_directory_of_data_counts(quiz: Path) -> None:
    quiz.write_text(f"task: quiz\ndataset_path: {quiz.parent / 'data'}")
    assert [path.name for path in task_files(quiz)] == ["a.jsonl", "b.jsonl", "quiz.yaml"]


def test_what_cannot_be_read_is_left_to_whoever_loads_it(tmp_path: Path) -> None:
    assert task_files(tmp_path / "missing.yaml") == []
    broken = tmp_path / "broken.yaml"
    broken.write_text("task: [")
    assert task_files(broken) == [broken]
    assert fingerprint_tasks(["one"]) != fingerprint_tasks(["other"])
