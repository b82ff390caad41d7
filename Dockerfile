# The image of our own processes: API, worker, sync, Beat, consumer, Flower and the migration. Jobs run in another one,
# flink_app/Dockerfile.
#   docker build -t headrace:0.1.0 .
#   docker run headrace:0.1.0 api | worker | beat | consumer | worker.flower | headrace.migrate
# Behind a mirror: --build-arg PYTHON_IMAGE=mirror.example.com/library/python:3.11-slim-bookworm
#                  --build-arg PIP_INDEX_URL=https://mirrors.example.com/pypi/simple
# For amd64 only, as uv.lock is.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG PIP_INDEX_URL=https://pypi.org/simple
# The uv that `run` pins. With another index the lock's own addresses are left aside, and its hashes still hold.
RUN pip install --no-cache-dir --index-url "${PIP_INDEX_URL}" uv==0.13.9 hatchling
ENV UV_PROJECT_ENVIRONMENT=/opt/headrace/venv UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_NO_CACHE=1
WORKDIR /build
COPY pyproject.toml uv.lock ./
RUN uv export --frozen --no-dev --no-emit-project --output-file requirements.txt \
 && uv venv --python /usr/local/bin/python3 /opt/headrace/venv \
 && uv pip install --python /opt/headrace/venv/bin/python --require-hashes --no-deps --compile-bytecode \
      --default-index "${PIP_INDEX_URL}" --requirements requirements.txt
# The core is a wheel. Two of its modules are links into flink_app, which the Flink image needs as files of its own.
COPY README.md LICENSE ./
COPY headrace headrace
COPY flink_app flink_app
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir dist . \
 && uv pip install --python /opt/headrace/venv/bin/python --no-deps --no-index --compile-bytecode dist/headrace-*.whl

FROM ${PYTHON_IMAGE}
# By number: under runAsNonRoot a kubelet does not look names up.
RUN groupadd --gid 10001 headrace && useradd --uid 10001 --gid headrace --no-create-home --home-dir /tmp headrace \
 && install -d -o headrace -g headrace /run/headrace
COPY --from=build /opt/headrace/venv /opt/headrace/venv
WORKDIR /opt/headrace
COPY api api
COPY worker worker
COPY beat beat
COPY consumer consumer
RUN /opt/headrace/venv/bin/python -m compileall -q api worker beat consumer
# Nothing is written but in /tmp and /run/headrace: the root file system may be read-only where these two are mounted.
ENV PATH=/opt/headrace/venv/bin:${PATH} PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp \
    HEADRACE_HEALTH_FOLDER=/run/headrace
USER 10001
EXPOSE 8080 9090 9100 5555
# No shell and no wrapper: the process itself is the first one, and gets SIGTERM.
ENTRYPOINT ["python", "-m"]
CMD ["api"]
