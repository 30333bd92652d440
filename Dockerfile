# docker build -t prkd .                          the CPU build of PyTorch
# docker build -t prkd --build-arg TORCH=cuda .   the build that PyPI has, with CUDA
# Checked with hadolint 2.15; not built where this project is developed.
FROM python:3.11-slim-bookworm

ARG TORCH=cpu
ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1
WORKDIR /prkd_mm

# The pins first: a change of the code then installs nothing again.
COPY requirements.txt ./
# The image has no libGL, which opencv-python needs.
RUN sed -i 's/^opencv-python==/opencv-python-headless==/' requirements.txt \
    && if [ "$TORCH" = cpu ]; then \
    export PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu; \
    sed -i -E 's/^(torch|torchvision)==([0-9.]+)$/\1==\2+cpu/' requirements.txt; fi \
    && pip install -r requirements.txt

COPY . .
RUN pip install --no-deps --no-build-isolation . && python -m prkd_mm doctor

ENTRYPOINT ["python", "-m", "prkd_mm"]
CMD ["doctor"]
