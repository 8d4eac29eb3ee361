"""The chain as a Kubeflow pipeline: its graph, what its steps need, and how it is run."""
