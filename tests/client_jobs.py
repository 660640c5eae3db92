"""Whole runs of every client that trains from a stream, and what they give when they resume.

A run is three epochs; `train` returns the ids of every batch that the model of one process is
given, and saves a checkpoint after each of `save_at` steps, or goes on from the one of `resume_at`.
"""

import json
import multiprocessing
import os
import random
from functools import cache
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from training_jobs import become_process

from llmpipe import BlockStream, load_tokenizer

BLOCK_SIZE, BATCH_SIZE, NUM_BLOCKS, NUM_EPOCHS = 32, 4, 96, 3
WORDS = "a river of small stones ran past the mill Zoë's 1,024 über-slow"


class Case(NamedTuple):
    client: str
    num_workers: int
    shuffle: bool
    accumulation: int


def texts():
    """1,500 documents, two parts of a `Dataset`; some are empty."""
    chooser = random.Random(14)
    return [" ".join(chooser.choices(WORDS.split(), k=chooser.randrange(4))) for _ in range(1500)]


def stream_for(case, world):
    """Where `Trainer` or `accelerate` shards, the stream is whole."""
    own = {} if case.client.startswith(("trainer", "accelerate")) else place_of(world)
    documents, tokenizer = Dataset.from_dict({"text": texts()}), gpt2()
    options = {"num_blocks": NUM_BLOCKS, "shuffle": case.shuffle, **own}
    return BlockStream(documents, tokenizer, BLOCK_SIZE, **options)


@cache
def gpt2():
    return load_tokenizer("gpt2")


def place_of(world):
    return {"rank": world.rank, "world_size": world.world_size}


