# D3's service. `docker build .` makes the image for processors, `docker build --build-arg TORCH=cuda .`
# the one for NVIDIA's GPUs. It needs BuildKit, Docker's builder since 23. docs/howto/images.md
# explains the arguments.
ARG PYTHON_IMAGE=python:3.12-slim-bookworm
ARG TORCH=cpu

# What to install, in files that change only with it: a new line elsewhere in pyproject.toml must
# not download torch again.
FROM ${PYTHON_IMAGE} AS requirements
WORKDIR /src
ARG TORCH
ARG TORCH_VERSION=
ARG TORCHVISION_VERSION=
ARG EXTRAS=
COPY pyproject.toml requirements.lock ./
COPY deploy/image ./deploy/image
RUN python3 deploy/image/requirements.py "${TORCH}" "${EXTRAS}" /requirements

FROM ${PYTHON_IMAGE} AS tools
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy
COPY --from=requirements /requirements/uv.txt /requirements/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -m venv /opt/uv \
    && /opt/uv/bin/pip install --no-cache-dir --require-hashes --requirement /requirements/uv.txt

# PyTorch's index for processors leaves the CUDA libraries out, five sixths of the installation.
# With TORCH=cuda, torch.txt is empty, and torch comes from PyPI with all else.
FROM tools AS needs
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN python3 -m venv --without-pip /opt/d3
COPY --from=requirements /requirements/torch.txt /requirements/
RUN --mount=type=secret,id=uv.toml,target=/etc/uv/uv.toml \
    --mount=type=cache,target=/root/.cache/uv \
    /opt/uv/bin/uv pip install --python /opt/d3/bin/python --no-deps \
        --default-index "${TORCH_INDEX}" --requirement /requirements/torch.txt
COPY --from=requirements /requirements/needs.txt /requirements/lock.txt /requirements/
RUN --mount=type=secret,id=uv.toml,target=/etc/uv/uv.toml \
    --mount=type=cache,target=/root/.cache/uv \
    /opt/uv/bin/uv pip install --python /opt/d3/bin/python \
        --constraint /requirements/lock.txt --requirement /requirements/needs.txt \
    && /opt/uv/bin/uv pip check --python /opt/d3/bin/python
# torch's own tests, and headers for a compiler that is not there: 150 MB.
RUN rm -rf /opt/d3/lib/python3.*/site-packages/torch/test \
        /opt/d3/lib/python3.*/site-packages/torch/include

FROM tools AS wheel
COPY --from=requirements /requirements/build.txt /requirements/lock.txt /requirements/
RUN --mount=type=secret,id=uv.toml,target=/etc/uv/uv.toml \
    --mount=type=cache,target=/root/.cache/uv \
    /opt/uv/bin/uv pip install --python /opt/uv/bin/python \
        --constraint /requirements/lock.txt --requirement /requirements/build.txt
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN /opt/uv/bin/uv build --python /opt/uv/bin/python --no-build-isolation --wheel --out-dir /wheel

# The dependencies are one layer, D3 another: a new D3 is a layer of some megabytes.
FROM ${PYTHON_IMAGE} AS installed
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin d3 \
    && install --directory --owner=d3 --group=d3 /data
COPY --from=needs /opt/d3 /opt/d3
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    --mount=type=bind,from=wheel,source=/opt/uv,target=/opt/uv \
    /opt/uv/bin/uv pip install --python /opt/d3/bin/python --offline --no-cache --no-deps \
        --compile-bytecode --link-mode=copy /wheel/*.whl

FROM installed AS bill
ARG VERSION=
COPY deploy/image ./deploy/image
RUN --mount=type=bind,from=wheel,source=/opt/uv,target=/opt/uv \
    /opt/uv/bin/cyclonedx-py environment --output-reproducible --output-file /sbom.json \
        /opt/d3/bin/python \
    && python3 deploy/image/bill.py /sbom.json
# A label must not tell of another version than the one inside.
RUN found=$(/opt/d3/bin/python -c "import d3; print(d3.__version__)") \
    && if [ -n "${VERSION}" ] && [ "${VERSION}" != "${found}" ]; then \
        echo "VERSION=${VERSION}, but this is D3 ${found}" >&2; exit 1; fi

FROM installed
COPY --from=bill /sbom.json /usr/share/doc/d3/sbom.json
ARG TORCH
ARG VERSION=
ARG REVISION=
ARG CREATED=
ARG SOURCE=
LABEL org.opencontainers.image.title="D3" \
      org.opencontainers.image.description="Tells whether an image was made or altered by a generator" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}" \
      d3.torch="${TORCH}"
ENV PATH=/opt/d3/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    D3_HOME=/data \
    D3_HOST=0.0.0.0 \
    D3_PORT=5000 \
    D3_LOG_FORMAT=json \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 5000
# The first start may download a model of several gigabytes before it can answer.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 \
    CMD ["python3", "-c", "import os, ssl, urllib.request; url = 'http://127.0.0.1:' + os.environ['D3_PORT'] + '/health/ready'; url = url.replace('http:', 'https:') if os.environ.get('D3_TLS_CERT') else url; urllib.request.urlopen(url, timeout=4, context=ssl._create_unverified_context())"]
ENTRYPOINT ["d3"]
CMD ["serve"]
