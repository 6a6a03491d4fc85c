"""One module per command; each has `configure(parser)` and `run(args)`, and what the subcommands of
a large one do is in modules that begin with its name.

`securemqtt_tools.cli` lists them.
"""
