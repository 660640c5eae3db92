"""Imported by the fork server after all else: garbage is collected again, in whatever it copies.

What was imported by then is no garbage: looking through it would only copy its pages.
"""

import gc

gc.freeze()
gc.enable()
