"""How busy the machine is: processor, memory, GPU. Sampled by a thread beside the training."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable

import psutil

logger = logging.getLogger(__name__)


def sample(process: psutil.Process) -> dict[str, float]:
    """Use in percent, sizes in MiB. GPU figures only where this process uses CUDA."""
    found = {
        "system/cpu_percent": psutil.cpu_percent(),
        "system/process_cpu_percent": process.cpu_percent(),
        "system/memory_percent": psutil.virtual_memory().percent,
        "system/process_memory_mib": process.memory_info().rss / 2**20,
    }
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        found["system/gpu_memory_mib"] = torch.cuda.memory_allocated() / 2**20
        found["system/gpu_memory_peak_mib"] = torch.cuda.max_memory_allocated() / 2**20
        try:
            found["system/gpu_percent"] = float(torch.cuda.utilization())
        except (ModuleNotFoundError, RuntimeError):
            logger.debug("GPU use is not known: nvidia-ml-py is not installed or the driver does not tell.")
    return found


class SystemMonitor:
    """Hands a sample to ``log`` every ``interval`` seconds until it is stopped."""

    def __init__(self, log: Callable[[dict[str, float]], None], interval: float) -> None:
        self._log = log
        self._interval = interval
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="system metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take no more samples."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        process = psutil.Process()
        sample(process)  # psutil's percentages count from the call before: the first are zeros
        while not self._stopped.wait(self._interval):
            self._log(sample(process))
