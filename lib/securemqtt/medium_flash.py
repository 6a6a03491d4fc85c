"""The journal's medium on MicroPython, a board's flash: there is one process and no other thread.

medium_disk.py is the same on CPython.
"""

import os

# What a journal may take, unless the user says otherwise: it is to leave room on a file system of 1
# MB or so.
JOURNAL_BYTES = 65536
# A segment takes a block; larger ones only where there would be too many.
SEGMENT_BYTES = (4096, 16384)

claim = Alarm = sync_directory = None
make_directory = os.mkdir
