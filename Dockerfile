# The image that every step of the pipeline runs in: the library, what it needs, nothing else.
#   make image                                                      CPU
#   docker build --build-arg TORCH_BACKEND=cu130 -t mssync:cu130 .  CUDA 13.0, for the cluster
# BASE_IMAGE    the Python image; for a release name a digest: python@sha256:...
# TORCH_BACKEND a build of torch: cpu, cu130, ...
# TORCH_INDEX   where torch comes from, for a network without PyTorch's own index
#               (https://pypi.org/simple has the CUDA 13.0 build)
# WEIGHTS       fetch: bring face_alignment's weights (190 MB), checked, from where their makers keep
#               them; none: they lie on a volume
# Works with BuildKit from Docker 20.10 on: no `syntax` line, no heredocs, no `COPY --link`.
ARG BASE_IMAGE=python:3.11-slim-bookworm
ARG WEIGHTS=none

FROM ${BASE_IMAGE} AS dependencies
ARG TORCH_BACKEND=cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/${TORCH_BACKEND}
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# Without pip of its own: steps must not install anything.
RUN python -m venv --without-pip /opt/venv
WORKDIR /build
COPY requirements/torch.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/venv/bin/python install --no-deps --index-url "${TORCH_INDEX}" -r torch.txt
COPY requirements.lock ./
# In the end once more torch: its CUDA builds need libraries that no lock names, the CPU build none.
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/venv/bin/python install --no-deps --require-hashes -r requirements.lock \
    && pip --python /opt/venv/bin/python install --index-url "${TORCH_INDEX}" -r torch.txt \
    && rm -rf /opt/venv/lib/python3.11/site-packages/torch/test \
       /opt/venv/lib/python3.11/site-packages/pandas/tests

# The library apart, so that a change of it leaves the large layer alone.
FROM ${BASE_IMAGE} AS library
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY requirements-dev.lock ./
# Of the tools only what builds a wheel.
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv --without-pip /opt/venv \
    && awk '/^[a-z]/ { keep = /^(hatchling|packaging|pathspec|pluggy|trove-classifiers)==/ } keep' \
       requirements-dev.lock >build.lock \
    && pip install --no-deps --require-hashes -r build.lock
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip wheel --no-deps --no-build-isolation --no-cache-dir --wheel-dir dist . \
    && pip --python /opt/venv/bin/python install --no-cache-dir --no-deps --no-index \
       --root /library dist/*.whl

FROM ${BASE_IMAGE} AS weights-none
RUN mkdir -p /opt/weights

FROM ${BASE_IMAGE} AS weights-fetch
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=library /library/opt/venv /opt/venv
RUN /opt/venv/bin/mssync weights --fetch --folder /opt/weights

# hadolint ignore=DL3006
FROM weights-${WEIGHTS} AS weights

# What is in the image: Python's packages (CycloneDX), and Debian's by name, version and source.
FROM ${BASE_IMAGE} AS sbom
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY requirements/sbom.lock ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /build/venv \
    && /build/venv/bin/pip install --no-deps --require-hashes -r sbom.lock
COPY --from=dependencies /opt/venv /opt/venv
RUN mkdir /opt/sbom \
    && /build/venv/bin/cyclonedx-py environment --output-reproducible --of JSON \
       --output-file /opt/sbom/python.cdx.json /opt/venv \
    && dpkg-query --show --showformat '${Package}\t${Version}\t${source:Package}\t${Architecture}\n' \
       >/opt/sbom/debian.tsv

FROM ${BASE_IMAGE}
# Any user of group 0 may write here, and a mounted volume may take its place.
WORKDIR /workspace
RUN chmod 0775 /workspace
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=weights /opt/weights /opt/weights
COPY --from=sbom /opt/sbom /opt/sbom
COPY --from=library /library/opt/venv /opt/venv
# A cluster gives an arbitrary user id, which has no name and no home; only /tmp and volumes can be
# written. getpass.getuser() reads LOGNAME.
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/tmp \
    LOGNAME=mssync \
    USER=mssync \
    XDG_CACHE_HOME=/tmp/.cache \
    MPLCONFIGDIR=/tmp/.cache/matplotlib \
    NUMBA_CACHE_DIR=/tmp/.cache/numba \
    TORCH_HOME=/tmp/.cache/torch \
    MSSYNC_MEDIA=/workspace/media \
    MSSYNC_WEIGHTS=/opt/weights \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    DVC_NO_ANALYTICS=1 \
    DVC_SITE_CACHE_DIR=/tmp/.cache/dvc \
    GIT_PYTHON_REFRESH=quiet
USER 10001:0
# Not ENTRYPOINT: Kubeflow's local runner puts its command after one.
CMD ["mssync", "--help"]
# Last, because they change with every commit.
ARG GIT_SHA=unknown
ARG GIT_DIRTY=unknown
ENV MSSYNC_GIT_SHA=${GIT_SHA} MSSYNC_GIT_DIRTY=${GIT_DIRTY}
LABEL org.opencontainers.image.title=mssync \
      org.opencontainers.image.licenses=Apache-2.0 \
      org.opencontainers.image.revision=${GIT_SHA}
