"""From what the machines answered to sentences: what is missing, where, and what to do. Pure functions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from gan_lib.cluster.doctor.executors import Asked
from gan_lib.cluster.doctor.locations import Location
from gan_lib.cluster.doctor.probe import Answer

LEAST_DISK = 2**30
"""Bytes that should be free for temporary files and on the disks of outputs; below it is a sentence."""
LEAST_MEMORY = 512 * 2**20
"""Bytes of memory that should be free on each machine; below it is a sentence."""
MOST_SKEW = 2.0
"""Seconds between the clocks of two machines; above it is a sentence."""
SAME_VERSION = ("python", "gan_lib", "pyspark", "pyarrow", "numpy", "torch")
"""What must be of one version on both sides. Of anything else it is enough that it is there."""

_MACHINES_NAMED = 5
_BROKEN = "broken"  # instead of a version

Finding = tuple[str, Answer]
"""A sentence with ``{who}`` in it, and whose it is. Machines that share a sentence are named in one."""


def findings(driver: Answer, asked: Asked, locations: Sequence[Location], gpus: bool) -> list[str]:
    """What is missing, a sentence each. ``locations`` are those that were in order from the driver."""
    found: list[Finding] = list(_disks({**driver, "executor": "driver"}))
    of_executors = {one.key: one for one in locations if one.by_executors}
    for answer in asked.answers.values():
        if "versions" not in answer:
            continue
        found += _packages(driver, answer)
        found += _machine(driver, answer)
        found += _disks(answer)
        found += _locations(of_executors, answer)
        found += _addresses(answer)
        if gpus and not answer["gpus"]:
            wanted = "launch.gpus is true: use machines that have one, or set it to false"
            found.append((f"On {{who}} no GPU is to be seen, and {wanted}.", answer))
    return [*_together(found), *_unheard(asked)]


def _packages(driver: Answer, answer: Answer) -> Iterator[Finding]:
    """What is not installed, or is another version than the driver's."""
    ours, theirs = _versions(driver), _versions(answer)
    missing = [name for name, version in ours.items() if version and not theirs[name]]
    if missing:
        send = "; gan_lib alone can also be sent by --py-files" if missing == ["gan_lib"] else ""
        yield f"On {{who}} there is no {_listed(missing)}: install there what the driver has{send}.", answer
    elif answer["gan_lib"]["problem"]:
        yield f"On {{who}} gan_lib cannot be imported ({answer['gan_lib']['problem']}): install what it needs.", answer
    both = [name for name in SAME_VERSION if theirs.get(name) not in (None, _BROKEN, ours.get(name))]
    if both:
        pairs = ", ".join(f"{name} is {theirs[name]} instead of {ours[name]}" for name in both)
        yield f"On {{who}} {pairs}: install what the driver has.", answer
    elif (
        "" not in (answer["gan_lib"]["code"], driver["gan_lib"]["code"])
        and driver["gan_lib"]["code"] != answer["gan_lib"]["code"]
    ):
        same = f"both are called {ours['gan_lib']}"
        yield f"On {{who}} the code of gan_lib is not the driver's, though {same}: install the same there.", answer
    for name, problem in answer["modules"].items():
        if problem and not driver["modules"].get(name):
            yield f"On {{who}} {name} cannot be imported, and the job needs it there: {problem}; install it.", answer


def _versions(answer: Answer) -> dict[str, str | None]:
    known = {name: version for name, version in answer["versions"].items() if name != "gan_lib"}
    broken = _BROKEN if answer["gan_lib"]["problem"] else None
    return {"python": answer["python"], "gan_lib": answer["gan_lib"]["version"] or broken, **known}


