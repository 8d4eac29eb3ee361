"""What a cluster needs besides Kubeflow, and how to check it without one."""
