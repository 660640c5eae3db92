"""What the processes of the training tests run: it lies in a module, so that each can import it."""

import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path

import torch
from datasets import Dataset
from stream_tools import NumberTokenizer, numbered
from torch.utils.data import DataLoader

from llmpipe import BlockStream

BLOCK_SIZE = 4
NUM_IDS = 1024  # of the model: blocks are numbered from 0 to 255
NAMES = ("input_ids", "labels", "attention_mask")


class SmallTokenizer(NumberTokenizer):
    vocab_size, pad_id = NUM_IDS, NUM_IDS - 1


def block_stream(num_blocks, **options):
    """One document a block, so that whoever sees an id knows the number of its block."""
    return stream_of([BLOCK_SIZE] * num_blocks, **options)


def stream_of(lengths, **options):
    dataset = Dataset.from_dict({"text": numbered(lengths)})
    return BlockStream(dataset, SmallTokenizer(), BLOCK_SIZE, **options)


def block_numbers(batch):
    return (batch["input_ids"].reshape(-1, BLOCK_SIZE)[:, 0] // BLOCK_SIZE).tolist()


def epoch_batches(epoch, num_blocks, batch_size=2, **options):
    """The batches of one epoch by torch's own loader: what is due."""
    stream = block_stream(num_blocks, **options)
    stream.set_epoch(epoch)
    return [block_numbers(batch) for batch in DataLoader(stream, batch_size=batch_size)]


def watched_model():
    """A small GPT-2 without dropout, and the list of what its `forward` is given."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    sizes = {"vocab_size": NUM_IDS, "n_positions": 8, "n_embd": 8, "n_layer": 1, "n_head": 1}
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    drops = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    model = GPT2LMHeadModel(GPT2Config(**sizes, **ends, **drops))
    given = []

    def note(module, args, kwargs):
        given.append({name: kwargs[name].clone() for name in kwargs if name in NAMES})

    model.register_forward_pre_hook(note, with_kwargs=True)
    return model, given


def weights_of(model):
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach().numpy()


def trainer_arguments(folder, num_steps, batch_size=2, **options):
    from transformers import TrainingArguments

    defaults = {"save_strategy": "no", "optim": "sgd", "learning_rate": 0.1, "report_to": []}
    return TrainingArguments(
        str(folder),
        max_steps=num_steps,
        per_device_train_batch_size=batch_size,
        use_cpu=True,
        disable_tqdm=True,
        ddp_find_unused_parameters=False,
        **{**defaults, **options},
    )


def trainer_with_own_loader():
    """A Trainer whose loader `accelerate` does not touch: the stream shards, or one process runs.

    It moves the stream on to the next epoch itself, since no prepared loader does.
    """
    from transformers import Trainer, TrainerCallback

    class NextEpoch(TrainerCallback):
        def on_epoch_end(self, args, state, control, train_dataloader, **kwargs):
            stream = train_dataloader.dataset
            stream.set_epoch(stream.epoch + 1)

    class OwnLoaderTrainer(Trainer):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.add_callback(NextEpoch())

        def get_train_dataloader(self):
            size = self.args.per_device_train_batch_size
            return DataLoader(self.train_dataset, batch_size=size)

    return OwnLoaderTrainer


def trained_by_trainer(stream, arguments, own_loader=False, callbacks=None, **options):
    """What the model was given, batch by batch, and its weights at the end."""
    from transformers import Trainer

    model, given = watched_model()
    kind = trainer_with_own_loader() if own_loader else Trainer
    trainer = kind(model=model, args=arguments, train_dataset=stream, callbacks=callbacks)
    trainer.train(**options)
    return given, weights_of(model)


def prepared_loader(stream, batch_size=2, num_workers=0, **config):
    from accelerate import Accelerator
    from accelerate.utils import DataLoaderConfiguration

    accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(**config))
    return accelerator.prepare(DataLoader(stream, batch_size=batch_size, num_workers=num_workers))


def trained_by_accelerate(stream, batch_size=2, num_steps=2, own_loader=False):
    """As the documentation of `accelerate` trains; `num_steps=None` trains to the stream's end."""
    from accelerate import Accelerator
    from torch.distributed.algorithms.join import Join

    accelerator = Accelerator(cpu=True)
    model, given = watched_model()
    loader = DataLoader(stream, batch_size=batch_size)
    ready, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), 0.1))
    if not own_loader:
        loader = accelerator.prepare(loader)
    # A share may be a batch longer than another's: `Join` answers for the ranks that are through.
    with Join([ready]) if own_loader and num_steps is None else nullcontext():
        for step, batch in enumerate(loader):
            if step == num_steps:
                break
            loss = ready(**batch).loss
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
    return given, weights_of(model)


