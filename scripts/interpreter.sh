# Sourced by scripts/environment: which Python, and whether it can do what is asked of it.

say() { printf '%s\n' "==> $*" >&2; }
die() { printf '%s\n' "penstock: $*" >&2; exit 1; }

can_apt() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

# Only as root, and only what the caller names. Its own words go to the log.
apt_install() {
    say "apt-get install $*"
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; } >>"$log" 2>&1 ||
        { tail -n 5 "$log" >&2; return 1; }
}

# Prints "3.12" if $1 is a CPython that Penstock runs on; fails otherwise.
supported_version() {
    "$1" -I -c '
import sys
if sys.implementation.name != "cpython" or not (3, 11) <= sys.version_info[:2] <= (3, 13) or sys.maxsize < 2**32:
    sys.exit(1)
print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

# Where the shared libpython of $1 (version $2) is: Triton's Python stub for 3.11 and 3.12 is linked to it.
shared_libpython() {
    local own
    own=$("$1" -I -c '
import os, sysconfig as s
name = "libpython%s.so.1.0" % s.get_python_version()
for folder in (s.get_config_var("LIBDIR"), os.path.join(s.get_config_var("LIBDIR"), s.get_config_var("MULTIARCH") or "")):
    if os.path.exists(os.path.join(folder, name)):
        print(os.path.join(folder, name))
        break') || return 1
    [ -n "$own" ] || own=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p | awk -v n="libpython$2.so.1.0" '$1 == n { print $NF; exit }')
    [ -n "$own" ] && printf '%s\n' "$own"
}

# The interpreter for an environment: $PYTHON if set, else the first on the path that will do.
# For Triton one that needs no preparation comes first: 3.13 has to compile numpy, others may lack libpython.
choose_interpreter() {
    local want=$1 candidate version first=
    if [ -n "${PYTHON:-}" ]; then
        supported_version "$PYTHON" >/dev/null || die "PYTHON=$PYTHON is not a CPython 3.11, 3.12 or 3.13."
        command -v "$PYTHON"
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11; do
        command -v "$candidate" >/dev/null && version=$(supported_version "$candidate") || continue
        [ "$want" = triton ] || { command -v "$candidate"; return; }
        [ -n "$first" ] || first=$(command -v "$candidate")
        [ "$version" != 3.13 ] && shared_libpython "$candidate" "$version" >/dev/null && { command -v "$candidate"; return; }
    done
    [ -n "$first" ] || die "found no Python 3.11, 3.12 or 3.13: install one, or name one with PYTHON=/path/to/python3."
    printf '%s\n' "$first"
}

# Sets the array `pip` for the environment at $1: its own, or that of the Python it was made with.
find_pip() {
    pip=("$1/bin/python" -m pip)
    "${pip[@]}" --version >/dev/null 2>&1 ||
        pip=("$("$1/bin/python" -c 'import sys; print(sys._base_executable)')" -m pip --python "$1/bin/python")
}

# Makes a virtual environment at $2 with the Python $1 (version $3) and sets the array `pip`.
# Debian leaves ensurepip out of python3 and puts it in python3-venv: then the system's pip serves from outside.
make_venv() {
    local base=$1 folder=$2 version=$3
    if ! "$base" -c 'import ensurepip, venv' 2>/dev/null; then
        if "$base" -c 'import venv, pip, sys; sys.exit([int(n) for n in pip.__version__.split(".")[:2]] < [22, 3])' 2>/dev/null; then
            "$base" -m venv --without-pip "$folder"
            pip=("$base" -m pip --python "$folder/bin/python")
            return
        fi
        can_apt || die "$base cannot make virtual environments: install python$version-venv (apt-get install python$version-venv) and run this again."
        apt_install "python$version-venv" || die "could not install python$version-venv."
    fi
    "$base" -m venv "$folder"
    pip=("$folder/bin/python" -m pip)
}
