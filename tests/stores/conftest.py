"""The four kinds of store that everything must hold on: a local disk, S3, Azure, and one with emulated rename."""

from __future__ import annotations

import multiprocessing
import os
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager
from multiprocessing.context import ForkServerContext

import fsspec
import pytest
import servers
from kinds_of_store import Store, in_environment

from gan_lib.core import storage

# This process may have met fsspec before it could find the module's entry point.
fsspec.register_implementation("emulated", "emulated_store.EmulatedFileSystem", clobber=True)


def bucket_on(server: AbstractContextManager[dict[str, str]], url: str) -> Iterator[str]:
    """A new bucket on a server that runs as long as the session."""
    try:
        with server as environment, in_environment(environment):
            fs, path = storage.open_store(url)
            fs.mkdir(path)
            yield url
    except servers.NoServer as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def s3_bucket() -> Iterator[str]:
    """The URL of an empty bucket on a real S3 server, for this process and all that it starts."""
    pytest.importorskip("s3fs", reason="no S3 client: s3fs is not installed")
    pytest.importorskip("moto.server", reason="no S3 server: moto is not installed")
    yield from bucket_on(servers.s3_server(), "s3://gan-lib-tests")


@pytest.fixture(scope="session")
def azure_container() -> Iterator[str]:
    """The URL of an empty container on a real Azure Blob server, for this process and all that it starts."""
    pytest.importorskip("adlfs", reason="no Azure client: adlfs is not installed")
    yield from bucket_on(servers.azure_server(), "abfs://gan-lib-tests")


@pytest.fixture(scope="session")
def emulated_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a folder on a file system whose rename is a copy and a removal."""
    with in_environment({"EMULATED_STORE": str(tmp_path_factory.mktemp("emulated"))}):
        yield "emulated://gan-lib-tests"


# Azure's server comes from npm, 365 MB of it, once a machine.
@pytest.fixture(params=["local", "s3", pytest.param("azure", marks=pytest.mark.slow), "emulated"])
def store(request: pytest.FixtureRequest) -> Store:
    """An empty folder on each kind of store."""
    kind = request.param
    fixture = {"local": "tmp_path", "s3": "s3_bucket", "azure": "azure_container", "emulated": "emulated_folder"}
    return Store(kind, storage.join(str(request.getfixturevalue(fixture[kind])), uuid.uuid4().hex))


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    """Starts processes cheaply: their imports are done. They take their environment by :func:`elsewhere.settle`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["elsewhere"])
    return context


@pytest.fixture
def environment(store: Store) -> dict[str, str]:
    """What another process needs in order to find ``store``."""
    return dict(os.environ)
