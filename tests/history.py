"""A tracker that keeps what it is told."""

RATES = frozenset({"steps_per_s", "samples_per_s", "left_s"})


class History:
    """Values by step; those that no two runs share apart. It can pull the plug.

    Args:
        killed_at: Step at which logging fails as a Ctrl-C would.
    """

    def __init__(self, killed_at=None):
        self.killed_at = killed_at
        self.values = {}
        self.rates = {}

    def log(self, values, step):
        if step == self.killed_at:
            raise KeyboardInterrupt
        for name, value in values.items():
            kept = self.rates if name.rsplit("/")[-1] in RATES else self.values
            kept.setdefault(step, {})[name] = value
