"""Where documents come from.

    a name --open_source--> Source --load----> Dataset or IterableDataset of `datasets`
                              |
                              +----parts---> Parts: numbered, each read alone, window by window

`hub` finds a repository (a `Place`: mirror, cache, hub or sample), `files` the files of a path.
`parts` numbers what a stream divides (Parquet, a `Dataset`, the sample), `lines` files of text that
`formats` reads; `articles` joins WikiText's rows to whole ones. `guards` sees that a file stays
what it was, and fits into the memory. `loading` makes data sets of the same parts; `source` says
which name means what. Read `source` first.
"""
