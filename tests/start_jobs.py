"""What `test_start` lets a rank do: in a module, since every process must import it."""

import gc
import sys

from llmpipe.classroom.ranks.jobs import stream_batches

# "wave" stands for what a later preload would add; the others take long to import.
ASKED = ("torch", "pandas", "datasets", "transformers", "wave")


def imported(world, send, settings):
    """Which of the modules are there before a stream and after it."""
    before = [name for name in ASKED if name in sys.modules]
    ids = stream_batches(world, send, settings)["ids"]
    after = [name for name in ASKED if name in sys.modules]
    return {"gc": gc.isenabled(), "before": before, "after": after, "ids": ids > 0}
