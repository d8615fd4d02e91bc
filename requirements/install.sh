#!/usr/bin/env bash
# Make the virtual environment $1 hold exactly what the lock files $2 ... say, and check that Spark finds a Java.
# Does nothing when both are in order already. Run from the root of the repository.
#
# torch comes first, with its own dependencies (on other machines those are the CUDA packages). All else comes from the
# complete lock with --no-deps: petastorm declares setuptools<70 and torch setuptools>=77, so no resolver can meet both,
# though neither bound is real for us.
set -euo pipefail

venv=$1
shift
locks=("$@")
torch="torch==2.13.0"

fail() { echo "error: $*" >&2; exit 2; }

java_major() {
    local java=java
    [ -n "${JAVA_HOME:-}" ] && java=$JAVA_HOME/bin/java
    "$java" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1
}

java_fits() { case "$(java_major || true)" in 17 | 21) ;; *) return 1 ;; esac }

apt_install() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

ensure_java() {
    java_fits && return
    echo "Installing Java, which Spark runs on ..."
    apt_install openjdk-17-jre-headless || apt_install openjdk-21-jre-headless || true
    java_fits || fail "Spark needs Java 17 or 21, and none was found; install the package openjdk-17-jre-headless" \
        "(or any JDK 17 or 21), and point JAVA_HOME at it if it is not on the PATH."
}

find_python() {
    for candidate in ${PYTHON:-} python3.11 python3 python; do
        "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && echo "$candidate" && return
    done
    fail "the lock files are for Python 3.11, and no python3.11 is on the PATH; install it, or name one: make PYTHON=..."
}

make_venv() {
    local python
    python=$(find_python)
    "$python" -m venv "$venv" 2>/dev/null && return
    rm -rf "$venv"  # Debian splits venv off into a package of its own
    apt_install python3.11-venv || apt_install python3-venv || true
    "$python" -m venv "$venv" || fail "$python cannot make a virtual environment; install its venv module (python3-venv)."
}

ensure_java
stamp=$venv/.installed
wanted="$torch $(cat "${locks[@]}" setup.py | sha256sum | cut -d' ' -f1)"
[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && exit 0

echo "Installing ${locks[*]} into $venv (a few minutes, once) ..."
[ -x "$venv/bin/python" ] || make_venv
pip="$venv/bin/python -m pip --quiet --disable-pip-version-check"
$pip install "$torch"
for lock in "${locks[@]}"; do
    $pip install --no-deps -r "$lock"
done
$pip install --no-deps --no-build-isolation -e .
echo "$wanted" >"$stamp"
