from notebook_runs import NotebookRuns


class TestLab2(NotebookRuns):
    lab = "Lab2"
