"""What the ranks of the tests run: it lies in a module, so that every process can import it."""

import numpy as np

from llmpipe import BlockStream, QualityFilter
from llmpipe.classroom.ranks.jobs import Settings
from llmpipe.launching.distributed import process_group, torch_vote


def collect_ids(world, send, settings: Settings):
    """All ids of one rank's share in order, those of its remainder too, and its ledger."""
    stream = BlockStream(
        settings.share(world),
        settings.tokenizer,
        settings.block_size,
        filter=QualityFilter(min_chars=40),
        batch_size=settings.batch_size,
        remainder="pad",
    )
    labels = [batch["labels"].numpy().ravel() for batch in stream]
    ids = np.concatenate([np.zeros(0, np.int64), *labels])
    return ids[ids >= 0], stream.ledger.to_dicts()


def fail_at_a_vote(world, send, port, fault):
    """All ranks vote for ever, but for rank 1, which ends in the middle of it."""
    import os
    import signal

    with process_group(world, port):
        for number in range(10**9):
            if world.rank == 1 and number == 100:
                if fault == "raise":
                    raise LookupError("row 17 is missing")
                if fault == "os._exit":
                    os._exit(0)
                os.kill(os.getpid(), signal.SIGKILL)
            torch_vote(True)
