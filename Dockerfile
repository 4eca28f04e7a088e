# Two images by one recipe and the same locks as a checkout:
#
#   docker build --target cpu  -t sirl-guard .           docker run -p 8000:8000 -v sirl:/state sirl-guard
#   docker build --target cuda -t sirl-guard:cuda .      docker run --gpus all -p 8000:8000 -v sirl:/state sirl-guard:cuda
#
# Both start from Python's image: the CUDA libraries come with the locked wheels, the driver from the NVIDIA container
# toolkit. What follows the image's name replaces CMD, so repeat what is wanted of it. Seen from outside a container no
# client is on loopback, so /guard/v1 stays closed until --guard-admin-key (or SIRL_GUARD_ADMIN_KEY) sets a key.

FROM python:3.11-slim-bookworm AS base
# vLLM's CPU build links libnuma; Triton and torch.compile need a compiler when they serve.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libnuma1 \
    && rm -rf /var/lib/apt/lists/*

FROM base AS source
WORKDIR /build
ENV SIRL_DEV=0 SIRL_EDITABLE=0
COPY pyproject.toml README.md LICENSE ./
COPY requirements requirements
COPY scripts/install scripts/install
COPY guard guard
COPY evaluation evaluation
COPY models models
COPY online online
COPY serving serving

FROM source AS build-cpu
RUN --mount=type=cache,target=/var/cache/pip PIP_CACHE_DIR=/var/cache/pip scripts/install cpu /opt/venv

FROM source AS build-cuda
RUN --mount=type=cache,target=/var/cache/pip PIP_CACHE_DIR=/var/cache/pip scripts/install cuda /opt/venv

FROM base AS runtime
RUN useradd --create-home --uid 10001 sirl && install --directory --mode 0700 --owner sirl --group sirl /state
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
USER sirl
WORKDIR /state
VOLUME /state
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=10s --start-period=3m \
    CMD ["python", "-I", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health', timeout=5)"]
ENTRYPOINT ["sirl"]
CMD ["serve", "--host", "0.0.0.0", "--state-dir", "/state", "--learn"]

FROM runtime AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build-cuda /opt/venv /opt/venv

FROM runtime AS cpu
COPY --from=build-cpu /opt/venv /opt/venv
