"""States of a stream: what they hold, whether they belong to it, and who goes on with what."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

from llmpipe.arguments import whole_number
from llmpipe.ledger import Entry, Ledger
from llmpipe.sharding.world import World
from llmpipe.streaming.partition import Lanes, Piece


@dataclass(frozen=True)
class Counts:
    """Numbers, and numbers by reason, that add up field by field; `stream` is whose they are."""

    stream: ClassVar[str] = "stream"

    def __add__(self, other: Any) -> Any:
        sums = {}
        for each in fields(self):
            mine, theirs = getattr(self, each.name), getattr(other, each.name)
            if isinstance(mine, Mapping):
                reasons = {**mine, **theirs}
                sums[each.name] = {r: mine.get(r, 0) + theirs.get(r, 0) for r in reasons}
            else:
                sums[each.name] = mine + theirs
        return type(self)(**sums)

    @classmethod
    def from_dict(cls, counts: Mapping[str, Any]) -> Any:
        """What `dataclasses.asdict` made a dict of. Raises ValueError or TypeError if damaged."""
        empty, read = cls(), {}
        for name, count in counts.items():
            if isinstance(getattr(empty, name, None), Mapping):
                read[name] = {str(reason): whole_number(n) for reason, n in count.items()}
            else:
                read[name] = whole_number(count)
        if len(read) != len(fields(cls)):
            raise ValueError(f"{len(fields(cls))} counts are due, got {list(read)}")
        return cls(**read)


@dataclass(frozen=True)
class Account(Counts):
    """Rows that are done with, and ids by what became of them.

    Of `rows`, `dropped` were rejected, by reason, and `documents` were given out to their last id.
    `in_blocks` ids of documents went into blocks, `padding` filled the last one, and `left_over`
    were too few for a block at the end.

    >>> done = Account(rows=3, dropped={"blank": 1}, documents=2, in_blocks=8, left_over=1)
    >>> (done + done).ledger(separators=False)["chunk", "ids"].dropped
    {'remainder': 2}
    """

    stream: ClassVar[str] = "BlockStream"

    rows: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    documents: int = 0
    in_blocks: int = 0
    left_over: int = 0
    padding: int = 0

    def ledger(self, separators: bool) -> Ledger:
        """The account by stage; with `separators` the last id of each document is one.

        A document that is in blocks with some of its ids only is yet to be counted; its ids are.
        """
        ids, ends = self.in_blocks + self.left_over, self.documents * separators
        return Ledger(
            Entry("filter", "documents", self.rows, self.documents, dropped=dict(self.dropped)),
            Entry("tokenize", "documents", self.documents, self.documents),
            Entry("tokenize", "ids", 0, ids, added={"text": ids - ends, "separator": ends}),
            Entry(
                "chunk",
                "ids",
                ids,
                self.in_blocks + self.padding,
                added={"padding": self.padding},
                dropped={"remainder": self.left_over},
            ),
        ).check()


def save_state(state: Any, path: str | Path) -> None:
    """Write a state, or a list of them, as a JSON file with a checksum: whole, or not at all."""
    path = Path(path)
    text = json.dumps(state)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(part, "w", encoding="utf-8") as file:
            file.write(json.dumps({"crc32": zlib.crc32(text.encode()), "state": text}))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read_state(path: str | Path) -> Any:
    """What `save_state` wrote; ValueError naming a file that is cut, changed or of another kind."""
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    try:
        saved = json.loads(text)
        if zlib.crc32(saved["state"].encode()) != saved["crc32"]:
            raise ValueError("its checksum does not match")
        return json.loads(saved["state"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is not a whole state file ({type(error).__name__}: {error}): it was cut or "
            "changed, or save_state did not write it; take an older one, or start anew"
        ) from error


FORMAT = 1


@dataclass(frozen=True)
class State:
    """Where consumer `index` of `number` stands in `epoch`: what is left to read, what is done."""

    made_with: Mapping[str, Any]
    epoch: int
    index: int
    number: int
    pieces: list[Piece]
    done: Counts

    def to_dict(self) -> dict:
        """Numbers and strings alone, in new lists and dicts: later blocks do not change it."""
        return {
            "format": FORMAT,
            "made_with": dict(self.made_with),
            "epoch": self.epoch,
            "consumer": [self.index, self.number],
            "left": [piece.to_list() for piece in self.pieces],
            "done": asdict(self.done),
        }

    @classmethod
    def from_dict(cls, state: Any, counts: type[Counts] = Account) -> State:
        """A state whose account is of the class `counts`.

        Raises ValueError if `state` is not what `to_dict` gives, damaged or of another kind.
        """
        try:
            if state["format"] != FORMAT:
                raise ValueError(f"format {state['format']}, this llmpipe reads {FORMAT}")
            index, number = map(whole_number, state["consumer"])
            pieces = [Piece.from_list(numbers) for numbers in state["left"]]
            done = counts.from_dict(state["done"])
            empty = [p for p in pieces if p.first_lane >= p.stop_lane or (p.id and not p.digest)]
            if not index < number or empty:
                raise ValueError(f"consumer {index} of {number}, left {pieces}")
            epoch = whole_number(state["epoch"])
            return cls(dict(state["made_with"]), epoch, index, number, pieces, done)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(
                f"this is no whole state of a {counts.stream} ({type(error).__name__}: {error}): "
                f"{str(state)[:80]}"
            ) from error


def check_made_with(saved: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Raise ValueError naming both values of all that differs."""
    differences = [
        f"{name} {saved.get(name)!r}, here {here.get(name)!r}"
        for name in {**here, **saved}
        if saved.get(name) != here.get(name)
    ]
    if differences:
        raise ValueError(f"the state was saved with another stream: {'; '.join(differences)}")


