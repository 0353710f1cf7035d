# D3's service in one image for CPU and CUDA: PyPI's torch for Linux includes the CUDA
# libraries and also runs without a GPU. To use one: docker run --gpus all, with NVIDIA's container
# toolkit.
ARG PYTHON_IMAGE=python:3.12-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/d3
# The dependencies change less often than D3, so they have their own layer of several gigabytes.
COPY pyproject.toml ./
RUN python3 -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*project['dependencies'], sep='\n')" > needs.txt \
    && /opt/d3/bin/pip install --requirement needs.txt
COPY README.md LICENSE ./
COPY src ./src
RUN /opt/d3/bin/pip install --no-deps . && /opt/d3/bin/d3 --version

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="D3" \
      org.opencontainers.image.description="Tells whether an image was made or altered by a generator" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin d3 \
    && install --directory --owner=d3 --group=d3 /data
COPY --from=build /opt/d3 /opt/d3
ENV PATH=/opt/d3/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    D3_HOME=/data \
    D3_HOST=0.0.0.0 \
    D3_PORT=5000 \
    D3_LOG_FORMAT=json \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER d3
WORKDIR /data
VOLUME /data
EXPOSE 5000
STOPSIGNAL SIGTERM
# The first start may download a model of several gigabytes before it can answer.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 \
    CMD ["python3", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['D3_PORT'] + '/health/ready', timeout=4)"]
ENTRYPOINT ["d3"]
CMD ["serve"]
