"""One module per command; each has `configure(parser)` and `run(args)`.

`securemqtt_tools.cli` lists them.
"""
