"""What runs a classroom; it imports the core, never the other way.

`exercises` mark themselves, `bugs` can be switched on, `plots` and the `monitor` show, `ranks` run,
`bench` measures, the `server` is the hub of a room without a network, `notebooks` saves outputs.
"""
