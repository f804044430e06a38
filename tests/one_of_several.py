"""One process of a run of main.py, which may be killed (SIGKILL) before it writes so many batches of activation maps.

    python -m tests.one_of_several BATCHES|never WORD...

The progress is noted after every batch, and no PDFs are drawn. RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT in the
environment say which process of how many it is, as torchrun would; without them it is alone.
"""

import os
import signal
import sys

import main
import store.feature_file
import store.unfinished
import util.ranks
from tests.conftest import without_pdfs
from util.errors import run_script


def die_after(batches):
    add, left = store.feature_file.MapsSlice.add, [batches]

    def counted(*arguments):
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return add(*arguments)

    store.feature_file.MapsSlice.add = counted


if __name__ == "__main__":
    store.unfinished.NOTE_SECONDS = -1
    util.ranks._WAIT = 2  # seconds
    main.REPORTS = without_pdfs(main.REPORTS)
    if sys.argv[1] != "never":
        die_after(int(sys.argv[1]))
    sys.argv = ["main.py", *sys.argv[2:]]
    run_script(main.main, together=True)
