"""Documents in, training batches out, in constant memory, resumable at any item.

    parts of a source -> Partition -> Reader -> Processor -> BlockStream -> DataLoader
                         who reads    windows   filter,      rolling
                         what         of rows   tokenize     buffer
                                        |                      |
                                        +-- State: what is left, what became of the rest

A part's bytes are read in `llmpipe.sources.parts`. Read `block_stream` first, then `processor`,
`partition` and `reader`; for resuming `resumable` and `state`; `workers` last, which is about the
processes of a `DataLoader`.
"""
