"""The self-checks: right answers of any style pass, wrong ones a smallest counterexample."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from importlib import import_module

import answers_lab1
import answers_lab2
import answers_lab3
import answers_lab4  # noqa: F401
import numpy as np
import pytest
from answers import RIGHT, WRONG

from llmpipe import RollingBuffer, chunk
from llmpipe.classroom.exercises import check as checks
from llmpipe.classroom.exercises import lab2, marking
from llmpipe.classroom.exercises.check import EXERCISES, LABS, check, examine
from llmpipe.classroom.exercises.exercise import Attempt, Exercise, simpler
from llmpipe.classroom.exercises.marking import cell_statements, statements, statements_for
from llmpipe.sharding.world import round_robin

SOLUTIONS = {lab: import_module(f"solutions.{lab.lower()}") for lab in LABS}


def solution(name):
    """Our answer to an exercise."""
    lab = next(lab for lab, exercises in LABS.items() if EXERCISES[name] in exercises)
    return getattr(SOLUTIONS[lab], name)


def test_every_exercise_has_right_answers_of_three_styles():
    assert sum(map(len, LABS.values())) == len(EXERCISES) >= 5  # none has the name of another
    assert RIGHT.keys() == EXERCISES.keys()
    assert min(map(len, RIGHT.values())) >= 3


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        pytest.param(name, answer, id=answer.__name__)
        for name, answers in RIGHT.items()
        for answer in [*answers, solution(name)]
    ],
)
def test_a_right_answer_of_any_style_is_right(name, answer, capsys):
    result = check(name, answer)
    assert result.state == "right", result.message
    assert result.right
    assert capsys.readouterr().out == result.message + "\n"
    assert int(result.message.split()[-2].replace(",", "")) > 50  # inputs tried


@pytest.mark.parametrize("name", EXERCISES)
def test_typical_wrong_answers_get_their_smallest_counterexample(name):
    assert len(WRONG[name]) >= 4
    for wrong in WRONG[name]:
        result = examine(EXERCISES[name], wrong.answer)
        assert result.state == "wrong", wrong
        title, call, got, was_due = result.message.split("\n")
        assert title == f"{name}: wrong"
        for start, shown, line in (
            (f"  input      {name}(", wrong.smallest, call),
            ("  came out   ", wrong.came_out, got),
            ("  was due    ", wrong.due, was_due),
        ):
            assert line.startswith(start), (wrong, line)
            assert shown in line, (wrong, line)


def test_each_wrong_answer_is_wrong_on_nothing_smaller():
    """No input that is tried before the one shown breaks the function, and none simpler."""
    assert sum(map(len, WRONG.values())) > 100
    for name, wrongs in WRONG.items():
        exercise = EXERCISES[name]
        for wrong in wrongs:
            attempt = Attempt(exercise, wrong.answer)
            attempt.counterexample()
            failing = next(data for data in exercise.inputs() if attempt.failure(*data))
            smallest = attempt._shrunk(failing)
            assert exercise.shown(*smallest) in examine(exercise, wrong.answer).message, wrong
            assert not any(attempt.failure(*data) for data in exercise.simpler(*smallest)), wrong


class OnlyLarge(Exercise):
    signature = "only_large(numbers)"

    def inputs(self):
        yield ([],)
        yield (list(range(100, 160)),)

    def due(self, numbers):
        return sum(numbers), "sum"


def test_a_large_counterexample_is_shrunk_to_the_smallest():
    result = examine(OnlyLarge(), lambda numbers: sum(n if n < 117 else 0 for n in numbers))
    assert "only_large([117])" in result.message
    result = examine(OnlyLarge(), lambda numbers: sum(numbers) if len(numbers) < 5 else 0)
    assert "only_large([0, 0, 0, 0, 1])" in result.message


@pytest.mark.parametrize("name", EXERCISES)
def test_not_attempted_is_said_and_the_notebook_goes_on(name, capsys):
    namespace = {"np": np}
    exec(EXERCISES[name].stub, namespace)
    for answer in (namespace[name], None, ...):
        assert check(name, answer).state == "not attempted"
        assert "not attempted yet" in capsys.readouterr().out


def half_done(text):
    if text == "A":
        raise NotImplementedError


def again(text):
    return again(text)


def raises(error):
    def answer(*_):
        raise error

    return answer


@pytest.mark.parametrize(
    ("name", "answer", "said"),
    [
        ("my_rule", half_done, "my_rule('A')\n  came out   NotImplementedError\n"),
        ("my_rule", again, "came out   RecursionError: "),
        ("my_rule", raises(SystemExit("bye")), "came out   SystemExit: bye\n"),
        ("my_rule", raises(AssertionError("\n two\nlines")), "came out   AssertionError: \n"),
        ("my_rule", raises(RecursionError("too deep")), "came out   RecursionError: too deep\n"),
        # A kind of RuntimeError, but not that which is due from a launcher.
        ("run_all", raises(RecursionError("rank 0: exit code 3")), "came out   RecursionError"),
    ],
)
def test_an_exception_of_the_student_is_one_line_of_the_message(name, answer, said):
    result = examine(EXERCISES[name], answer)
    assert result.state == "wrong"
    assert said in result.message
    assert len(result.message.splitlines()) == 4


def test_what_is_no_function_is_wrong():
    assert "a function is due, came 7" in examine(EXERCISES["ids_lost"], 7).message


def test_outputs_that_cannot_be_compared_are_wrong_not_errors():
    class Stubborn:
        def __eq__(self, other):
            raise RuntimeError("no")

        __hash__ = None

    for output in (Stubborn(), object(), [[1], [2, 3]], {"a": Stubborn()}, np.zeros((2, 2))):
        for exercise in EXERCISES.values():
            assert examine(exercise, lambda *_, output=output: output).state == "wrong"


def never_ends(*_):
    while True:
        pass


def never_ends_and_catches(*_):
    while True:
        try:
            time.sleep(0.01)
        except Exception:
            continue


def fills_the_memory(*_):
    rows = []
    while True:
        rows.append([0] * 1000)


def counts_the_rows(num_rows, rank, world_size):
    return sum(1 for _ in range(rank, num_rows, world_size))


NO_DOCUMENTS = "ids_lost([], batch_size=1, block_size=1)"


@pytest.mark.parametrize(
    ("answer", "bound", "shown"),
    [
        (never_ends, "1 s", NO_DOCUMENTS),
        (never_ends_and_catches, "1 s", NO_DOCUMENTS),
        (fills_the_memory, "200 MB", NO_DOCUMENTS),
        (counts_the_rows, "1 s", "rows_of_rank(1_000_000_000_000_000_001, rank=0, world_size=1)"),
    ],
)
def test_code_without_end_is_stopped_and_its_input_shown(answer, bound, shown, monkeypatch):
    monkeypatch.setattr(checks, "MAX_SECONDS", 60.0 if "MB" in bound else 1.0)
    monkeypatch.setattr(checks, "MAX_BYTES", 200e6 if "MB" in bound else 1e12)
    threads, started = threading.active_count(), time.monotonic()
    result = examine(EXERCISES[shown.partition("(")[0]], answer)
    assert time.monotonic() - started < 50
    assert result.state == "wrong"
    assert f"input      {shown}" in result.message
    assert f"stopped after {bound}" in result.message
    assert threading.active_count() == threads


def test_code_is_stopped_even_if_a_callback_of_the_collector_swallows_the_first_tries(monkeypatch):
    import gc

    def callback(phase, info):
        for _ in range(100_000):  # most of the time is spent in here
            pass

    monkeypatch.setattr(checks, "MAX_BYTES", 200e6)
    gc.callbacks.append(callback)
    try:
        result = examine(EXERCISES["ids_lost"], fills_the_memory)
    finally:
        gc.callbacks.remove(callback)
    assert result.state == "wrong"
    assert "stopped after" in result.message
    assert not [t for t in threading.enumerate() if t.name.startswith("Thread-")]


def test_what_a_function_prints_is_not_shown(capsys):
    def chatty(text):
        print("here")
        return answers_lab1.rule_by_counting(text)

    assert check("my_rule", chatty).right
    assert capsys.readouterr().out.count("\n") == 1


def test_an_unknown_exercise_is_an_error_that_names_them():
    with pytest.raises(KeyError, match="my_rule, ids_lost, chunk_padded"):
        check("my_rul", None)


def test_task_texts_fit_into_a_notebook_cell_and_each_has_a_solution():
    for name, exercise in EXERCISES.items():
        assert 20 <= len(exercise.task.split()) <= 60
        assert f"`{name}" in exercise.task
        assert callable(solution(name))
        assert solution(name).__doc__


# Lab 2


def test_blocks_due_are_those_of_chunk_and_come_as_soon_as_a_rolling_buffer_has_them():
    compared = 0
    for lengths, block_size in EXERCISES["rolling_blocks"].inputs():
        documents, _ = EXERCISES["rolling_blocks"].arguments(lengths, block_size)
        due = lab2.blocks_due(documents, block_size)
        ids = np.array([one for document in documents for one in document], dtype=int)
        assert [block for block, _ in due] == chunk(ids, block_size).blocks.tolist()
        buffer = RollingBuffer(block_size)
        counts = [len(buffer.push(np.array(document, dtype=int))) for document in documents]
        read = [count for count, blocks in enumerate(counts, 1) for _ in range(blocks)]
        assert [count for _, count in due] == read
        compared += len(due)
    assert compared > 1000


def test_a_state_is_taken_after_every_block_and_after_the_end():
    taken = {}
    for lengths, block_size, num_taken in EXERCISES["ResumableBlocks"].inputs():
        taken.setdefault((*lengths, block_size), []).append(num_taken)
    for (*lengths, block_size), counts in taken.items():
        assert counts == [*range(sum(lengths) // block_size + 2)]
    assert max(map(len, taken.values())) > 20


def test_train_and_validation_share_no_text_and_leave_none_out():
    exercise, repeated = EXERCISES["split_stream"], 0
    for documents, _, every in exercise.inputs():
        parts = [
            [text for text, _ in exercise.due(documents, part, every)[0]] for part in exercise.PARTS
        ]
        assert not set(parts[0]) & set(parts[1])
        assert sorted(parts[0] + parts[1]) == sorted(documents)
        repeated += len(set(documents)) < len(documents)
    assert repeated > 50


def test_an_answer_by_salted_hash_is_wrong_under_any_salt():
    program = (
        "import answers_lab2\nfrom llmpipe.classroom.exercises.check import EXERCISES, examine\n"
        "print(examine(EXERCISES['split_stream'], answers_lab2.split_by_salted_hash).state)"
    )
    folder = os.path.dirname(answers_lab2.__file__)
    for salt in ("0", "1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": salt, "PYTHONPATH": folder}
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.stdout == "wrong\n", done.stderr


def test_the_log_has_the_monitor_s_lines_and_others_between_them_and_crosses_midnight():
    exercise = EXERCISES["tokens_per_s"]
    line = r"(\S{10})T\d\d:\d\d:\d\d\.\d{3} step \d+ tokens \d+( documents \d+)? memory_bytes \d+"
    assert re.search(f"`{line}`", exercise.task)
    others, days, with_documents = set(), 0, set()
    for data in exercise.inputs():
        (lines,) = exercise.arguments(*data)
        found = [(text, re.fullmatch(line, text)) for text in lines]
        others |= {text for text, match in found if not match}
        dates = {match[1] for _, match in found if match}
        days += len(dates) > 1
        with_documents |= {match[2] is None for _, match in found if match}
    assert others == set(exercise.OTHERS)
    assert days > 50
    assert with_documents == {True, False}


def test_a_class_half_written_is_not_attempted_yet(capsys):
    class ResumableBlocks(answers_lab2.ResumesByCount):
        def state_dict(self):
            raise NotImplementedError

    assert check("ResumableBlocks", ResumableBlocks).state == "not attempted"


# Lab 3 and Lab 4


def test_shards_are_judged_by_what_they_promise_and_the_example_shown_keeps_it():
    judged, uneven = 0, 0
    for name in ("shard_contiguous", "balanced_plan"):
        exercise = EXERCISES[name]
        for items, world_size in exercise.inputs():
            shards = exercise.example(items, world_size)
            assert exercise.fault(shards, items) is None
            assert len(shards) == world_size
            for rank in range(world_size):  # one row lost, or read once more
                changed = [shard.copy() for shard in shards]
                if changed[rank]:
                    lost = changed[rank].pop()
                    assert "is read by no rank" in exercise.fault(changed, items)
                    changed[rank] += [lost, lost]
                    assert "is read 2 times" in exercise.fault(changed, items)
                    judged += 1
            uneven += len(set(map(len, shards))) > 1
    assert judged > 1000
    assert uneven > 300


def test_a_plan_is_asked_for_sorted_and_for_alternating_labels_that_round_robin_gets_wrong():
    exercise, seen = EXERCISES["balanced_plan"], set()
    for labels, world_size in exercise.inputs():
        if len(labels) > 20:
            seen.add(labels == sorted(labels))
            by_row = [list(range(rank, len(labels), world_size)) for rank in range(world_size)]
            assert (exercise.fault(by_row, labels) is None) == (labels == sorted(labels))
    assert seen == {True, False}


def test_rows_of_rank_sum_up_and_are_those_of_llmpipe():
    exercise = EXERCISES["rows_of_rank"]
    sums = Counter()
    for num_rows, rank, world_size in exercise.inputs():
        due, _ = exercise.due(num_rows, rank, world_size)
        assert due == len(round_robin(num_rows, rank, world_size))
        sums[num_rows, world_size] += due
    assert all(total == num_rows for (num_rows, _), total in sums.items())
    assert max(sums.values()) > 10**18


def test_a_huge_number_is_made_simpler_without_counting_up_to_it():
    assert list(simpler(10**18)) == [0, 5 * 10**17, 10**18 - 1]
    assert list(simpler(0)) == list(simpler(-9)) == []


def test_ranks_fail_in_every_way_at_every_place_and_while_others_run():
    exercise, seen = EXERCISES["run_all"], Counter()
    for (endings,) in exercise.inputs():
        due, why = exercise.due(endings)
        if "raised" in due:
            rank, exitcode = map(int, re.findall(r"-?\d+", due["raised"]))
            assert exitcode == exercise.script(endings)[rank][1]
            seen[why.replace(str(rank), "r"), len(due["stopped"])] += 1
        else:
            assert all(exercise.WAYS[way][0] == 0 for _, way in endings)
            seen["results", 0] += 1
    kinds = {"rank r failed", "signal 9 killed rank r", "rank r delivered no result"}
    assert seen.keys() == {(kind, count) for kind in kinds for count in range(3)} | {("results", 0)}


def test_the_stub_s_launcher_uncommented_is_the_wrong_answer_that_is_tried():
    source = EXERCISES["run_all"].stub.replace("    #     ", "    ")
    namespace = {}
    exec(source.replace("    raise NotImplementedError", ""), namespace)
    result = examine(EXERCISES["run_all"], namespace["run_all"])
    wrong = examine(EXERCISES["run_all"], answers_lab3.launcher_of_the_stub)
    assert result.message == wrong.message
    assert "exit code 3" in result.message


@pytest.mark.parametrize("lab", LABS)
def test_marks_are_full_for_the_solutions(lab):
    ours = marking.mark_file(SOLUTIONS[lab].__file__, lab)
    assert (ours["lab"], ours["right"], ours["of"]) == (lab, len(LABS[lab]), len(LABS[lab]))


# Marks


def notebook(tmp_path, *cells, name="anna.ipynb"):
    path = tmp_path / name
    cells = [{"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells]
    path.write_text(json.dumps({"cells": cells, "nbformat": 4}), "utf-8")
    return path


ANNA = (
    "%matplotlib inline\nimport numpy as np\nfrom llmpipe import chunk",
    "raise RuntimeError('a cell that fails')",
    "blocks = open('no such data set').read()\nHALF = 0.5",
    "!pip list\ndef capitals(text):\n    return [c for c in text if c.isupper()]",
    'def my_rule(text):\n    print("hello")\n    n = len([c for c in text if c.isalpha()])\n'
    '    return "shouting" if len(capitals(text)) > HALF * n else None\ncheck("my_rule", my_rule)',
    "def ids_lost(lengths, batch_size, block_size):\n    return sum(lengths) % block_size",
    "def chunk_padded(ids, block_size, pad_id):\n    blocks = ids  # also a name of a cell\n"
    "    raise NotImplementedError",
    "def smallest_good_batch_size(measure, sizes tolerance):\n    return 1",
)


def test_marks_of_a_notebook_and_a_module(tmp_path, capsys):
    anna = notebook(tmp_path, *ANNA)
    report = tmp_path / "marks.json"
    solved = SOLUTIONS["Lab1"].__file__
    assert marking.main([str(anna), solved, "--json", str(report)]) == 0
    written = json.loads(report.read_text("utf-8"))
    hers, ours = written[str(anna)], written[solved]
    assert (ours["right"], ours["of"]) == (5, 5)
    assert (hers["lab"], hers["right"], hers["of"]) == ("Lab1", 1, 5)
    states = {name: one["state"] for name, one in hers["exercises"].items()}
    assert states == {
        "my_rule": "right",
        "ids_lost": "wrong",
        "chunk_padded": "not attempted",
        "smallest_good_batch_size": "wrong",
        "measure_block_sizes": "not attempted",
    }
    messages = {name: one["message"] for name, one in hers["exercises"].items()}
    assert "[1, 1], batch_size=1, block_size=2" in messages["ids_lost"]
    assert "SyntaxError" in messages["smallest_good_batch_size"]
    assert "no function of this name" in messages["measure_block_sizes"]
    printed = capsys.readouterr().out
    assert "1 of 5" in printed
    assert "5 of 5" in printed


def test_marks_of_lab_2_by_the_name_of_the_lab_and_by_a_class_with_what_it_stands_on(tmp_path):
    dora = notebook(
        tmp_path,
        "import numpy as np\nfrom itertools import chain\nraise RuntimeError('no data')",
        "class Counting:\n    count = 0\n    def state_dict(self):\n        return [self.count]",
        "def cut(documents, size):\n    ids = list(chain(*documents))\n"
        "    return [ids[i : i + size] for i in range(0, len(ids) - size + 1, size)]",
        "class ResumableBlocks(Counting):\n    def __init__(self, documents, block_size):\n"
        "        self.blocks = cut(documents, block_size)\n"
        "    def __iter__(self):\n        return self\n"
        "    def __next__(self):\n        if self.count == len(self.blocks):\n"
        "            raise StopIteration\n        self.count += 1\n"
        "        return self.blocks[self.count - 1]\n"
        "    def load_state_dict(self, state):\n        (self.count,) = state",
    )
    hers = marking.mark_file(dora)
    assert (hers["lab"], hers["right"]) == ("Lab2", 1), hers
    assert hers["exercises"]["ResumableBlocks"]["state"] == "right"


def test_the_command_marks_a_class_and_names_files_it_cannot_read(tmp_path):
    good = notebook(tmp_path, *ANNA)
    broken = tmp_path / "ben.ipynb"
    broken.write_text("{not json")
    other = notebook(tmp_path, "x = 1", name="carl.ipynb")
    command = [sys.executable, "-m", "llmpipe.classroom.exercises"]
    paths = [good, broken, other, tmp_path / "no.py"]
    done = subprocess.run([*command, *paths], capture_output=True, text=True)
    assert done.returncode == 1
    assert "1 of 5" in done.stdout
    assert "ben.ipynb is not a notebook of format 4" in done.stdout
    assert "carl.ipynb: defines none of the exercises: my_rule" in done.stdout
    assert "No such file" in done.stdout
    assert "Traceback" not in done.stderr + done.stdout


def test_an_answer_that_kills_or_holds_its_process_costs_one_mark_only(tmp_path, monkeypatch):
    monkeypatch.setattr(marking, "MAX_PROCESS_SECONDS", 5)
    path = notebook(
        tmp_path,
        "def my_rule(text):\n    import os\n    os._exit(3)",
        "import time\nPAUSE = time.sleep(1000)\ndef chunk_padded(*a):\n    return PAUSE",
        "def ids_lost(l, b, n):\n    return sum(sum(l[i:i+b]) % n for i in range(0, len(l), b))",
    )
    found = marking.mark_file(path)
    assert "its process died, exit 3" in found["exercises"]["my_rule"]["message"]
    assert "stopped after 5 s" in found["exercises"]["chunk_padded"]["message"]
    assert found["right"] == 1


def test_only_what_an_answer_stands_on_is_run(tmp_path):
    path = notebook(tmp_path, *ANNA, "def my_rule(text:\n    return")
    needed = [next(iter(one.binds)) for one in statements_for("my_rule", statements(path))]
    assert needed == ["HALF", "capitals", "my_rule"]  # the broken second try is passed over
    needed = statements_for("chunk_padded", statements(path))
    assert [set(one.binds) for one in needed] == [{"chunk_padded"}]
    assert statements_for("nothing", statements(path)) == []


def test_a_percent_sign_that_is_arithmetic_stays():
    (one,) = cell_statements("left = (7\n        % 4)")
    assert one.binds == {"left"}
