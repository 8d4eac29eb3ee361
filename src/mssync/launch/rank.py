"""What `torchrun` starts: `torchrun -m mssync.launch.rank ORDER`.

Every process is a step of its own, `<step>/rank-<n>`, so that its failure has a report.
"""

import os
import sys
from pathlib import Path

from mssync import log, steps
from mssync.launch.order import Order, work
from mssync.workers import die_with


def main(order_file: str) -> None:
    """Work on an order as the process that `$RANK` says.

    Raises:
        SystemExit: If it fails.
    """
    die_with(os.getppid())  # as early as can be: a group does so, too
    rank = os.environ.get("RANK", "0")
    # what all have to say, the first one says
    log.set_up(None if rank == "0" or "MSSYNC_LOG" in os.environ else "WARNING")
    order = Order.read(Path(order_file))
    with steps.step(f"{order.stage}/rank-{rank}", order.workspace):
        work(order)


if __name__ == "__main__":
    main(sys.argv[1])
