"""Compares the challenger of a registered model with its champion, and lets the better one be champion.

spark-submit jobs/promote.py --config conf/promote/demo.yaml [--set model=srgan ...]

Exit codes: 0 the challenger is champion now, 2 the request was wrong, 4 nothing was changed because another promotion
was faster: run it again, 5 the challenger is refused and the champion stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from gan_lib import tracking
from gan_lib.cluster.meanwhile import meanwhile
from gan_lib.cluster.session import spark_session
from gan_lib.core import config
from gan_lib.core.errors import UserError, run_job
from gan_lib.evaluation.promotion.settings import PromoteSettings

if TYPE_CHECKING:
    from gan_lib.evaluation.promotion.promote import Verdict

COMPARING = "gan_lib.evaluation.promotion.promote"
"""Imported while Spark starts, for it brings torch along."""


class ChallengerRefused(UserError):
    """The comparison was made, and the champion stays."""

    exit_code = 5


def main(argv: Sequence[str] | None = None) -> None:
    """Compare, decide, and write it down."""
    settings = config.from_command_line(PromoteSettings, "Let the better one of two versions be champion.", argv)
    with meanwhile(partial(import_module, COMPARING), partial(tracking.first_use, settings.tracking)):
        spark = spark_session(f"promote {settings.model}")
    from gan_lib.evaluation.promotion.promote import challenge

    with tracking.run(settings.tracking, "promote", settings.model_dump(), settings.model_dump(mode="json")) as run:
        verdict = challenge(spark, settings, run.id)
        write_down(run, verdict)
    told = " ".join(verdict.reasons)
    name, version = verdict.between.name, verdict.between.challenger.version
    if not verdict.promoted:
        raise ChallengerRefused(f"{name} {version} is refused, and {champion_of(verdict)}. {told}")
    before = f"; before it: {verdict.between.against}" if verdict.between.against != version else ""
    print(f"models:/{name}/{version} is champion{before}. {told}")


def write_down(run: tracking.Run, verdict: Verdict) -> None:
    """Log decision, reasons and figures."""
    run.set_tags(
        {
            "gan_lib.model": verdict.between.name,
            "gan_lib.challenger": verdict.between.challenger.version,
            "gan_lib.champion": verdict.between.against,
            "gan_lib.decision": "promoted" if verdict.promoted else "refused",
            "gan_lib.reasons": " ".join(verdict.reasons),
        }
    )
    run.log_metrics(verdict.metrics)


def champion_of(verdict: Verdict) -> str:
    """Who stays."""
    champion = verdict.between.champion
    return "there is no champion yet" if champion is None else f"version {champion.version} stays champion"


if __name__ == "__main__":
    run_job(main)
