# The service, without PyTorch: it reads an export mounted at /model.
#   docker build -t prismrec-serve .
#   docker run --read-only --tmpfs /tmp -p 8000:8000 -v "$PWD/model:/model:ro" -e PRISMREC_API_KEY=… prismrec-serve
FROM python:3.12-slim

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    OMP_NUM_THREADS=1 MPLCONFIGDIR=/tmp
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
# what the service imports, at the versions that the tests ran with; --no-deps below leaves out all that training needs
RUN pip install -c constraints.txt numpy scipy polars pydantic pyyaml typer rich safetensors jinja2 threadpoolctl \
    fastapi uvicorn uvloop httptools orjson prometheus-client
COPY prismrec ./prismrec
RUN pip install --no-deps . && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin prism

USER 10001
WORKDIR /
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/ready', timeout=2)"]
ENTRYPOINT ["prismrec", "serve"]
CMD ["/model", "--host", "0.0.0.0"]
