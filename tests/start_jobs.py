"""What `test_start` lets a rank do: in a module, since every process must import it."""

import gc
import sys

# "wave" stands for what a later preload would add; the others take long to import.
ASKED = ("torch", "pandas", "datasets", "transformers", "wave")


def imported(world, send, job, settings):
    """Which of the modules are there before a job and after it."""
    before = [name for name in ASKED if name in sys.modules]
    batches = job(world, send, settings)["batches"]
    after = [name for name in ASKED if name in sys.modules]
    return {"gc": gc.isenabled(), "before": before, "after": after, "batches": batches > 0}
