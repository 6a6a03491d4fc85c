"""`python -m securemqtt_tools.simboard`: what SimulatedBoard starts; the arguments are those of
`securemqtt simboard run`.
"""

import sys

from securemqtt_tools.cli import main

sys.exit(main(["run", *sys.argv[1:]], command="simboard"))