def check_pieces(states: list[State], num_lanes: int) -> None:
    """Raise ValueError if a lane is left twice, or is none of `num_lanes`."""
    pieces = sorted(piece for state in states for piece in state.pieces)
    ends = [0, *(piece.stop_lane for piece in pieces)]
    starts = [*(piece.first_lane for piece in pieces), num_lanes]
    if any(start < end for start, end in zip(starts, ends, strict=True)):
        raise ValueError(
            f"the state is damaged: of {num_lanes} lanes it has left {[p[:2] for p in pieces]}"
        )


def collect(states: Any, counts: type[Counts] = Account) -> list[State]:
    """The states of all consumers in order, out of states of streams and of `StatefulDataLoader`s.

    `states` is one of them, or as many as there were ranks. Raises ValueError if one is missing,
    there twice, of another epoch, or behind the batches that its loader had given.
    """
    if isinstance(states, Mapping):
        states = [states]
    found = [State.from_dict(state, counts) for each in states for state in _of_workers(each)]
    if not found:
        raise ValueError("no states to resume from: pass those of all ranks and workers")
    first = found[0]
    for state in found:
        check_made_with(state.made_with, first.made_with)
        if (state.epoch, state.number) != (first.epoch, first.number):
            raise ValueError(
                f"states of one moment are due: one is of epoch {first.epoch} and {first.number} "
                f"consumers, another of epoch {state.epoch} and {state.number}"
            )
    indices = sorted(state.index for state in found)
    if indices != list(range(first.number)):
        raise ValueError(
            f"the states of all {first.number} consumers (workers of ranks) are due once each, "
            f"got those of {indices}"
        )
    return sorted(found, key=lambda state: state.index)


def _of_workers(state: Any) -> Iterable[Any]:
    """The stream's states inside one of torchdata's `StatefulDataLoader`, or the state itself."""
    if not isinstance(state, Mapping):
        return [state]
    if "_snapshot" in state:
        if state.get("_steps_since_snapshot"):
            raise ValueError(
                f"this state is {state['_steps_since_snapshot']} batches behind its loader: take "
                "it with snapshot_every_n_steps=1, or right after a snapshot"
            )
        workers = state["_snapshot"]["_worker_snapshots"].values()
        return [worker["dataset_state"] for worker in workers]
    return [state["dataset_state"]] if "dataset_state" in state else [state]


@dataclass(frozen=True)
class Loaded:
    """States that wait for the next pass: one consumer's own, or those of all to be dealt anew.

    `process` is the one that loaded them.
    """

    states: list[State]
    anew: bool
    process: int

    @property
    def epoch(self) -> int:
        return self.states[0].epoch

    @property
    def is_unread(self) -> bool:
        """Whether something is left: a state at the very end of an epoch holds nobody back."""
        return any(state.pieces for state in self.states)

    def share(self, world: World, lanes: Lanes) -> tuple[list[Piece], Counts]:
        """What is left for one consumer, and the account that its own begins with."""
        states, index, number = self.states, world.consumer_index, world.num_consumers
        for state in states:
            if (state.index, state.number) == (index, number):
                return state.pieces, state.done
        if not self.anew:
            raise ValueError(
                f"the state is of consumer {states[0].index} of {states[0].number}, but this is "
                f"{index} of {number} (workers of ranks): pass the states of all to resume()"
            )
        nothing = type(states[0].done)()
        done = sum((state.done for state in states), nothing) if index == 0 else nothing
        pieces = [piece for state in states for piece in state.pieces]
        return lanes.deal(pieces, index, number), done
