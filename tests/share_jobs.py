"""What the ranks of the tests run: it lies in a module, so that every process can import it."""

import numpy as np
from streaming_shard_gpt2 import Settings, Share


def collect_ids(world, send, settings: Settings):
    """All ids of one rank's batches in order, what its buffer still holds, and its ledger."""
    share = Share(world, settings)
    batches = [batch.numpy().ravel() for batch in share]
    ids = np.concatenate([np.zeros(0, np.int64), *batches])
    return ids, share.buffer.remainder, share.ledger.to_dicts()
