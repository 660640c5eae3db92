"""What each notebook must do when it runs; a file a lab, so that two can run side by side."""

import ast
import re
import sys

import nbformat
import pytest
from notebook_tools import NBVAL, ROOT, UNCOMPARED, code_cells, printed, read, run, tags_of

from llmpipe.classroom import notebooks
from llmpipe.classroom.exercises.check import LABS
from llmpipe.classroom.exercises.marking import statements, statements_for

# Real text and other parameters: the figures were counted by `tokenizers` alone, without llmpipe.
# Lab 1 keeps the parameters with which it compares its own figures with those that are known.
WIKITEXT = {"dataset": "wikitext-2-v1", "batch_size": 4}
OTHERS = {"num_rows": 20_000, "min_chars": 20, "block_size": 64}
REAL = {
    # Rows; rows kept; ids; blocks.
    "Lab1": ({**WIKITEXT, "seed": 1}, ("36,718", "16,859", "2,357,942", "18,421", "(4, 128)")),
    **dict.fromkeys(
        ("Lab2", "Lab3"),
        ({**WIKITEXT, **OTHERS}, ("20,000", "11,372", "1,289,164", "20,143", "(4, 64)")),
    ),
    # Reviews; each class; ids with [CLS] and [SEP]; reviews over 128 ids; ids of them that are left.
    "Lab4": (
        {"dataset": "imdb", "max_length": 128, "block_size": 64, "batch_size": 4},
        ("25,000", "12,500", "7,846,783", "22,325", "3,093,340", "(4, 64)"),
    ),
}
# What a lab costs little with, on the sample.
FEW = {"num_rows": 3000, "min_chars": 20, "block_size": 64, "batch_size": 4}
SMALL = {
    "Lab1": FEW,
    "Lab2": {**FEW, "memory_rows": [4000, 16_000], "num_epochs": 3},
    "Lab3": {**FEW, "scaling_rows": 20_000},
    # Fewer reviews are too few parts of the sample to interleave evenly: the stream warns.
    "Lab4": {"num_rows": 16_000, "block_size": 64, "batch_size": 4, "num_training": 1000},
}


def solutions(lab):
    """{exercise: source of its answer in labs/solutions, with the imports it stands on}."""
    everything = statements(ROOT / "labs" / "solutions" / f"{lab.lower()}.py")
    return {
        exercise.name: "\n".join(
            ast.unparse(one.code) for one in statements_for(exercise.name, everything)
        )
        for exercise in LABS[lab]
    }


def with_parameters(notebook, parameters):
    """A copy in which a cell after the one tagged `parameters` sets these, as papermill does."""
    changed = nbformat.from_dict(notebook)
    place = next(i for i, c in enumerate(changed.cells) if "parameters" in tags_of(c))
    lines = [f"{name} = {value!r}" for name, value in parameters.items()]
    changed.cells.insert(place + 1, nbformat.v4.new_code_cell("\n".join(lines)))
    return changed


def every_cell_twice(notebook, answers):
    """Its code alone, each cell followed by itself, and in place of each stub its answer."""
    twice = nbformat.v4.new_notebook(metadata=notebook.metadata)
    for cell in code_cells(notebook):
        named = [n for n in answers if re.match(rf"(def|class) {n}\b", cell.source)]
        for _ in range(2):
            twice.cells.append(nbformat.v4.new_code_cell(answers[named[0]] if named else cell.source))
            twice.cells[-1].metadata.tags = tags_of(cell)
    return twice


def papermill(path, folder, parameters, **changes):
    """Run with other parameters, from another folder; all that the notebook printed."""
    options = [text for name, value in parameters.items() for text in ("-p", name, str(value))]
    command = [sys.executable, "-m", "papermill", str(path), "out.ipynb", *options]
    done = run(command, cwd=folder, **changes)
    assert done.returncode == 0, done.stderr[-4000:]
    cells = code_cells(read(folder / "out.ipynb"))
    assert not [o for cell in cells for o in cell.outputs if o.get("name") == "stderr"]
    return "".join(map(printed, cells))


class NotebookRuns:
    """Strict nbval is what each default run of the tests does; the others are slow."""

    lab: str

    @property
    def path(self):
        return ROOT / "labs" / f"{self.lab}.ipynb"

    def test_it_runs_under_strict_nbval_as_saved(self):
        done = run([*NBVAL, self.path], LLMPIPE_SOURCE="sample")
        assert done.returncode == 0, done.stdout[-4000:]
        assert f"{len(code_cells(read(self.path)))} passed" in done.stdout

    @pytest.mark.slow
    def test_solved_and_with_every_cell_run_twice_it_says_right_and_the_same(self, tmp_path):
        """The answers fill the stubs; what a cell prints does not hang on its having run before."""
        changed = with_parameters(read(self.path), SMALL[self.lab])
        twice = every_cell_twice(changed, solutions(self.lab))
        nbformat.write(twice, tmp_path / "twice.ipynb")
        cells = notebooks.execute(tmp_path / "twice.ipynb").cells
        right, compared = 0, 0
        for first, second in zip(cells[::2], cells[1::2], strict=True):
            assert first.source == second.source
            for cell in (first, second):
                assert all(output.get("name") != "stderr" for output in cell.outputs), cell
                assert "yet to be written" not in printed(cell)
            if UNCOMPARED not in tags_of(first):
                assert printed(first) == printed(second), first.source
                compared += bool(printed(first))
            if first.source.startswith("check("):
                verdict = printed(first)
                assert re.match(r"\w+: right, on all of [\d,]+ inputs", verdict), verdict
                right += 1
        assert right == len(LABS[self.lab])
        assert compared > 10

    @pytest.mark.slow
    def test_on_real_text_with_other_parameters_it_prints_what_is_known(self, mirror, tmp_path):
        parameters, figures = REAL[self.lab]
        text = papermill(self.path, tmp_path, parameters, LLMPIPE_MIRROR=str(mirror))
        assert f"{parameters['dataset']} from mirror" in text
        for figure in figures:
            assert re.search(rf"(?<![\d,]){re.escape(figure)}(?![\d,])", text), figure
