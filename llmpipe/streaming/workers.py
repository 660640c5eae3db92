"""What the process that made a stream tells the workers of its loaders, and what they send to it.

Workers are copies of the stream: what changes after they began, the epoch and a state, reaches them
through shared memory alone. A state that was loaded is taken up by one pass, and a second begins at
the beginning; where both could be meant, it is an error and not a guess. They send batches.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.reduction import ForkingPickler

import torch
from torch.multiprocessing.reductions import reduce_storage
from torch.utils.data import get_worker_info
from torch.utils.data._utils.collate import default_collate_fn_map

from llmpipe.ledger import Ledger
from llmpipe.sharding.world import World
from llmpipe.streaming.partition import Partition
from llmpipe.streaming.state import Loaded, Place, State

MAX_WORKERS = 1024  # of one loader; each has a mark of its own
# Places in the shared memory: the epoch; whether `set_epoch` chose it; how often a state was
# loaded; which pass took the last one up, 0 for none; how many passes began in workers; the epoch
# that was read to its end, plus 1, since `set_epoch` was last called; the marks.
EPOCH, CHOSEN, LOADS, TAKEN_BY, PASSES, ENDED, MARKS = range(7)


class WorkerState:
    """The epoch of the next pass, and the states that it goes on from, if some were loaded."""

    def __init__(self) -> None:
        self._shared = torch.zeros(MARKS + MAX_WORKERS, dtype=torch.int64).share_memory_()
        self._loaded: Loaded | None = None
        self._num_loads = self._num_passes = 0  # as this process knows them

    @property
    def epoch(self) -> int:
        return int(self._shared[EPOCH])

    @property
    def waiting(self) -> Loaded | None:
        """What was loaded, as long as no pass has taken it up."""
        taken = self._shared[TAKEN_BY] and not get_worker_info()
        return None if taken else self._loaded

    @property
    def workers_read(self) -> bool:
        """Whether workers began a pass since this process last did something with the stream."""
        return not get_worker_info() and int(self._shared[PASSES]) != self._num_passes

    def set_epoch(self, epoch: int) -> None:
        """Raises ValueError if that would drop a state which waits to be gone on with."""
        waiting = self.waiting
        if waiting and waiting.epoch != epoch and waiting.is_unread:
            raise ValueError(
                f"a state in epoch {waiting.epoch} was loaded and waits to be gone on with: begin "
                f"there, not with epoch {epoch}"
            )
        if waiting and waiting.epoch != epoch:
            self._loaded = None
        self._shared[EPOCH], self._shared[CHOSEN], self._shared[ENDED] = epoch, 1, 0
        self._num_passes = int(self._shared[PASSES])

    def end_of(self, epoch: int) -> None:
        """A pass over this epoch gave its last item."""
        self._shared[ENDED] = epoch + 1

    def move_on(self) -> None:
        """Where a second pass over an epoch begins, and nobody said so: the next epoch is due.

        Workers cannot agree on that, since some begin while others still read: they warn.
        """
        worker = get_worker_info()
        if self.waiting or int(self._shared[ENDED]) != self.epoch + 1:
            return
        if not worker:
            self._shared[EPOCH] += 1
        elif worker.id == 0:
            warnings.warn(
                f"workers of a DataLoader read epoch {self.epoch} of this shuffled stream again, "
                "in the same order: call loader.dataset.set_epoch(epoch) before each pass",
                RuntimeWarning,
                stacklevel=2,
            )

    def load(self, states: list[State], redistributes: bool) -> None:
        """Let the next pass go on from `states`, in their epoch unless `set_epoch` chose one."""
        loaded = Loaded(states, redistributes, os.getpid())
        if not self._shared[CHOSEN]:
            self._shared[EPOCH] = loaded.epoch
        self._loaded, self._shared[ENDED] = loaded, 0
        if not get_worker_info():
            self._num_loads += 1
            self._shared[LOADS] = self._num_loads
            self._shared[TAKEN_BY], self._shared[MARKS:] = 0, 0
            self._num_passes = int(self._shared[PASSES])

    def take(
        self,
        world: World,
        partition_of: Callable[[int], Partition],
        nothing: Ledger,
        batch_size: int,
    ) -> tuple[int, Place] | None:
        """The epoch and the place from which one consumer goes on; None to begin anew.

        `partition_of(epoch)` gives the virtual shards. Raises ValueError for a state of another
        consumer, which goes on waiting, and in workers that began before it was loaded. A place in
        another epoch than the one that is set goes on waiting too.
        """
        worker = get_worker_info()
        if worker and int(self._shared[LOADS]) != self._num_loads:
            raise ValueError(
                "a state was loaded after the workers of this loader began, and does not reach "
                "them: use a new loader, or let a StatefulDataLoader load the state"
            )
        loaded = self.waiting
        if loaded and worker and loaded.process != os.getpid() and not self._is_first(worker):
            loaded = None
        epoch = loaded.epoch if loaded else self.epoch
        place = loaded and loaded.place(world, partition_of(epoch), nothing, batch_size)
        if place and epoch != self.epoch and not place.is_end:
            return epoch, place  # which is an error, and the state goes on waiting
        if worker:
            self._shared[PASSES] += 1
        if loaded and worker and loaded.process != os.getpid():
            self._shared[TAKEN_BY] = self._pass_of(worker)
            self._shared[MARKS + worker.id] = 1
        elif not worker:
            self._shared[TAKEN_BY] = int(loaded is not None)
            self._num_passes = int(self._shared[PASSES])
        self._loaded = None
        return place and (epoch, place)

    def _is_first(self, worker: object) -> bool:
        """Whether a state that the parent had loaded is for this pass of its workers.

        The parent passes it on at every pass. A pass is known by the seed and the number of its
        workers; where all passes have one seed, by the marks of the workers that took it up.
        """
        if worker.id >= MAX_WORKERS:
            raise ValueError(f"a loader may have {MAX_WORKERS} workers, not {worker.num_workers}")
        taken_by = int(self._shared[TAKEN_BY])
        return taken_by in (0, self._pass_of(worker)) and not self._shared[MARKS + worker.id]

    @staticmethod
    def _pass_of(worker: object) -> int:
        return 1 + ((worker.seed - worker.id) * (MAX_WORKERS + 1) + worker.num_workers) % 2**62

    def __setstate__(self, attributes: dict) -> None:
        self.__dict__.update(attributes)
        if not self._shared.is_shared():  # pickled for a rank, not for a worker
            self._shared.share_memory_()


class Batch(dict):
    """A whole batch: torch's collate, which would make a batch of batches of it, refuses it."""

    __slots__ = ()

    def __copy__(self) -> Batch:  # of every batch by torch's loader; a subclass's own is slow
        return Batch(self)


