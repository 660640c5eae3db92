"""Where documents come from.

    a name --open_source--> Source --load----> Dataset or IterableDataset of `datasets`
                              |
                              +----parts---> Parts: numbered, each read alone, window by window

`hub` finds a repository (a `Place`: mirror, cache, hub or sample), `files` reads files, `parts`
numbers what a stream divides, `articles` joins WikiText's rows to whole ones, `source` says which
name means what. Read `source` first.
"""