def _machine(driver: Answer, answer: Answer) -> Iterator[Finding]:
    """Java, memory and clock."""
    ours, theirs = (one["java"].partition(".")[0] for one in (driver, answer))
    if ours and theirs and ours != theirs:
        yield (
            f"On {{who}} Spark runs on Java {theirs}, on the driver on {ours}: set JAVA_HOME to the same there.",
            answer,
        )
    free = answer["free_memory"]
    if free is not None and free < LEAST_MEMORY:
        yield (
            f"On {{who}} {_size(free)} of memory are free, less than {_size(LEAST_MEMORY)}: lower "
            "spark.executor.memory or spark.executor.cores, or end what else runs there.",
            answer,
        )
    least, most = answer["skew"]
    if least > MOST_SKEW or most < -MOST_SKEW:
        ahead = f"{least:.0f} s ahead of" if least > 0 else f"{-most:.0f} s behind"
        yield f"On {{who}} the clock is at least {ahead} the driver's: set the clocks by NTP.", answer


def _disks(answer: Answer) -> Iterator[Finding]:
    """Disks that are nearly full, each once, and those that nobody can look at."""
    told = set()
    for disk in answer["disks"]:
        where = f"{disk['folder']} ({disk['key']})"
        if "problem" in disk:
            yield f"On {{who}} {where} cannot be used: {disk['problem']}; name another folder.", answer
        elif disk["free"] < LEAST_DISK and disk["disk"] not in told:
            told.add(disk["disk"])
            least = _size(LEAST_DISK)
            yield (
                f"On {{who}} the disk of {where} has {_size(disk['free'])} free, less than {least}: "
                "make room there, or name a folder on another disk.",
                answer,
            )


def _locations(locations: dict[str, Location], answer: Answer) -> Iterator[Finding]:
    for key, problem in answer["locations"].items():
        if not problem:
            continue
        location = locations[key]
        kind, said = problem
        if "://" in location.url and not answer["gan_lib"]["version"]:
            continue  # what opens it is missing there, which is said already
        if kind in ("absent", "elsewhere") and location.written:
            yield f"{location} is not the same place on {{who}} as on the driver: {location.remedy}.", answer
        elif kind == "absent":
            yield f"{location}: on {{who}} there is not what the driver sees there: {location.remedy}.", answer
        else:
            verb = "written to" if kind == "unwritable" else "read"
            yield f"{location} cannot be {verb} on {{who}} ({said}): give the executors' user the right to.", answer


def _addresses(answer: Answer) -> Iterator[Finding]:
    for address, problem in answer["addresses"].items():
        if problem:
            yield (
                f"On {{who}} MLflow does not answer at {address} ({problem}): rank 0 logs from there, so open it.",
                answer,
            )


def _unheard(asked: Asked) -> Iterator[str]:
    """Executors that failed the task, and those that did not answer at all."""
    for failure in asked.failures.values():
        who, _, reason = failure.partition("\n")
        host, _, executor = who.partition(" executor ")
        yield (
            f"On {host} (executor {executor}) Spark's Python does not run ({reason.rstrip('.')}): "
            "let PYSPARK_PYTHON name the driver's Python there too."
        )
    if asked.silent:
        yield f"Executor {_listed(asked.silent)} did not answer in time: see its log, and whether its disks hang."
    if not asked.answers and not asked.failures and not asked.silent:
        yield "No executor took a task in time: see whether Spark's master has workers with free cores and memory."


def _together(found: Sequence[Finding]) -> list[str]:
    by_sentence: dict[str, list[Answer]] = defaultdict(list)
    for sentence, answer in found:
        by_sentence[sentence].append(answer)
    return [sentence.replace("{who}", _who(answers)) for sentence, answers in by_sentence.items()]


def _who(answers: Sequence[Answer]) -> str:
    """ "alpha (executors 0 and 1) and beta (executor 2)"; of many machines the first ones."""
    by_host: dict[str, list[str]] = defaultdict(list)
    for answer in answers:
        by_host[answer["host"]].append(answer["executor"])
    machines = [_machine_name(host, sorted(set(ids))) for host, ids in sorted(by_host.items())]
    more = len(machines) - _MACHINES_NAMED
    return _listed([*machines[:_MACHINES_NAMED], f"{more} more machines"] if more > 0 else machines)


def _machine_name(host: str, executors: Sequence[str]) -> str:
    if list(executors) == ["driver"]:
        return f"the driver {host}"
    if executors[0].startswith("process"):
        return f"{host} ({_listed(executors)})"
    return f"{host} (executor{'s' if len(executors) > 1 else ''} {_listed(executors)})"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
