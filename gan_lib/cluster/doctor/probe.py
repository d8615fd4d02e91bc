"""What one process looks up about its machine, for the driver and for every executor: a request in, an answer out.

These functions travel to the executors by value, to machines that may have nothing but Python and Spark's own zip file.
So this module imports the standard library alone and defines no class; everything else is imported where it is used,
and that it cannot be is an answer too. Requests and answers are plain JSON.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import time
from typing import Any

Answer = dict[str, Any]


def examine_as_text(request: str) -> str:
    """As :func:`examine`, for a Spark function: JSON text in and out."""
    return json.dumps(examine(json.loads(request)))


def examine(request: dict[str, Any]) -> Answer:
    """Look up what ``request`` asks for, then hold the task's slot for ``seconds``, so that no slot takes two tasks.

    Keys of a request: ``packages`` (names of distributions), ``modules`` (names to import), ``locations`` (see
    :func:`location_answer`), ``addresses`` ([host, port] to connect to), ``gpus`` (whether to count them), ``seconds``;
    with ``clock_only`` nothing but the clock is read.
    """
    begun = time.time()
    answer: Answer = {"host": socket.gethostname(), "executor": executor_id(), "time": begun}
    if not request.get("clock_only"):
        answer["python"] = "{}.{}".format(*sys.version_info)
        answer["versions"] = {name: version_of(name) for name in request["packages"]}
        answer["modules"] = {name: import_problem(name) for name in request["modules"]}
        answer["gan_lib"] = package_answer("gan_lib")
        answer["java"] = java_version()
        answer["disks"] = [disk_answer(*disk) for disk in temporary_folders() + request["disks"]]
        answer["free_memory"] = free_memory()
        answer["cores"] = os.cpu_count() or 1
        answer["gpus"] = gpu_count() if request["gpus"] else None
        answer["locations"] = {one["key"]: location_answer(one) for one in request["locations"]}
        answer["addresses"] = {f"{host}:{port}": connection_problem(host, port) for host, port in request["addresses"]}
    time.sleep(max(0.0, begun + request["seconds"] - time.time()))
    return answer


def executor_id() -> str:
    """Spark's id of this worker's executor, as its command line tells on every cluster manager; else the JVM's pid."""
    given = os.environ.get("SPARK_EXECUTOR_ID")
    if given:
        return given
    jvm = jvm_process()
    with contextlib.suppress(OSError):
        with open(f"/proc/{jvm}/cmdline", "rb") as file:
            words = file.read().decode(errors="replace").split("\0")
        if "--executor-id" in words:
            return words[words.index("--executor-id") + 1]
    return f"process {jvm}"


def jvm_process() -> int:
    """The JVM above this Python worker. Between the two stands Spark's daemon, which forks workers."""
    parent = os.getppid()
    with contextlib.suppress(OSError, ValueError, IndexError):
        with open(f"/proc/{parent}/cmdline", "rb") as file:
            is_daemon = b"pyspark" in file.read()
        if is_daemon:
            with open(f"/proc/{parent}/stat") as file:
                return int(file.read().rpartition(")")[2].split()[1])
    return parent


def version_of(name: str) -> str | None:
    """The version of an installed distribution; None where there is none."""
    with contextlib.suppress(Exception):
        if name == "pyspark":  # Spark brings it to its executors as a zip file without metadata
            return str(importlib.import_module(name).__version__)
        return importlib.metadata.version(name)
    return None


def import_problem(name: str) -> str:
    """Why ``name`` cannot be imported; empty where it can. Only its top is imported."""
    with contextlib.suppress(Exception):
        if importlib.util.find_spec(name.partition(".")[0]) is not None:
            return ""
    return "it is not installed"


def package_answer(name: str) -> dict[str, str]:
    """A package's ``version`` and a digest of its ``code``; or the ``problem`` that its import has."""
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        return {"problem": "" if error.name == name else f"{error}", "version": "", "code": ""}
    except Exception as error:
        return {"problem": f"{type(error).__name__}: {error}", "version": "", "code": ""}
    return {"problem": "", "version": str(getattr(module, "__version__", "?")), "code": digest_of_code(name)}


def digest_of_code(name: str) -> str:
    """Twelve hex digits that differ where a package's Python files do; empty where they cannot be read."""
    digest = hashlib.sha256()
    with contextlib.suppress(Exception):
        resources = importlib.import_module("importlib.resources")
        waiting = [("", resources.files(name))]
        files = []
        while waiting:
            path, folder = waiting.pop()
            for entry in folder.iterdir():
                if entry.is_dir() and entry.name != "__pycache__":
                    waiting.append((f"{path}/{entry.name}", entry))
                elif entry.name.endswith(".py"):
                    files.append((f"{path}/{entry.name}", entry))
        for path, entry in sorted(files, key=lambda file: file[0]):
            digest.update(path.encode() + b"\0" + entry.read_bytes() + b"\0")
        return digest.hexdigest()[:12]
    return ""


