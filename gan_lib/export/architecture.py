"""How a net is built again: its class by import path, and its arguments as JSON."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from gan_lib.export.errors import ArtifactError
from gan_lib.export.trust import is_trusted, trusted_packages


@dataclass(frozen=True)
class Architecture:
    """A net's class, by its module and name there, and the keyword arguments that build it (JSON values only)."""

    module: str
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, net_class: type[nn.Module], **arguments: Any) -> Architecture:
        """The architecture that builds ``net_class(**arguments)``.

        Raises:
            ArtifactError: an argument is not of JSON, or the class cannot be imported by its name.
        """
        if "." in net_class.__qualname__:
            raise ArtifactError(f"{net_class.__qualname__} is defined inside another scope: no import finds it.")
        try:
            plain = json.loads(json.dumps(arguments))
        except (TypeError, ValueError) as error:
            raise ArtifactError(f"The arguments of {net_class.__name__} must be JSON values: {error}.") from None
        return cls(net_class.__module__, net_class.__qualname__, plain)

    def build(self, trusted: Sequence[str] = ()) -> nn.Module:
        """Build the net with fresh weights; torch's global random state is left as it was.

        ``trusted`` adds to the packages of :func:`gan_lib.export.trust.trusted_packages`; no other's class is built.

        Raises:
            ArtifactError: the module is not trusted or not there, holds no such net, or refuses the arguments.
        """
        net_class = self._find(trusted_packages(trusted))
        try:
            with torch.random.fork_rng(devices=[]):
                return net_class(**self.arguments)
        except Exception as error:  # whatever the class raises at arguments that may come from anywhere
            raise ArtifactError(f"{self.module}.{self.name} refuses its saved arguments: {error}.") from error

    def _find(self, trusted: Sequence[str]) -> type[nn.Module]:
        if not is_trusted(self.module, trusted):
            raise ArtifactError(
                f"The net is described as {self.module}.{self.name}, which is outside the trusted packages "
                f"({', '.join(trusted)}): if you know where the description came from, add its package to "
                "trusted_packages or to the environment variable GAN_LIB_TRUSTED_PACKAGES."
            )
        try:
            found = getattr(importlib.import_module(self.module), self.name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ArtifactError(f"The net {self.module}.{self.name} is not installed here: {error}.") from error
        if not (inspect.isclass(found) and issubclass(found, nn.Module)):
            raise ArtifactError(f"{self.module}.{self.name} is not a net but a {type(found).__name__}.")
        return found
