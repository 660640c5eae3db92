"""Documents in, training batches out, in constant memory, resumable at any item.

    parts of a source -> Partition -> Reader -> Processor -> BlockStream -> DataLoader
                         who reads    windows   filter,      rolling
                         what         of rows   tokenize     buffer
                                        |                      |
                                        +-- State: what is left, what became of the rest

A part's bytes are read in `llmpipe.sources.parts`. Read `block_stream` first, then `processor`,
`partition` and `reader`; for resuming `resumable` and `state`; `workers` last, which is about the
processes of a `DataLoader`.

Clients, as tried with transformers 5.23, accelerate 1.15, torchdata 0.11, Lightning 2.6 and torch
2.13, in one process and two, without workers and with two (tests/test_clients.py): every block of
three epochs, and from a checkpoint in any of them the very suffix. In several processes only one
may shard: the stream (`rank`, `world_size`) or the client. If both do, one document in `world_size`
is trained on, and nothing says so.

- `Trainer` shards itself: leave `world_size` at 1. Give `num_blocks`, without which it takes all of
  `max_steps` for one epoch and resumes a later one at its beginning. It resumes by reading again
  and skipping. It makes its batches of single blocks: a collator of its own would put a stream's
  batches into batches, and nothing would refuse them.
- `accelerate.prepare(loader)` shards too. By its own rule process 0 reads for all and hands out a
  batch each (`dispatch_batches`), else each reads all and keeps its own; of the first blocks some
  come twice to make the end even, unless batches are a multiple of processes. It reads a batch
  ahead, so the stream's own state is late: resume with `skip_first_batches` and `set_epoch`, or
  take the loader's state (`use_stateful_dataloader=True`, in several processes with
  `dispatch_batches=False`, since a dispatcher's is a batch late) and set `loader.iteration` to the
  epoch. A stream of whole batches (`DataLoader(stream, batch_size=None)`) works where it
  dispatches; with `dispatch_batches=False` in several processes accelerate needs a batch size of
  the loader.
- `StatefulDataLoader` and plain loaders: let the stream shard. Shares differ in length without
  `num_blocks`: then stop all ranks at one step, or train within torch's `Join([model])`. A state of
  the loader (of a plain loader without workers: of the stream) resumes; call `set_epoch` before
  each pass.
- Lightning: let the stream shard (`use_distributed_sampler=False`), give `num_blocks` and a
  `StatefulDataLoader`: without a length it reads a batch ahead, and resumes one late. It calls
  `set_epoch` of samplers alone, which a stream has none of: without workers the stream counts its
  epochs itself, with workers a callback has to,
  `trainer.train_dataloader.dataset.set_epoch(trainer.current_epoch)` in `on_train_epoch_start`.
  Its checkpoint keeps the loader's state of rank 0 for all ranks, which the others refuse: in
  several processes give it a loader whose `state_dict` gathers those of all ranks
  (`torch.distributed.all_gather_object`), and whose `load_state_dict` takes the rank's own.

A worker that is killed is an error with its pid. One that is stopped (SIGSTOP) is an error after
the loader's `timeout=` if batches go through files, `torch.multiprocessing.set_sharing_strategy(
"file_system")`; else torch may wait for ever for the stopped worker to hand over a batch.
"""
