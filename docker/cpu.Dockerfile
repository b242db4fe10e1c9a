# stm-fast on a CPU: docker build --file docker/cpu.Dockerfile --tag stm-fast .
# docker run --rm --volume "$PWD:/data" stm-fast segment video.mp4 --mask mask.png --out result
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml setup.py README.md LICENSE ./
COPY csrc csrc
COPY kernels kernels
COPY stm_fast stm_fast
RUN STM_FAST_CUDA=0 pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim
ARG TORCH=2.13.0
# OpenCV, which scoring and prompters use, needs two libraries of the system.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir torch==${TORCH} --index-url https://download.pytorch.org/whl/cpu
COPY requirements.txt /tmp/requirements.txt
COPY --from=build /wheels /wheels
RUN wheel=$(echo /wheels/stm_fast-*.whl) \
    && pip install --no-cache-dir --constraint /tmp/requirements.txt "$wheel[demo,export,prompters]" \
    && rm -r /wheels /tmp/requirements.txt \
    && stm-fast doctor \
    && python -c "from stm_fast.ops import compiled; raise SystemExit(compiled.failure('cpu'))"
WORKDIR /data
ENTRYPOINT ["stm-fast"]
CMD ["--help"]
