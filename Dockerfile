# The environment of README.md with CUDA, in an image. It was never built by us: see docs/usage.md, In a container.
#
#   docker build -t mgot .
#   docker run --gpus all --shm-size 16g -v /path/to/datasets:/data -v "$PWD/logs:/mgot/logs" mgot \
#       python tools/train_net.py --config-file projects/MGOT/configs/sysu.yml
#
# --shm-size: the loader's workers hand images over in shared memory, of which a container has 64 MB by itself. Too
# little shows as "Bus error" or "unable to open shared memory object"; --ipc=host, or DATALOADER.NUM_WORKERS 0, helps too.

# PyTorch's wheels bring CUDA's libraries; the image brings what the driver is told through. The driver is the machine's.
ARG CUDA=13.0.0
FROM nvidia/cuda:${CUDA}-base-ubuntu24.04

# g++ and Python's headers are for MGOT.COMPILE, whose code is built at the first step.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ make python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /mgot
# What `make env` reads comes first, so that a change of the code does not download PyTorch anew.
COPY Makefile setup.py pyproject.toml constraints.txt README.md ./
COPY projects/MGOT/mgot/__init__.py projects/MGOT/mgot/__init__.py
RUN make env
COPY . .

ENV PATH=/mgot/.venv/bin:$PATH FASTREID_DATASETS=/data
CMD ["python", "tools/train_net.py", "--help"]
