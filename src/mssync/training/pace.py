"""How fast a training goes, and when it will be over."""

import time


class Pace:
    """Steps and samples per second since the last report, and the time that is left.

    Args:
        done: Steps made before now.
        steps: Steps in all.
        samples: Samples in a step, over all processes.
    """

    def __init__(self, done: int, steps: int, samples: int) -> None:
        self._first, self._steps, self._samples = done, steps, samples
        self._last = done
        self._start_s = self._last_s = time.monotonic()

    def at(self, done: int) -> dict[str, float]:
        """Rates since the last call, the time left at the mean rate.

        Args:
            done: Steps made by now, more than at the last call.

        Returns:
            `steps_per_s`, `samples_per_s`, `left_s`.
        """
        now_s = time.monotonic()
        elapsed_s = max(now_s - self._last_s, 1e-9)
        per_s = (done - self._last) / elapsed_s
        mean_per_s = (done - self._first) / max(now_s - self._start_s, 1e-9)
        self._last, self._last_s = done, now_s
        return {
            "steps_per_s": per_s,
            "samples_per_s": per_s * self._samples,
            "left_s": (self._steps - done) / max(mean_per_s, 1e-9),
        }


def duration(seconds: float) -> str:
    """Seconds for a reader: `42 s`, `3 min 07 s`, `5 h 12 min`."""
    minutes, rest_s = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_left:02d} min"
    return f"{minutes} min {rest_s:02d} s" if minutes else f"{rest_s} s"
