"""Ranks at work: what the two scripts of the labs and the notebooks share.

A rank measures itself (`measure`) and tells its parent, which shows it (`bars`) and sums up
(`report`); `script` has the options. `jobs` and `demos` are what the notebooks let ranks do.
"""
