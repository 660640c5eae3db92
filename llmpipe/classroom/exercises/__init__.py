"""Exercises that mark themselves: a wrong answer gets the smallest input that breaks it.

To read in this order: `exercise` (what an exercise is, how a counterexample is found), `shared`,
`lab1` to `lab4` (the exercises), `check` (what a notebook calls), `marking` (marks for a class).
"""
