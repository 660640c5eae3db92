from notebook_runs import NotebookRuns


class TestLab4(NotebookRuns):
    lab = "Lab4"
