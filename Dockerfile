# syntax=docker/dockerfile:1

# --- build: a virtual environment with the locked dependencies and the project's wheel
FROM python:3.12-slim AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONDONTWRITEBYTECODE=1

WORKDIR /src

# Install the dependencies first, so a change of the code does not reinstall them.
COPY requirements.lock requirements-build.lock ./
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes --requirement requirements-build.lock \
    && python -m venv /opt/gibsey \
    && /opt/gibsey/bin/pip install --require-hashes --only-binary :all: --requirement requirements.lock

COPY pyproject.toml README.md LICENSE ./
COPY dataflow/ dataflow/
COPY connectors/ connectors/
COPY gibsey_embedder/ gibsey_embedder/
RUN /opt/build/bin/python -m hatchling build --target wheel --directory /tmp/wheel \
    && /opt/gibsey/bin/pip install --no-deps /tmp/wheel/*.whl \
    && /opt/gibsey/bin/python -m compileall -q /opt/gibsey/lib \
    # The image does not need pip.
    && rm -rf /opt/gibsey/bin/pip* /opt/gibsey/lib/python3*/site-packages/pip /opt/gibsey/lib/python3*/site-packages/pip-* \
        /opt/gibsey/lib/python3*/site-packages/setuptools* /opt/gibsey/lib/python3*/site-packages/pkg_resources

# --- the image: Python, the environment, an unprivileged user
FROM python:3.12-slim

# `make image` sets both. pyproject.toml defines the version.
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="gibsey-embedder" \
      org.opencontainers.image.description="Turns page changes from Kafka into embeddings in Cassandra, and notifies the RAG service." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

RUN groupadd --system --gid 10001 gibsey \
    && useradd --system --uid 10001 --gid 10001 --home-dir /data --shell /usr/sbin/nologin gibsey \
    && mkdir -p /data/recovery \
    && chown -R 10001:10001 /data

COPY --from=build /opt/gibsey /opt/gibsey

# STATUS_HOST: clients connect to the status port from outside the container.
ENV PATH=/opt/gibsey/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    STATUS_HOST=0.0.0.0 \
    RECOVERY_DIR=/data/recovery

USER 10001:10001
WORKDIR /data
# The program writes only here, so the root file system may be read-only.
VOLUME /data
EXPOSE 6066
STOPSIGNAL SIGTERM

HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; p = os.environ.get('STATUS_PORT', '6066'); p == '0' or r.urlopen(f'http://127.0.0.1:{p}/healthz', timeout=4)"]

ENTRYPOINT ["gibsey-embedder"]
CMD ["run"]
