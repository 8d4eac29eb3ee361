"""What every step shares: how it is made from a function."""

from functools import partial

from kfp import dsl

# The image holds the library and kfp, so a step installs nothing when it starts; the graph names
# the image that a run really uses.
step = partial(dsl.component, base_image="mssync:dev", install_kfp_package=False)
