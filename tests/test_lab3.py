from notebook_runs import NotebookRuns


class TestLab3(NotebookRuns):
    lab = "Lab3"
