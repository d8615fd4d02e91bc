"""Takes the champion of a registered model down: the version that was champion before it is champion again.

python jobs/rollback.py --config conf/rollback/srgan.yaml [--set model=srgan --set champion=7]

The version that is taken down does not come back by jobs/promote.py. Exit codes: 0 done, 2 there is nothing to go back
to, 4 nothing was changed because another version is champion than the one that was named.
"""

from __future__ import annotations

from collections.abc import Sequence

from gan_lib import tracking
from gan_lib.core import config
from gan_lib.core.errors import run_job
from gan_lib.evaluation.promotion.settings import RollbackSettings
from gan_lib.tracking.promotion.rollback import plan_rollback, roll_back


def main(argv: Sequence[str] | None = None) -> None:
    """Find the version before, and move the alias."""
    settings = config.from_command_line(RollbackSettings, "Let the champion before be champion again.", argv)
    with tracking.run(settings.tracking, "rollback", settings.model_dump(), settings.model_dump(mode="json")) as run:
        planned = plan_rollback(settings.model, settings.tracking, settings.champion)
        roll_back(planned, run.id, settings.tracking)
        run.set_tags(
            {
                "gan_lib.model": settings.model,
                "gan_lib.rolled_back": planned.down.version,
                "gan_lib.champion": planned.restored.version,
            }
        )
    print(
        f"models:/{settings.model}/{planned.restored.version} is champion again; version {planned.down.version} is not."
    )


if __name__ == "__main__":
    run_job(main)
