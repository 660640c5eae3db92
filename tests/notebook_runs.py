"""What each notebook must do when it runs; a file a lab, so that two can run side by side."""

import ast
import re
import sys

import nbformat
from notebook_tools import NBVAL, ROOT, UNCOMPARED, code_cells, printed, read, run, tags_of

from llmpipe.classroom import notebooks
from llmpipe.classroom.exercises.check import LABS
from llmpipe.classroom.exercises.marking import statements, statements_for

WIKITEXT = ("wikitext-2-v1", ("36,718", "16,859", "2,357,942", "18,421"))
REAL = {
    **dict.fromkeys(("Lab1", "Lab2", "Lab3"), WIKITEXT),
    # Reviews; each class; ids with [CLS] and [SEP]; reviews over 256 ids.
    "Lab4": ("imdb", ("25,000", "12,500", "7,846,783", "11,063")),
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


def papermill(path, tmp_path, *parameters, **changes):
    """Run with other parameters, from another folder; all that the notebook printed."""
    options = [item for name, value in parameters for item in ("-p", name, str(value))]
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

    def test_solved_and_with_every_cell_run_twice_it_says_right_and_the_same(self, tmp_path):
        """The answers fill the stubs; what a cell prints does not hang on its having run before."""
        saved = read(self.path)
        answers, expected = solutions(self.lab), []
        twice = nbformat.v4.new_notebook(metadata=saved.metadata)
        for cell in code_cells(saved):
            starts = {n: rf"(def|class) {n}\b" for n in answers}
            name = next((n for n, start in starts.items() if re.match(start, cell.source)), None)
            source = answers[name] if name else cell.source
            for _ in range(2):
                twice.cells.append(nbformat.v4.new_code_cell(source))
                twice.cells[-1].metadata.tags = tags_of(cell)
                expected.append(printed(cell))
        nbformat.write(twice, tmp_path / "twice.ipynb")
        executed = notebooks.execute(tmp_path / "twice.ipynb")
        right, compared = 0, 0
        for cell, text in zip(executed.cells, expected, strict=True):
            assert all(output.get("name") != "stderr" for output in cell.outputs), cell
            if cell.source.startswith("check("):
                verdict = printed(cell)
                assert re.match(r"\w+: right, on all of [\d,]+ inputs", verdict), verdict
                right += 1
            elif UNCOMPARED not in tags_of(cell) and "NotImplementedError" not in cell.source:
                assert printed(cell) == text, cell.source
                compared += bool(text)
        assert right == 2 * len(LABS[self.lab])
        assert compared > 20
        for cell in executed.cells:
            assert "yet to be written" not in printed(cell)

    def test_on_real_text_it_prints_the_figures_that_are_known(self, mirror, tmp_path):
        dataset, figures = REAL[self.lab]
        text = papermill(self.path, tmp_path, ("dataset", dataset), LLMPIPE_MIRROR=str(mirror))
        assert f"{dataset} from mirror" in text
        for figure in figures:
            assert re.search(rf"(?<![\d,]){figure}(?![\d,])", text), f"{figure} is not printed"

    def test_it_runs_with_other_parameters(self, tmp_path):
        # Fewer reviews are too few parts of the sample to interleave evenly: the stream warns.
        num_rows = 16_000 if self.lab == "Lab4" else 3000
        parameters = [("num_rows", num_rows), ("block_size", 64), ("batch_size", 4)]
        if self.lab != "Lab4":
            parameters.append(("min_chars", 20))
        text = papermill(self.path, tmp_path, *parameters, LLMPIPE_SOURCE="sample")
        assert f"{num_rows:,} rows" in text
        assert "(4, 64)" in text
