"""Kubeflow steps: one thin file per stage, around the function of the same name."""
