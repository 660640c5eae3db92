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
    # Reviews; each class; ids with [CLS] and [SEP]; reviews over 128 ids; ids that are left.
    "Lab4": (
        {"dataset": "imdb", "max_length": 128, "block_size": 64, "batch_size": 4},
        ("25,000", "12,500", "7,846,783", "22,325", "3,093,340", "(4, 64)"),
    ),
}
SMALL = {  # on the sample
    "Lab1": {"num_rows": 3000, "min_chars": 20, "num_steps": 3},
    "Lab2": {"num_rows": 3000, "min_chars": 20, "num_epochs": 3, "memory_rows": [4000, 16_000]},
    "Lab3": {"num_rows": 9000, "min_chars": 20, "scaling_rows": 30_000},
    # Fewer reviews are too few parts of the sample to interleave evenly: the stream warns.
    "Lab4": {"num_rows": 16_000},
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


def papermill(path, tmp_path, parameters, **changes):
    """Run with other parameters, from another folder; all that the notebook printed."""
    options = [item for name, value in parameters.items() for item in ("-p", name, str(value))]
    command = [sys.executable, "-m", "papermill", str(path), "out.ipynb", *options]
    done = run(command, cwd=tmp_path, **changes)
    assert done.returncode == 0, done.stderr[-4000:]
    cells = code_cells(read(tmp_path / "out.ipynb"))
    assert not [o for cell in cells for o in cell.outputs if o.get("name") == "stderr"]
    return "".join(map(printed, cells))


class NotebookRuns:
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
        saved, answers = read(self.path), solutions(self.lab)
        twice = nbformat.v4.new_notebook(metadata=saved.metadata)
        for cell in code_cells(saved):
            starts = {n: rf"(def|class) {n}\b" for n in answers}
            name = next((n for n, start in starts.items() if re.match(start, cell.source)), None)
            source = answers[name] if name else cell.source
            if "parameters" in tags_of(cell):
                source += "".join(f"\n{name} = {value}" for name, value in SMALL[self.lab].items())
            for _ in range(2):
                twice.cells.append(nbformat.v4.new_code_cell(source))
                twice.cells[-1].metadata.tags = tags_of(cell)
        nbformat.write(twice, tmp_path / "twice.ipynb")
        cells = notebooks.execute(tmp_path / "twice.ipynb").cells
        right, compared = 0, 0
        for first, second in zip(cells[::2], cells[1::2], strict=True):
            for cell in (first, second):
                assert all(output.get("name") != "stderr" for output in cell.outputs), cell
                assert "yet to be written" not in printed(cell)
            if first.source.startswith("check("):
                for verdict in (printed(first), printed(second)):
                    assert re.match(r"\w+: right, on all of [\d,]+ inputs", verdict), verdict
                    right += 1
            elif UNCOMPARED not in tags_of(first) and "NotImplementedError" not in first.source:
                assert printed(first) == printed(second), first.source
                compared += bool(printed(first))
        assert right == 2 * len(LABS[self.lab])
        assert compared > 10

    @pytest.mark.slow
    def test_on_real_text_and_with_other_parameters_it_prints_what_is_known(self, mirror, tmp_path):
        parameters, figures = REAL[self.lab]
        text = papermill(self.path, tmp_path, parameters, LLMPIPE_MIRROR=str(mirror))
        assert f"{parameters['dataset']} from mirror" in text
        for figure in figures:
            assert re.search(rf"(?<![\d,]){re.escape(figure)}(?![\d,])", text), figure
