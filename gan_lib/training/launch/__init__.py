"""Runs a function on N ranks by TorchDistributor, and tells the truth about how it went.

``launch`` belongs to the driver, ``rank_context.join_ranks`` to the ranks. Light to import: Spark and torch come when
needed.
"""

from gan_lib.training.launch.launcher import Launched, RanksFailed, launch
from gan_lib.training.launch.requirements import LaunchError
from gan_lib.training.launch.settings import LaunchSettings
from gan_lib.training.launch.waiting_agent import agent_ahead

__all__ = ["LaunchError", "LaunchSettings", "Launched", "RanksFailed", "agent_ahead", "launch"]