def _refuse(batches: Sequence[Batch], **options: object) -> None:
    raise ValueError(
        "this stream has a batch_size and gives whole batches, of which the loader would make "
        "batches of batches: use DataLoader(stream, batch_size=None), or give a batch_size to the "
        "loader alone"
    )


default_collate_fn_map[Batch] = _refuse  # which torch offers for types that it does not know


def to_send(names: Sequence[str], row: Sequence[torch.Tensor], is_batch: bool) -> dict:
    """An item to send from a worker: a copy, since of a view all that it is a view of is sent.

    A batch is put into shared memory here, where too little of it is an error: in the thread that
    would do it later, the batch would be lost and the loader left waiting. Elsewhere than in a
    worker it holds the tensors of `row` themselves.
    """
    kind = Batch if is_batch else dict
    if not get_worker_info():
        return kind(zip(names, row, strict=True))
    copy = torch.cat([tensor.reshape(-1) for tensor in row])
    parts = (copy.share_memory_() if is_batch else copy).split([tensor.numel() for tensor in row])
    row = [part.view(tensor.shape) for part, tensor in zip(parts, row, strict=True)]
    return kind(zip(names, row, strict=True))


def sign_what_is_sent() -> None:
    """From now on a worker's batches say whose they are, in case it dies before they are taken.

    torch hands shared memory over in person, and of a killed worker only says that a connection was
    reset, unless it knows of its death by then.
    """
    ForkingPickler.register(torch.UntypedStorage, _signed)


def _signed(storage: torch.UntypedStorage) -> tuple:
    return _taken, (os.getpid(), *reduce_storage(storage))


def _taken(pid: int, rebuild: Callable, arguments: tuple) -> torch.UntypedStorage:
    try:
        return rebuild(*arguments)
    except (ConnectionError, EOFError, FileNotFoundError) as error:
        raise RuntimeError(
            f"DataLoader worker (pid {pid}) exited unexpectedly, killed perhaps, before a batch "
            f"could be taken from it ({type(error).__name__})"
        ) from error
