"""Runs jobs/NAME.py again and again at a third of the cost: their imports are done, and Spark's JVM is running.

A program of its own, for ``job_process.WarmJobs``. Each line on its stdin asks for a job; each is answered with its
exit code. A job is a fork of this process, the leader of a process group. The JVM outlives a killed one, for it holds
nothing of ours; Spark's Python workers do not.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import shlex
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

import psutil

_JOBS = Path(__file__).parent.parent.parent / "jobs"


def start_jvm() -> int:
    """Start what the jobs' sessions will connect to, as pyspark does; its process id."""
    import pyspark

    submit = Path(pyspark.__file__).parent / "bin" / "spark-submit"
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder, "connection")
        environment = {**os.environ, "SPARK_CONNECT_MODE": "0", "_PYSPARK_DRIVER_CONN_INFO_PATH": str(told)}
        command = [str(submit), *shlex.split(os.environ["PYSPARK_SUBMIT_ARGS"])]
        jvm = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=sys.stderr)
        while not told.exists():
            assert jvm.poll() is None, "Spark's JVM does not start"
            time.sleep(0.05)
        content = told.read_bytes()
    port, length = struct.unpack("!ii", content[:8])
    os.environ["PYSPARK_GATEWAY_PORT"] = str(port)
    os.environ["PYSPARK_GATEWAY_SECRET"] = content[8 : 8 + length].decode()
    return jvm.pid


def import_what_jobs_import() -> None:
    """But for what starts threads, which would not be there in a fork."""
    for module in ("evaluation.evaluate", "preprocessing.preprocess", "scoring.generation.generate", "training.loop"):
        importlib.import_module(f"gan_lib.{module}")
    for module in ("killing_stores", "mlflow.pyfunc", "pandas", "pyarrow.dataset"):
        importlib.import_module(module)


def run(name: str, config: str, log: str) -> NoReturn:
    """Be the job, with what it prints in ``log``."""
    os.setsid()
    number = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for output in (1, 2):
        os.dup2(number, output)
    code = 1
    with contextlib.suppress(BaseException):
        stop_session_of_a_killed_job()
        sys.argv = [str(_JOBS / f"{name}.py"), "--config", config]
        code = _exit_code(sys.argv[0])
        stop_session_of_a_killed_job()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _exit_code(script: str) -> int:
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def stop_session_of_a_killed_job() -> None:
    """A JVM has one SparkContext at a time."""
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    SparkContext._ensure_initialized()
    left = SparkSession._get_j_spark_session_class(SparkContext._jvm).getDefaultSession()
    if left.isDefined():
        left.get().stop()


def main() -> None:
    """Answer until nobody asks any more."""
    jvm = start_jvm()
    import_what_jobs_import()
    answers = os.fdopen(os.dup(1), "w")
    print(json.dumps({"jvm": jvm}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        job = os.fork()
        if job == 0:
            run(request["name"], request["config"], request["log"])
        Path(os.environ["KILLING_FOLDER"], "group").write_text(str(job))
        code = os.waitstatus_to_exitcode(os.waitpid(job, 0)[1])
        if code < 0:
            for worker in psutil.Process(jvm).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker.kill()
        print(json.dumps({"code": code}), file=answers, flush=True)
    os.kill(jvm, signal.SIGKILL)


if __name__ == "__main__":
    main()