def java_version() -> str:
    """Of the JVM above this worker, from the file beside it that says so; empty where that cannot be read."""
    with contextlib.suppress(OSError, IndexError):
        program = os.readlink(f"/proc/{jvm_process()}/exe")
        with open(os.path.join(os.path.dirname(program), "..", "release")) as file:
            return re.findall(r'^JAVA_VERSION="([^"]*)"', file.read(), re.MULTILINE)[0]
    return ""


def temporary_folders() -> list[list[str]]:
    """[variable that names it, folder]: where this machine keeps temporary files, ours and Spark's."""
    own = [[name, os.environ[name]] for name in ("TMPDIR", "TEMP", "TMP") if os.environ.get(name)][:1]
    of_spark = os.environ.get("SPARK_LOCAL_DIRS", "")
    return [*(own or [["TMPDIR", "/tmp"]]), *(["SPARK_LOCAL_DIRS", path] for path in of_spark.split(",") if path)]


def disk_answer(key: str, folder: str) -> dict[str, Any]:
    """What is free (bytes) for ``folder``, or for the nearest folder above it that is there."""
    above = os.path.abspath(folder)
    while not os.path.exists(above) and os.path.dirname(above) != above:
        above = os.path.dirname(above)
    try:
        status = os.statvfs(above)
        return {"key": key, "folder": folder, "free": status.f_bavail * status.f_frsize, "disk": os.stat(above).st_dev}
    except OSError as error:
        return {"key": key, "folder": folder, "problem": str(error)}


def free_memory() -> int | None:
    """Bytes that programs may still take, within the container's bound where there is one; None where unknown."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        with open("/proc/meminfo") as file:
            free = 1024 * int(re.findall(r"^MemAvailable:\s+(\d+) kB", file.read(), re.MULTILINE)[0])
        with contextlib.suppress(OSError, ValueError):
            with open("/sys/fs/cgroup/memory.max") as bound, open("/sys/fs/cgroup/memory.current") as used:
                free = min(free, max(0, int(bound.read()) - int(used.read())))
        return free
    return None


def gpu_count() -> int:
    """CUDA devices that torch sees here, or else that the driver's own program lists."""
    with contextlib.suppress(Exception):
        return int(importlib.import_module("torch").cuda.device_count())
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20)
        return len(re.findall(r"^GPU \d+", listed.stdout, re.MULTILINE))
    return 0


def connection_problem(host: str, port: int) -> str:
    """Why nothing listens at an address; empty where something does."""
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError as error:
        return str(error)
    return ""


def location_answer(location: dict[str, Any]) -> list[str]:
    """What is wrong with a location from here: [] or [kind, what the store said].

    Of an input ``files`` names some that the driver read, each read again here ("absent", "unreadable"). Of an output
    ``probe_file`` is what the driver wrote there, with the content ``token`` ("absent", or another's: "elsewhere");
    beside it this process writes one and takes it away again ("unwritable").
    """
    url, kind = location["url"], "unreadable"
    try:
        if not location["written"]:
            for file in location["files"] or [url]:
                look_at(file)
            return []
        if read_start(location["probe_file"], 100) != location["token"].encode():
            return ["elsewhere", ""]
        kind = "unwritable"
        write_and_remove(f"{location['probe_file']}-{executor_id().replace(' ', '-')}-{os.getpid()}")
    except (FileNotFoundError, NotADirectoryError) as error:
        return ["absent", str(error)]
    except Exception as error:
        return [kind, f"{error}" or type(error).__name__]
    return []


def look_at(url: str) -> None:
    """Read the first byte of a file, or list a folder. Raises what says why that cannot be done."""
    if "://" not in url:
        if os.path.isdir(url):
            os.listdir(url)
        else:
            read_start(url, 1)
        return
    storage = importlib.import_module("gan_lib.core.storage")
    if not storage.is_folder(url):
        storage.read_range(url, 0, 1)


def read_start(url: str, length: int) -> bytes:
    """At most ``length`` bytes of a file."""
    if "://" in url:
        return bytes(importlib.import_module("gan_lib.core.storage").read_range(url, 0, length))
    with open(url, "rb") as file:
        return file.read(length)


def write_and_remove(url: str) -> None:
    """Write a small file, and take it away again."""
    if "://" in url:
        storage = importlib.import_module("gan_lib.core.storage")
        storage.write_atomic(url, b"doctor")
        storage.remove_tree(url)
        return
    try:
        with open(url, "wb") as file:
            file.write(b"doctor")
    finally:
        if os.path.exists(url):
            os.remove(url)
