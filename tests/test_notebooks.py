"""Every notebook of the labs held to one set of rules; test_lab1.py and its like run them."""

import ast
import re

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from notebook_tools import NBVAL, ROOT, UNCOMPARED, code_cells, printed, read, run, tags_of

from llmpipe.classroom import notebooks
from llmpipe.classroom.exercises.check import LABS

PATHS = sorted((ROOT / "labs").glob("*.ipynb"))
EXERCISES_START = "## Exercises"
MOST_CELLS = {"Lab3": 80}
every_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def lesson(notebook):
    """The cells before the exercises."""
    starts = [i for i, cell in enumerate(notebook.cells) if cell.source.startswith(EXERCISES_START)]
    assert len(starts) == 1
    return notebook.cells[: starts[0]]


def words(text):
    text = re.sub(r"\]\(\S+\)", "]", text)  # the address of a link is not read
    return re.findall(r"\w+(?:[,.'-]\w+)*", text)


def pictures(notebook):
    return [
        (cell, output)
        for cell in code_cells(notebook)
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]


def test_there_is_a_notebook_for_each_lab_with_exercises():
    assert {path.stem for path in PATHS} >= set(LABS) >= {"Lab1"}


# How a notebook is written


@every_notebook
def test_a_lesson_has_its_parts_in_order(path):
    notebook = read(path)
    cells = notebook.cells
    assert cells[0].source.startswith("# Lab ")
    headings = [c.source.splitlines()[0] for c in cells if c.source.startswith("## ")]
    assert headings[:2] == ["## Objectives", "## Time and needs"]
    assert headings[-2:] == ["## Recap", EXERCISES_START]
    sections = headings[2:-2]
    assert len(sections) >= 4
    assert [int(re.match(r"## (\d+)\. ", h)[1]) for h in sections] == [*range(1, len(sections) + 1)]
    assert any("Break it" in heading for heading in sections)
    first, second = code_cells(notebook)[:2]
    assert "import" in first.source
    assert "parameters" in tags_of(second)
    assert sum("parameters" in tags_of(cell) for cell in cells) == 1


@every_notebook
def test_the_recap_answers_the_objectives_one_by_one(path):
    starts = ("## Objectives", "## Recap")
    objectives, recap = (
        re.findall(
            r"^\d\.", next(c.source for c in read(path).cells if c.source.startswith(s)), re.M
        )
        for s in starts
    )
    assert objectives == recap
    assert 3 <= len(objectives) <= 4


@every_notebook
def test_parameters_are_plain_assignments(path):
    cell = next(c for c in code_cells(read(path)) if "parameters" in tags_of(c))
    statements = ast.parse(cell.source).body
    assert all(isinstance(s, ast.Assign) for s in statements)
    values = {s.targets[0].id: ast.literal_eval(s.value) for s in statements}
    assert {"dataset", "num_rows", "block_size"} <= set(values)


@every_notebook
def test_cells_are_few_and_short(path):
    notebook = read(path)
    assert 40 <= len(lesson(notebook)) <= MOST_CELLS.get(path.stem, 65)
    lengths = [len(cell.source.splitlines()) for cell in code_cells(notebook)]
    assert max(lengths) <= 15
    assert sum(length < 6 for length in lengths) > len(lengths) / 2
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            assert len(words(cell.source)) <= 60, cell.source


@every_notebook
def test_there_are_as_many_words_as_code(path):
    counts = {"markdown": 0, "code": 0}
    for cell in lesson(read(path)):
        counts[cell.cell_type] += len(cell.source.split())
    assert 0.9 <= counts["markdown"] / counts["code"] <= 1.7, counts


@every_notebook
def test_every_section_asks_for_a_prediction_and_ends_in_claims(path):
    sections, current = {}, None
    for cell in lesson(read(path)):
        heading = re.match(r"## \d+\. .*", cell.source)
        current = heading[0] if heading else None if cell.source.startswith("## ") else current
        if current:
            sections[current] = sections.get(current, "") + "\n" + cell.source
    for heading, text in sections.items():
        assert re.search(r"^ *assert ", text, re.MULTILINE), f"{heading} claims nothing"
    asking = [h for h, text in sections.items() if re.search(r"\*\*predict", text, re.IGNORECASE)]
    assert len(asking) >= len(sections) - 1, set(sections) - set(asking)


@every_notebook
def test_nothing_in_a_cell_is_sent_to_another_process(path):
    """A function of a cell cannot be found by a spawned process; nor can there be loader workers
    more than cores, which write a warning with a path in it."""
    for cell in code_cells(read(path)):
        tree = ast.parse(cell.source)
        names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        names |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        assert not names & {"Process", "Pool", "ProcessPoolExecutor", "spawn"}, cell.source
        for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
            if getattr(call.func, "id", getattr(call.func, "attr", "")) == "run_ranks":
                defined = {n.name for c in code_cells(read(path)) for n in functions(c)}
                assert getattr(call.args[0], "id", None) not in defined, cell.source


def functions(cell):
    return [n for n in ast.walk(ast.parse(cell.source)) if isinstance(n, ast.FunctionDef)]


@every_notebook
def test_progress_bars_come_from_the_helper_alone(path):
    assert not [cell.source for cell in code_cells(read(path)) if "tqdm" in cell.source]


# What is saved in it


