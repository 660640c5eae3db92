"""Labelled text to padded batches: in memory, or in a stream that mixes what is sorted by label.

    texts, labels -> Encoder -> Rows -> ClassificationDataset (+ BucketBatchSampler) -> DataLoader
                     tokenize,    |
                     truncate     +----> interleaved -> ClassificationStream ---------> DataLoader
                                         (rows of several spans in turn)

Read `encoding` first, then `labels` (what counts as a label, and what the ledger says of them) and
`dataset`; for the stream `interleave` and `stream`, after `llmpipe.streaming`.
"""
