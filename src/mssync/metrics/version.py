"""The version of the definitions of all metrics, in one place.

Raise it when the same motion and sound would get another value: a window, a search range, a set of
points, a reference system. Scores of different versions are not compared (`stages/_gate.py`). New
metrics, and faster code for the same values, need no new version. `tests/metrics/test_version.py`
holds the values of version 1 and fails where they move.
"""

METRIC_VERSION = 1
