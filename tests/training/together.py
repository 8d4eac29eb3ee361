"""What `test_together.py` starts under `torchrun`: both trainings, as one of several processes."""

import json
import sys
from pathlib import Path

import torch

from mssync.training.group import joined
from mssync.training.syncers import train_guides
from tests.history import History
from tests.models import small
from tests.training import test_generator, test_syncers


def train(out, group, history):
    """Train a generator and a guide on made-up clips; what they cost goes to `history`."""
    params = test_generator.settings(
        test_generator.EVERY,
        batch=4,
        steps=6,
        ema_decay=0.9,
        validate_every_steps=2,
        checkpoint_every_steps=2,
    )
    guides = [small.syncer(0), small.syncer(1)]
    test_generator.train(
        out, params, guides=guides, val=[test_generator.clip(5)], tracker=history, group=group
    )
    test_syncers.run(
        train_guides,
        test_syncers.made(),
        out,
        tracker=history,
        group=group,
        groups_per_step=2,
        log_every_steps=1,
        augment=True,
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    with joined() as group:
        history = History()
        out = Path(sys.argv[1])
        train(out, group, history)
        (out / f"history-{group.rank}.json").write_text(json.dumps(history.values))
