"""Audio-driven talking heads in the 2D-landmark domain: data, training, evaluation, promotion."""

__version__ = "0.1.0"
