"""Faces and their 68 points: detectors behind one protocol, pure geometry and tracks."""
