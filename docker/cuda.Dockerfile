# stm-fast on an NVIDIA GPU: docker build --file docker/cuda.Dockerfile --tag stm-fast:cuda .
# docker run --rm --gpus all --volume "$PWD:/data" stm-fast:cuda segment video.mp4 --mask mask.png --out result
ARG PYTHON=3.12
ARG CUDA=13.0.1

FROM nvidia/cuda:${CUDA}-devel-ubuntu24.04 AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ python3 python3-pip python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml setup.py README.md LICENSE ./
COPY csrc csrc
COPY kernels kernels
COPY stm_fast stm_fast
RUN python3 -m venv /build \
    && STM_FAST_CUDA=1 /build/bin/pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim
ARG TORCH=2.13.0
# gcc is for Triton, which compiles what launches its kernels; the libraries are for OpenCV.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir torch==${TORCH}
COPY requirements.txt /tmp/requirements.txt
COPY --from=build /wheels /wheels
RUN wheel=$(echo /wheels/stm_fast-*.whl) \
    && pip install --no-cache-dir --constraint /tmp/requirements.txt "$wheel[demo,export,gpu,prompters]" \
    && rm -r /wheels /tmp/requirements.txt \
    && stm-fast doctor \
    && python -c "from stm_fast.ops import compiled; raise SystemExit(compiled.failure('cpu'))"
# The driver is the host's, which NVIDIA's container toolkit lends.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /data
ENTRYPOINT ["stm-fast"]
CMD ["--help"]
