# moco-transfer with Detectron2 built in, for NVIDIA GPUs whose driver knows CUDA 13 (580 or newer):
#   docker build --tag moco-transfer .
#   docker run --rm --gpus all --ipc host --volume "$PWD:/work" moco-transfer pretrain --help
# For a machine without a GPU: docker build --build-arg BASE=ubuntu:24.04 --build-arg FORCE_CUDA=0 ...
ARG BASE=nvidia/cuda:13.0.2-devel-ubuntu24.04

FROM ${BASE} AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git g++ ninja-build python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY requirements.lock ./
RUN pip install --require-hashes --requirement requirements.lock
# Its setup.py imports torch, and detectron2.model_zoo needs pkg_resources, which setuptools 82 dropped.
ARG DETECTRON2=main
ARG FORCE_CUDA=1
ARG TORCH_CUDA_ARCH_LIST="7.5;8.0;8.6;9.0;10.0;12.0"
RUN pip install 'setuptools<82' wheel
RUN pip install --no-build-isolation "git+https://github.com/facebookresearch/detectron2@${DETECTRON2}"
COPY pyproject.toml README.md LICENSE ./
COPY moco_transfer moco_transfer
COPY pretrain pretrain
COPY transfer transfer
COPY tools tools
COPY configs configs
RUN pip install --no-deps .

FROM ubuntu:24.04
# A compiler and Python's headers are for optim.compile, which makes kernels when a run starts.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ python3-dev \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /work
ENTRYPOINT ["moco-transfer"]
