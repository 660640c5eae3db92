"""Every notebook of the labs held to one set of rules, run, compared, and run on real data."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from llmpipe.kit import notebooks
from llmpipe.kit.answers import statements, statements_for
from llmpipe.kit.checks import LABS

ROOT = Path(__file__).parents[1]
PATHS = sorted((ROOT / "labs").glob("*.ipynb"))
UNCOMPARED = "nbval-ignore-output"
EXERCISES_START = "## Exercises"
MOST_CELLS = {"Lab3": 80}
every_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
NBVAL = [sys.executable, "-m", "pytest", "--nbval", "-o", "addopts=", "-p", "no:cacheprovider"]


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags_of(cell):
    return cell.metadata.get("tags", [])


def lesson(notebook):
    """The cells before the exercises."""
    starts = [i for i, cell in enumerate(notebook.cells) if cell.source.startswith(EXERCISES_START)]
    assert len(starts) == 1
    return notebook.cells[: starts[0]]


def words(text):
    text = re.sub(r"\]\(\S+\)", "]", text)  # the address of a link is not read
    return re.findall(r"\w+(?:[,.'-]\w+)*", text)


def printed(cell):
    """All that a cell printed or showed as text."""
    outputs = cell.get("outputs", [])
    return "".join(o.get("text") or o.get("data", {}).get("text/plain", "") for o in outputs)


def pictures(notebook):
    return [
        (cell, output)
        for cell in code_cells(notebook)
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]


def settings(**changes):
    environment = {k: v for k, v in os.environ.items() if k not in notebooks.UNSET}
    return {**environment, **changes}


def run(command, cwd=ROOT, **changes):
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=300, env=settings(**changes)
    )


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


# What it does when it runs


@every_notebook
def test_it_runs_under_strict_nbval_as_saved(path):
    done = run([*NBVAL, path], LLMPIPE_SOURCE="sample")
    assert done.returncode == 0, done.stdout[-4000:]
    assert f"{len(code_cells(read(path)))} passed" in done.stdout


@every_notebook
def test_nbval_sees_one_changed_digit(path, tmp_path):
    """A notebook without outputs, or badly tagged, would pass whatever it printed."""
    notebook = read(path)
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


def solutions(lab):
    """{exercise: source of its answer in labs/solutions.py, with the imports it stands on}."""
    everything = statements(ROOT / "labs" / "solutions.py")
    return {
        exercise.name: "\n".join(
            ast.unparse(one.code) for one in statements_for(exercise.name, everything)
        )
        for exercise in LABS[lab]
    }


@every_notebook
def test_solved_and_with_every_cell_run_twice_it_says_right_and_the_same(path, tmp_path):
    """The answers fill the stubs; and what a cell prints does not hang on its having run before."""
    saved = read(path)
    answers, expected = solutions(path.stem), []
    doubled = nbformat.v4.new_notebook(metadata=saved.metadata)
    for cell in code_cells(saved):
        starts = {n: rf"(def|class) {n}\b" for n in answers}
        name = next((n for n, start in starts.items() if re.match(start, cell.source)), None)
        source = answers[name] if name else cell.source
        for _ in range(2):
            doubled.cells.append(nbformat.v4.new_code_cell(source))
            doubled.cells[-1].metadata.tags = tags_of(cell)
            expected.append(printed(cell))
    nbformat.write(doubled, tmp_path / "doubled.ipynb")
    executed = notebooks.execute(tmp_path / "doubled.ipynb")
    right, compared = 0, 0
    for cell, text in zip(executed.cells, expected, strict=True):
        assert all(output.get("name") != "stderr" for output in cell.outputs), cell
        if cell.source.startswith("check("):
            assert re.match(r"\w+: right, on all of [\d,]+ inputs", printed(cell)), printed(cell)
            right += 1
        elif UNCOMPARED not in tags_of(cell) and "NotImplementedError" not in cell.source:
            assert printed(cell) == text, cell.source
            compared += bool(text)
    assert right == 2 * len(LABS[path.stem])
    assert compared > 20
    for cell in executed.cells:
        assert "yet to be written" not in printed(cell)


def papermill(path, tmp_path, *parameters, **changes):
    """Run with other parameters, from another folder; all that the notebook printed."""
    options = [item for name, value in parameters for item in ("-p", name, str(value))]
    command = [sys.executable, "-m", "papermill", str(path), "out.ipynb", *options]
    done = run(command, cwd=tmp_path, **changes)
    assert done.returncode == 0, done.stderr[-4000:]
    cells = code_cells(read(tmp_path / "out.ipynb"))
    assert not [o for cell in cells for o in cell.outputs if o.get("name") == "stderr"]
    return "".join(map(printed, cells))


WIKITEXT = ("wikitext-2-v1", ("36,718", "16,859", "2,357,942", "18,421"))
REAL = {
    **dict.fromkeys(("Lab1", "Lab2", "Lab3"), WIKITEXT),
    # Reviews; each class; ids with [CLS] and [SEP]; reviews over 256 ids.
    "Lab4": ("imdb", ("25,000", "12,500", "7,846,783", "11,063")),
}


@every_notebook
def test_on_real_text_it_prints_the_figures_that_are_known(path, mirror, tmp_path):
    dataset, figures = REAL[path.stem]
    text = papermill(path, tmp_path, ("dataset", dataset), LLMPIPE_MIRROR=str(mirror))
    assert f"{dataset} from mirror" in text
    for figure in figures:
        assert re.search(rf"(?<![\d,]){figure}(?![\d,])", text), f"{figure} is not printed"


@every_notebook
def test_it_runs_with_other_parameters(path, tmp_path):
    # Fewer reviews are too few parts of the sample for a stream to mix well: it warns.
    num_rows = 16_000 if path.stem == "Lab4" else 3000
    parameters = [("num_rows", num_rows), ("block_size", 64), ("batch_size", 4)]
    if path.stem != "Lab4":
        parameters.append(("min_chars", 20))
    text = papermill(path, tmp_path, *parameters, LLMPIPE_SOURCE="sample")
    assert f"{num_rows:,} rows" in text
    assert "(4, 64)" in text


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
