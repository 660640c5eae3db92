"""Marks for a class: `python -m llmpipe.classroom.exercises submissions/*.ipynb`."""

import sys

from llmpipe.classroom.exercises.marking import main

if __name__ == "__main__":
    sys.exit(main())
