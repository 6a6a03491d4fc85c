"""`python -m securemqtt_tools.broker.embedded DIRECTORY`: the embedded broker as a process."""

import sys

from securemqtt_tools.broker.embedded.server import main

sys.exit(main(sys.argv[1:]))
