"""Run one ``freqtrade`` command here and write its cost: ``python -m benchmarks.child FILE ARGUMENTS``.

The peak is this process's own, read at its very end. A parent's accounting of its children also counts the
parent's memory at the moment of the fork.
"""

from __future__ import annotations

import atexit
import json
import re
import resource
import sys
import time
from pathlib import Path


def peak_bytes() -> int:
    """Return the largest resident size of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="ascii"))
        if found:
            return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _write(path: Path) -> None:
    path.write_text(json.dumps({"peak": peak_bytes(), "cpu": time.process_time()}), encoding="ascii")


if __name__ == "__main__":
    # Registered first, so it runs last: what is written at exit is counted too.
    atexit.register(_write, Path(sys.argv[1]))
    from freqtrade.main import main

    main(sys.argv[2:])
