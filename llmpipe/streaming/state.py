"""States of a stream: what they hold, whether they belong to it, who goes on with what, and files.

A state says what one consumer has left to read, and what became of all it has read: no ids, and
nothing random. What is open (a window, or a group of labelled rows) is read again on resume.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from llmpipe.arguments import whole_number
from llmpipe.ledger import Ledger
from llmpipe.sharding.world import World, apportion
from llmpipe.streaming.partition import Partition, Span

FORMAT = 2


class OpenGroup(NamedTuple):
    """Rows that are given out in an order of their own: the next `num_rows` rows of `spans`.

    The first `num_given` of that order are out already.
    """

    spans: list[Span]
    num_rows: int
    num_given: int

    @property
    def num_left(self) -> int:
        return self.num_rows - self.num_given

    @classmethod
    def from_list(cls, values: Any) -> OpenGroup:
        """What JSON made of a group. Raises TypeError or ValueError if it is none."""
        spans, num_rows, num_given = values
        if not 0 < whole_number(num_given) < whole_number(num_rows):
            raise ValueError(f"this is no group: {values}")
        return cls([Span.from_list(span) for span in spans], num_rows, num_given)


@dataclass(frozen=True)
class Place:
    """What one consumer has left, and what became of all that it is done with.

    `left` are its spans, after the rows of `groups`, which are replayed first. `done` counts all
    but what is out of the open windows in `left`: that is counted where they are read again.
    Where an epoch is bounded, `num_due` blocks or rows are still to be given.
    """

    left: list[Span]
    done: Ledger
    groups: list[OpenGroup] = field(default_factory=list)
    num_due: int | None = None

    @property
    def is_end(self) -> bool:
        return not self.left and not self.groups


@dataclass(frozen=True)
class State:
    """Where consumer `index` of `number` stands in `epoch` of the stream of this fingerprint."""

    fingerprint: Mapping[str, Any]
    epoch: int
    index: int
    number: int
    place: Place

    def to_dict(self) -> dict:
        """Numbers and strings alone, in new lists and dicts: later items do not change it."""
        place = self.place
        groups = [[[list(span) for span in g.spans], g.num_rows, g.num_given] for g in place.groups]
        return {
            "format": FORMAT,
            "fingerprint": dict(self.fingerprint),
            "epoch": self.epoch,
            "consumer": [self.index, self.number],
            "left": [list(span) for span in place.left],
            **({"groups": groups} if groups else {}),
            **({} if place.num_due is None else {"due": place.num_due}),
            "done": place.done.to_dicts(),
        }

    @classmethod
    def from_dict(cls, state: Any, kind: str) -> State:
        """A state of a stream of this kind, from what `to_dict` gives.

        Raises ValueError if it is damaged or of another kind.
        """
        try:
            if state["format"] != FORMAT:
                raise ValueError(f"format {state['format']}, this llmpipe reads {FORMAT}")
            if state["fingerprint"]["kind"] != kind:
                raise ValueError(f"it is of a {state['fingerprint']['kind']}")
            index, number = map(whole_number, state["consumer"])
            if not index < number:
                raise ValueError(f"consumer {index} of {number}")
            left = [Span.from_list(values) for values in state["left"]]
            groups = [OpenGroup.from_list(values) for values in state.get("groups", ())]
            due = whole_number(state["due"]) if "due" in state else None
            place = Place(left, Ledger.from_dicts(state["done"]), groups, due)
            epoch = whole_number(state["epoch"])
            return cls(dict(state["fingerprint"]), epoch, index, number, place)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(
                f"this is no whole state of a {kind} ({type(error).__name__}: {error}): "
                f"{str(state)[:80]}"
            ) from error


def check_fingerprint(saved: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Raise ValueError naming both values of all that differs."""
    differences = [
        f"{name} {saved.get(name)!r}, here {here.get(name)!r}"
        for name in {**here, **saved}
        if saved.get(name) != here.get(name)
    ]
    if differences:
        raise ValueError(f"the state was saved with another stream: {'; '.join(differences)}")


def check_spans(spans: Iterable[Span], num_shards: int) -> None:
    """Raise ValueError if something is left twice, or in none of `num_shards` virtual shards."""
    overlapping: list[Span] = []
    for span in sorted(spans):
        overlapping = [other for other in overlapping if other.stop_shard > span.first_shard]
        twice = [
            other
            for other in overlapping
            if (not span.stop_window or other.window < span.stop_window)
            and (not other.stop_window or span.window < other.stop_window)
        ]
        if twice or span.stop_shard > num_shards:
            raise ValueError(
                f"the state is damaged: of {num_shards} virtual shards it has left "
                f"{[tuple(each[:4]) for each in (*twice, span)]}"
            )
        overlapping.append(span)


def check_stages(done: Ledger, nothing: Ledger) -> None:
    """Raise ValueError unless a ledger has all entries that one of `nothing` has."""
    there = {(entry.stage, entry.unit) for entry in done}
    missing = [entry.stage for entry in nothing if (entry.stage, entry.unit) not in there]
    if missing:
        raise ValueError(f"the state is damaged: its ledger lacks {', '.join(missing)}")


def collect(states: Any, kind: str) -> list[State]:
    """The states of all consumers in order, out of states of streams and of `StatefulDataLoader`s.

    `states` is one of them, or as many as there were ranks. Raises ValueError if one is missing,
    there twice, of another epoch, or behind the batches that its loader had given.
    """
    if isinstance(states, Mapping):
        states = [states]
    found = [State.from_dict(state, kind) for each in states for state in _of_workers(each)]
    if not found:
        raise ValueError("no states to resume from: pass those of all ranks and workers")
    first = found[0]
    for state in found:
        check_fingerprint(state.fingerprint, first.fingerprint)
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
    """States that wait for the next pass: one consumer's own, or those of all to be redistributed.

    `process` is the one that loaded them.
    """

    states: list[State]
    redistributes: bool
    process: int

    @property
    def epoch(self) -> int:
        return self.states[0].epoch

    @property
    def is_unread(self) -> bool:
        """Whether something is left: a state at the very end of an epoch holds nobody back."""
        return any(not state.place.is_end for state in self.states)

    def place(self, world: World, partition: Partition, nothing: Ledger, batch_size: int) -> Place:
        """Where one consumer begins: where it stood, or with its part of what all had left.

        The first one's ledger is then that of all; the others' begin with `nothing`. What is due
        from all is apportioned, in batches, by what each has left.
        """
        states, index, number = self.states, world.consumer_index, world.num_consumers
        for state in states:
            if (state.index, state.number) == (index, number):
                return state.place
        if not self.redistributes:
            raise ValueError(
                f"the state is of consumer {states[0].index} of {states[0].number}, but this is "
                f"{index} of {number} (workers of ranks): pass the states of all to resume()"
            )
        left = [span for state in states for span in state.place.left]
        groups = [group for state in states for group in state.place.groups]
        done = sum((state.place.done for state in states), nothing) if index == 0 else nothing
        shares = [partition.distribute(left, other, number) for other in range(number)]
        place = Place(shares[index], done, groups[index::number])
        dues = [state.place.num_due for state in states]
        if None in dues:
            return place
        weights = list(map(partition.weight_left, shares))
        weights = next(filter(any, (weights, list(map(len, shares)), [1] * number)))
        rest = sum(dues) - sum(group.num_left for group in groups)
        due = apportion(rest, weights, index, batch_size)
        return replace(place, num_due=due + sum(group.num_left for group in place.groups))


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