class Model(torch.nn.Module):
    """A few hundred parameters that keep what they are given."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = torch.nn.Embedding(64, 4), torch.nn.Linear(4, 1)
        self.given = []

    def forward(self, input_ids, labels=None):
        self.given.append(input_ids.tolist())
        return {"loss": self.head(self.embedding(input_ids % 64)).square().mean()}


def by_trainer(case, run, **config):
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Save(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_save = state.global_step in run.save_at

    arguments = TrainingArguments(
        str(run.folder),
        num_train_epochs=NUM_EPOCHS,
        per_device_train_batch_size=BATCH_SIZE,
        gradient_accumulation_steps=case.accumulation,
        dataloader_num_workers=case.num_workers,
        accelerator_config=config,
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        report_to=[],
    )
    model = Model()
    trainer = Trainer(model, arguments, train_dataset=run.stream, callbacks=[Save()])
    checkpoint = run.resume_at and str(run.folder / f"checkpoint-{run.resume_at}")
    trainer.train(resume_from_checkpoint=checkpoint)
    return model.given


def by_accelerate(case, run, use_stateful_dataloader=False, **config):
    from accelerate import Accelerator
    from accelerate.utils import DataLoaderConfiguration

    config = DataLoaderConfiguration(use_stateful_dataloader=use_stateful_dataloader, **config)
    accelerator = Accelerator(
        cpu=True, dataloader_config=config, gradient_accumulation_steps=case.accumulation
    )
    model = Model()
    plain = DataLoader(run.stream, batch_size=BATCH_SIZE, num_workers=case.num_workers)
    ready, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), 0.1))
    loader = accelerator.prepare(plain)
    first, skipped = divmod((run.resume_at or 0) * case.accumulation, len(loader))
    if run.resume_at and use_stateful_dataloader:
        loader.load_state_dict(run.read())
        loader.iteration = first
    for epoch in range(first, NUM_EPOCHS):
        batches = loader
        if skipped and not use_stateful_dataloader:
            batches = accelerator.skip_first_batches(loader, skipped)
        batches.set_epoch(epoch)
        skipped = 0
        for batch in batches:
            with accelerator.accumulate(ready):
                accelerator.backward(ready(**batch)["loss"])
                optimizer.step()
                optimizer.zero_grad()
            run.save(len(model.given), case, loader if use_stateful_dataloader else None)
    return model.given


def by_stateful_loader(case, run):
    from torchdata.stateful_dataloader import StatefulDataLoader

    loader = StatefulDataLoader(run.stream, BATCH_SIZE, num_workers=case.num_workers)
    if run.resume_at:
        loader.load_state_dict(run.read())
    given = []
    for epoch in range(first_epoch(case, run, loader), NUM_EPOCHS):
        run.stream.set_epoch(epoch)
        for batch in loader:
            given.append(batch["input_ids"].tolist())
            run.save(len(given), case, loader)
    return given


def by_plain_loader(case, run):
    """The stream has its state where it is read in this process; workers read again and skip."""
    loader = DataLoader(run.stream, BATCH_SIZE, num_workers=case.num_workers)
    skipped = 0
    if run.resume_at and case.num_workers:
        skipped = run.resume_at * case.accumulation % len(loader)
    elif run.resume_at:
        run.stream.load_state_dict(run.read())
    given = []
    for epoch in range(first_epoch(case, run, loader), NUM_EPOCHS):
        run.stream.set_epoch(epoch)
        for batch in islice(loader, skipped, None):
            given.append(batch["input_ids"].tolist())
            run.save(len(given), case, None if case.num_workers else run.stream)
        skipped = 0
    return given


def first_epoch(case, run, loader):
    return (run.resume_at or 0) * case.accumulation // len(loader)


def by_lightning(case, run):
    """In workers somebody has to call `set_epoch`; in one process the stream counts for itself."""
    import pytorch_lightning as lightning
    from pytorch_lightning.plugins.environments import LightningEnvironment
    from torchdata.stateful_dataloader import StatefulDataLoader

    class LoaderOfAllRanks(StatefulDataLoader):
        """Lightning asks all ranks for their state, and keeps that of rank 0 for all of them."""

        def state_dict(self):
            states = [None] * run.world.world_size
            torch.distributed.all_gather_object(states, super().state_dict())
            return {"ranks": states}

        def load_state_dict(self, state):
            super().load_state_dict(state["ranks"][run.world.rank])

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = Model()

        def training_step(self, batch):
            return self.model(**batch)["loss"]

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    class Save(lightning.Callback):
        def on_train_batch_end(self, trainer, *args):
            file = run.folder / f"{trainer.global_step}.ckpt"
            if trainer.global_step in run.save_at and not file.exists():
                trainer.save_checkpoint(file)

    class SetEpoch(lightning.Callback):
        def on_train_epoch_start(self, trainer, module):
            trainer.train_dataloader.dataset.set_epoch(trainer.current_epoch)

    trainer = lightning.Trainer(
        max_epochs=NUM_EPOCHS,
        accelerator="cpu",
        devices=run.world.world_size,
        strategy="ddp" if run.world.world_size > 1 else "auto",
        plugins=[LightningEnvironment()] if run.world.world_size > 1 else None,
        accumulate_grad_batches=case.accumulation,
        use_distributed_sampler=False,
        callbacks=[Save(), *([SetEpoch()] if case.num_workers else [])],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = Module()
    kind = LoaderOfAllRanks if run.world.world_size > 1 else StatefulDataLoader
    loader = kind(run.stream, BATCH_SIZE, num_workers=case.num_workers)
    checkpoint = run.resume_at and str(run.folder / f"{run.resume_at}.ckpt")
    trainer.fit(module, loader, ckpt_path=checkpoint, weights_only=False)
    return module.model.given


CLIENTS = {
    "trainer": by_trainer,
    "trainer, undispatched": lambda case, run: by_trainer(case, run, dispatch_batches=False),
    "accelerate": by_accelerate,
    "accelerate, stateful": lambda case, run: by_accelerate(
        case, run, use_stateful_dataloader=True, dispatch_batches=False
    ),
    "stateful loader": by_stateful_loader,
    "plain loader": by_plain_loader,
    "lightning": by_lightning,
}


class Run(SimpleNamespace):
    """A run of one process: its `stream` and `folder`, where it saves, and where it resumes."""

    def file(self, step):
        return self.folder / f"{step}-of-rank-{self.world.rank}.json"

    def save(self, num_batches, case, stateful):
        """After so many batches; they are counted from where the run began."""
        step, between = divmod(num_batches, case.accumulation)
        if stateful and not between and step in self.save_at:
            self.file(step).write_text(json.dumps(stateful.state_dict()))

    def read(self):
        return json.loads(self.file(self.resume_at).read_text())


def train(world, send, port, folder, case_runs):
    """What the model was given, for each (case, steps to save at, step to resume at or None)."""
    torch.set_num_threads(1)
    # As in a script. A rank's own default is a fork server, which imports torch for every worker.
    multiprocessing.set_start_method("fork", force=True)
    if world.world_size > 1:
        become_process(world, port)
        os.environ.update(NODE_RANK="0")
    found = []
    for number, (case, save_at, resume_at) in enumerate(case_runs):
        own = Path(folder, f"{case.client}-{case.num_workers}-{case.shuffle}-{case.accumulation}")
        own.mkdir(parents=True, exist_ok=True)
        run = Run(world=world, folder=own, save_at=save_at, resume_at=resume_at)
        run.stream = stream_for(case, world)
        found.append(CLIENTS[case.client](case, run))
        send(number)  # it is alive
    return found