@every_notebook
def test_outputs_are_saved_from_one_run_from_top_to_bottom(path):
    cells = code_cells(read(path))
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    assert sum(bool(cell.outputs) for cell in cells) > len(cells) / 2
    for cell in cells:
        if "print(" in cell.source and not functions(cell):
            assert printed(cell), f"nothing saved for {cell.source}"


@every_notebook
def test_outputs_hold_nothing_of_one_machine_or_moment(path):
    notebook, seen = read(path), 0
    told = re.compile(r"0x[0-9a-f]{6,}|hf_\w{20,}|(?<![\w.])/(?:\w[\w.-]*/)+|[A-Z]:\\|Traceback")
    timed = re.compile(r"\b[\d.]+ m?s\b|tokens/s|samples/s")
    for cell in code_cells(notebook):
        for output in cell.outputs:
            assert output.output_type in ("stream", "display_data", "execute_result"), output
            assert output.get("name") != "stderr", output
        assert not told.search(printed(cell)), told.search(printed(cell))
        if UNCOMPARED not in tags_of(cell):
            assert not timed.search(printed(cell)), printed(cell)
            seen += bool(printed(cell))
    assert seen > 10


@every_notebook
def test_metadata_is_tags_of_known_names_and_nothing_else(path):
    notebook = read(path)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"tags"}
        # A cell marked raises-exception that does not raise would pass: such tags are not used.
        assert set(tags_of(cell)) <= {"parameters", UNCOMPARED}, cell.source


@every_notebook
def test_pictures_come_with_their_numbers_in_text(path):
    found = pictures(read(path))
    assert found
    for cell, _ in found:
        assert any(o.output_type == "stream" and o.text.strip() for o in cell.outputs), cell.source
        (shown,) = (o for o in cell.outputs if "image/png" in o.get("data", {}))
        alt = shown.metadata["image/png"]["alt"]  # for whoever cannot see it: the same words
        assert alt, cell.source
        assert alt in " ".join(printed(cell).split())


@every_notebook
def test_exercises_are_those_of_the_checks_and_start_unwritten(path):
    notebook = read(path)
    cells = notebook.cells[len(lesson(notebook)) :]
    sources = [cell.source for cell in cells]
    for exercise in LABS[path.stem]:
        place = sources.index(exercise.task)
        stub, check = cells[place + 1 : place + 3]
        assert ast.dump(ast.parse(stub.source)) == ast.dump(ast.parse(exercise.stub))
        assert "raise NotImplementedError" in stub.source
        assert f'check("{exercise.name}", {exercise.name})' in check.source
        assert printed(check).startswith(f"{exercise.name}: not attempted")
    assert len([s for s in sources if "raise NotImplementedError" in s]) == len(LABS[path.stem])


# That a run is compared


def test_nbval_sees_one_changed_digit(tmp_path):
    """So that a run under strict nbval could fail."""
    notebook = read(ROOT / "labs" / "Lab1.ipynb")
    place = next(
        i
        for i, cell in enumerate(notebook.cells)
        if UNCOMPARED not in tags_of(cell) and re.search(r"\d,\d{3}", printed(cell))
    )
    notebook.cells = notebook.cells[: place + 1]
    copies = {"same": printed(notebook.cells[-1])}
    copies["changed"] = re.sub(
        r"\d\b", lambda d: str((int(d[0]) + 1) % 10), copies["same"], count=1
    )
    assert copies["same"] != copies["changed"]
    for name, text in copies.items():
        notebook.cells[-1].outputs = [nbformat.v4.new_output("stream", name="stdout", text=text)]
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
    done = run([*NBVAL, tmp_path], cwd=tmp_path, LLMPIPE_SOURCE="sample")
    count = len(code_cells(notebook))
    assert f"1 failed, {2 * count - 1} passed" in done.stdout, done.stdout[-4000:]
    assert "changed" in done.stdout.split("short test summary")[-1]


# The command that makes the outputs


def write_notebook(path, *sources):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


def test_the_command_saves_outputs_from_the_sample_and_from_its_own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMPIPE_SOURCE", "hub")
    (tmp_path / "beside.txt").write_text("beside it")
    path = tmp_path / "a.ipynb"
    write_notebook(
        path, "import os; print(os.environ['LLMPIPE_SOURCE'])", "print(open('beside.txt').read())"
    )
    assert notebooks.main([str(path)]) == 0
    made = read(path)
    assert [printed(cell) for cell in made.cells] == ["sample\n", "beside it\n"]
    assert [cell.execution_count for cell in made.cells] == [1, 2]
    assert all(not cell.metadata for cell in made.cells)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.ipynb", "beside.txt"]


def test_a_cell_that_fails_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "a.ipynb"
    write_notebook(path, "print(1)", "raise ValueError('no')")
    before = path.read_bytes()
    with pytest.raises(CellExecutionError, match="ValueError"):
        notebooks.main([str(path)])
    assert path.read_bytes() == before


def test_progress_shows_a_bar_only_where_nobody_compares(capfd, monkeypatch):
    assert list(notebooks.progress([1, 2], "counting")) == [1, 2]
    assert capfd.readouterr().err == ""
    monkeypatch.delenv("PYTEST_VERSION")
    assert list(notebooks.progress([1, 2], "counting")) == [1, 2]
    assert "counting" in capfd.readouterr().err
    monkeypatch.setenv("LLMPIPE_PROGRESS", "off")
    assert list(notebooks.progress([1, 2], "counting")) == [1, 2]
    assert capfd.readouterr().err == ""
