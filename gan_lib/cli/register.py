"""``gan-lib register NET``: a net that comes with the package as a registered model of MLflow."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from gan_lib.shipped import nets


def main(argv: Sequence[str] | None = None) -> None:
    """Register what the command line names, and say as what."""
    parser = argparse.ArgumentParser(
        "gan-lib register",
        description="Make a net that comes with the package the next version of a registered model, where "
        "MLFLOW_TRACKING_URI and MLFLOW_REGISTRY_URI say.",
    )
    parser.add_argument("net", metavar="NET", help=f"one of: {', '.join(nets.names())}")
    parser.add_argument("--name", default="enlarger", help="of the registered model; default: enlarger")
    parser.add_argument("--alias", default="champion", help="that the version gets; default: champion")
    parsed = parser.parse_args(argv)
    from gan_lib.tracking.registry.shipped_models import register_shipped

    version = register_shipped(parsed.net.removeprefix(nets.SCHEME), parsed.name, parsed.alias)
    print(f"registered models:/{version.name}/{version.version}, which is {parsed.alias}")
