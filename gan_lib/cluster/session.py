"""The Spark session of a job: what spark-submit or the notebook gave, with what our UDFs need on top."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipimport
from typing import TYPE_CHECKING

from gan_lib.core.errors import UserError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def spark_session(name: str, **conf: str) -> SparkSession:
    """Return the running session, or start one called ``name``; ``local[*]`` when no master was given.

    ``conf`` holds Spark properties with ``__`` for each dot, e.g. ``spark__task__cpus="2"``.

    Raises:
        UserError: Spark has to be started here and no Java 17 or 21 is found.
    """
    from pyspark.sql import SparkSession

    if SparkSession.getActiveSession() is None and "SPARK_REMOTE" not in os.environ and not _on_databricks():
        require_java()
    builder = SparkSession.builder.appName(name)
    for key, value in conf.items():
        builder = builder.config(key.replace("__", "."), value)
    session = builder.getOrCreate()
    if hasattr(session, "sparkContext") and "SPARK_REMOTE" not in os.environ:
        session.sparkContext.setLogLevel("ERROR")
    return session


def require_java() -> None:
    """Check that a Java that Spark can run on is here.

    Raises:
        UserError: none is found, or it does not answer.
    """
    home = os.environ.get("JAVA_HOME")
    java = os.path.join(home, "bin", "java") if home else shutil.which("java")
    hint = "Spark needs Java 17 or 21: install openjdk-17-jre-headless, or set JAVA_HOME to where it is."
    if not java or not os.path.exists(java):
        raise UserError(f"No Java was found{f' under JAVA_HOME={home}' if home else ''}. {hint}")
    if subprocess.run([java, "-version"], capture_output=True).returncode != 0:
        raise UserError(f"{java} does not run. {hint}")


def forget_zip_importers() -> None:
    """Spare this worker's next task 0.1 to 0.4 s.

    Before each task Spark calls ``importlib.invalidate_caches()``, on which every importer of pyspark.zip (16 of them,
    one for each package) reads the whole directory of that file again (seen on CPython 3.11). Importers that are not
    there read nothing; Python makes a new one when something is imported.
    """
    importers = sys.path_importer_cache
    for path in [path for path, importer in importers.items() if isinstance(importer, zipimport.zipimporter)]:
        del importers[path]


def _on_databricks() -> bool:
    return "DATABRICKS_RUNTIME_VERSION" in os.environ
