"""Packaging of `mgot`. fast-reid goes in beside it by hand, see `make env` and README.md."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
SOURCE = "projects/MGOT"

INSTALL_REQUIRES = [
    "torch>=2.4,<3",
    "torchvision>=0.19,<1",
    "numpy>=1.26,<3",
    "scipy>=1.11",
    "scikit-learn>=1.3",
    "POT>=0.9.4",
    "numba>=0.59",
    "pillow>=10.1",
    "tqdm>=4.66",
    # What fast-reid itself needs. Its wheel pins torch 1.13.1, therefore it is installed with --no-deps.
    "yacs>=0.1.8",
    "PyYAML>=6",
    "opencv-python-headless>=4.8",
    "tabulate>=0.9",
    "termcolor>=2.2",
    "tensorboard>=2.12",
    "gdown>=4.7",  # only where fast-reid fetches ImageNet weights
]
TEST = ["pytest>=7.4", "pytest-xdist>=3.5", "hypothesis>=6.92", "packaging>=23"]
ONNX = ["onnx>=1.16", "onnxruntime>=1.18"]
VIZ = ["matplotlib>=3.7", "Jinja2>=3.1"]
DOCS = ["mkdocs>=1.6", "mkdocs-material>=9.7", "mkdocstrings-python>=2"]
# Both bring the module faiss, so that an environment takes one of them. Clustering does without; the search of a
# folder, and MGOT.CLUSTER.SEARCH of faiss's names, do not.
CPU = ["faiss-cpu>=1.8"]
GPU = ["faiss-gpu>=1.8"]
EXTRAS_REQUIRE = {
    "cpu": CPU,
    "gpu": GPU,
    "viz": VIZ,
    "onnx": ONNX,
    "docs": DOCS,
    "test": [*CPU, *TEST],
    "dev": [*CPU, *TEST, *VIZ, *ONNX, *DOCS, "mypy>=1.8", "ruff>=0.6", "types-PyYAML>=6"],
}


def version() -> str:
    """The one place that states the version is the package itself."""
    text = (ROOT / SOURCE / "mgot" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise RuntimeError("mgot/__init__.py states no __version__")
    return found.group(1)


setup(
    name="mgot",
    version=version(),
    description="Unsupervised visible-infrared person re-identification by optimal transport, as a fast-reid plugin",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    package_dir={"": SOURCE},
    packages=find_packages(SOURCE),
    package_data={"mgot": ["py.typed", "analysis/report/page.html.j2"]},
    python_requires=">=3.10,<3.14",
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
    classifiers=[
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