# Jobs of `run_ranks`


def become_process(world, port):
    """Set what a launcher such as torchrun sets."""
    os.environ.update(
        RANK=str(world.rank),
        LOCAL_RANK=str(world.rank),
        WORLD_SIZE=str(world.world_size),
        LOCAL_WORLD_SIZE=str(world.world_size),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        ACCELERATE_USE_CPU="true",
    )
    torch.set_num_threads(1)


def share_of(world, both):
    return {"rank": world.rank, "world_size": world.world_size} if both else {}


def passes_of_prepared_loaders(world, send, port, cases, num_passes=1):
    """The batches of one process, by case: (number of blocks, both shard, options, config)."""
    become_process(world, port)
    results = []
    for num_blocks, both, options, config in cases:
        stream = block_stream(num_blocks, **options, **share_of(world, both))
        size = None if stream.batch_size else 2
        loader = prepared_loader(stream, size, **config)
        results.append([[block_numbers(batch) for batch in loader] for _ in range(num_passes)])
    return results


def steps_of_accelerate(world, send, port, cases):
    """Training by case: (number of blocks, number of steps, whether the stream shards)."""
    become_process(world, port)
    results = []
    for num_blocks, num_steps, own in cases:
        stream = block_stream(num_blocks, **share_of(world, own))
        given, weights = trained_by_accelerate(stream, num_steps=num_steps, own_loader=own)
        results.append(([block_numbers(batch) for batch in given], weights))
    return results


def steps_of_trainer(world, send, port, folder, cases):
    """Training by case: (number of blocks, steps, stream shards, own loader, config)."""
    become_process(world, port)
    results = []
    for num_blocks, num_steps, shards, own_loader, config in cases:
        arguments = trainer_arguments(folder, num_steps, accelerator_config=config)
        stream = block_stream(num_blocks, **share_of(world, shards))
        given, weights = trained_by_trainer(stream, arguments, own_loader)
        results.append(([block_numbers(batch) for batch in given], weights))
    return results


def resumed_loaders(world, send, port, num_blocks, config):
    """A pass of a prepared stateful loader, and what loaders resumed at its batches then give."""
    become_process(world, port)

    def loader():
        stream = block_stream(num_blocks, shuffle=True)
        return prepared_loader(stream, use_stateful_dataloader=True, **config)

    first, batches, states = loader(), [], []
    for batch in first:
        batches.append(block_numbers(batch))
        states.append(json.loads(json.dumps(first.state_dict())))
    rests = []
    for state in states[:-1]:
        second = loader()
        second.load_state_dict(state)
        rests.append([block_numbers(batch) for batch in second])
    return batches, rests


def main(folder):
    """The script that a launcher starts: two steps, the stream sharded by `accelerate`."""
    given, weights = trained_by_accelerate(block_stream(11))
    found = {"numbers": [block_numbers(batch) for batch in given], "weights": weights.tolist()}
    Path(folder, f"{os.environ['RANK']}.json").write_text(json.dumps(found))
    # Together: a rank whose peer has gone may abort while it ends.
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
