from notebook_runs import NotebookRuns


class TestLab1(NotebookRuns):
    lab = "Lab1"
