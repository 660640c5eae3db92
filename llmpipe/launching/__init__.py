"""One process a rank: start them, listen to them, and stop all of them once one has failed.

    parent -- starts --> fork server -- forks --> rank 0, rank 1, ...
    parent -- assignment: environment, job, arguments ----> each rank, by a pipe of its own
    parent <-- heartbeats, messages, log records, result -- each rank, by a pipe of its own

`run_ranks` returns the ranks' results or raises `RankError`; `EvenBatches` and `process_group` are
for ranks that wait for each other. Read `launch`, `start`, `rank`, then `distributed`.
"""
