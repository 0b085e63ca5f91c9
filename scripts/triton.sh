# Sourced by scripts/environment: what the embedded Triton needs beyond a pip install.
#
# - Its Python backend runs a stub process per model, linked to the libpython of one Python version. The wheel
#   carries stubs for all versions; the interpreter's own libpython is linked into the folder where Triton's
#   libraries are looked for. The wheel also brings a libpython, for 3.13, and that one is replaced: which
#   modules are built in is each build's choice (Debian's: _datetime), and it would miss those of the interpreter.
# - The stub needs numpy 1, which has no wheel for Python 3.13: there it is compiled once, for this user.

check_machine() {
    local arch glibc
    arch=$(uname -m)
    glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null | awk '{ print $2 }')
    case $(uname -s)-$arch in
        Linux-x86_64 | Linux-aarch64) ;;
        *) die "the embedded Triton runs on Linux on x86_64 or aarch64; elsewhere set engine.url to a Triton that runs somewhere else." ;;
    esac
    awk -v v="$glibc" 'BEGIN { split(v, n, "."); exit !(n[1] > 2 || n[1] == 2 && n[2] >= 35) }' ||
        die "the embedded Triton needs glibc 2.35 (Debian 12, Ubuntu 22.04 or newer); this system has ${glibc:-none}. Set engine.url to a Triton that runs somewhere else."
}

find_libpython() {
    libpython=$(shared_libpython "$base" "$version") && return
    can_apt || die "$base has no shared libpython$version, which Triton's Python backend needs: install libpython$version (apt-get install libpython$version) and run this again."
    apt_install "libpython$version" && libpython=$(shared_libpython "$base" "$version") ||
        die "found no shared libpython$version for $base even after installing the package; build that Python with --enable-shared or choose another with PYTHON=."
}

# The folder with a numpy wheel for Python 3.13, compiled by the first run that needs it.
numpy_wheel() {
    local cache header name
    name=$(sed -n 's/^\(numpy\)==\([^ ]*\).*/\1-\2/p' requirements/triton.txt)
    cache=${XDG_CACHE_HOME:-$HOME/.cache}/penstock/$name-cp313-$(uname -m)
    mkdir -p "$cache"
    wheel=$(find "$cache" -name '*.whl')
    [ -z "$wheel" ] || return 0
    header=$("$base" -I -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
    if ! { command -v cc && command -v c++ && [ -f "$header" ]; } >/dev/null; then
        can_apt || die "numpy 1 must be compiled for Python 3.13: install a compiler and its headers (apt-get install gcc g++ python3.13-dev), or choose Python 3.11 or 3.12 with PYTHON=, and run this again."
        apt_install gcc g++ libc6-dev python3.13-dev || die "could not install gcc, g++ and python3.13-dev, which numpy 1 on Python 3.13 needs."
    fi
    say "compiling $name for Python 3.13 (a few minutes, once for this user)"
    local build=$root/$venv/numpy-build
    mkdir -p "$build"
    # Triton's tensors are all it serves here: no BLAS, no SIMD variants, and no waiting for an optimiser.
    # (In the file, for pip applies settings on its command line to requirements on its command line only.)
    local options=() option
    for option in allow-noblas=true blas=none lapack=none disable-optimization=true optimization=0; do
        options+=("--config-settings=\"setup-args=-D$option\"")
    done
    awk '/^[^ ]/ { numpy = /^numpy==/ } numpy' requirements/triton.txt | sed "1s|==[^ ]*|& ${options[*]}|" >"$build/numpy.txt"
    make_venv "$base" "$build/venv" "$version"
    install requirements/numpy-build.txt --only-binary :all:
    if ! PATH="$build/venv/bin:$PATH" "${pip[@]}" wheel --verbose --no-deps --require-hashes --no-build-isolation \
        --no-binary :all: --requirement "$build/numpy.txt" --wheel-dir "$build/wheel" 2>&1 | tee -a "$log" |
        awk '/^ *\[[0-9]+\/[0-9]+\] / { split($1, n, /[][\/]/); if (n[2] % 25 == 0) { print "    " n[2] "/" n[3]; fflush() } }' >&2; then
        tail -n 12 "$log" >&2
        die "compiling $name failed; the log is $log. Python 3.11 or 3.12 (PYTHON=) needs no compiling."
    fi
    mv "$build"/wheel/*.whl "$cache/"
    rm -rf "$build"
    wheel=$(find "$cache" -name '*.whl')
}

install_triton() {
    local lock=requirements/triton.txt libpython='' wheel='' missing
    local venv_pip=("${pip[@]}")
    check_machine
    find_libpython
    if [ "$version" = 3.13 ]; then
        numpy_wheel
        pip=("${venv_pip[@]}")
        lock=$venv/triton-without-numpy.txt
        awk '/^[^ ]/ { skip = /^numpy==/ } !skip' requirements/triton.txt >"$lock"
        "${pip[@]}" install --quiet --no-deps --no-index "$wheel"
    fi
    install "$lock" --only-binary :all:

    local bundled site=$venv/lib/python$version/site-packages
    local server=$site/pytriton/tritonserver libraries=$site/nvidia_pytriton.libs
    ln -sf "$libpython" "$libraries/libpython$version.so.1.0"
    for bundled in "$libraries"/libpython3-*."${version#3.}".so.1.0; do
        [ ! -e "$bundled" ] || ln -sf "$libpython" "$bundled"
    done
    missing=$(LD_LIBRARY_PATH=$libraries ldd "$server/bin/tritonserver" "$server/python_backend_stubs/$version/triton_python_backend_stub" | awk '/not found/ { print $1 }' | sort -u | paste -sd' ')
    [ -z "$missing" ] || die "the embedded Triton misses these shared libraries: $missing. Install the packages that hold them and run this again."
    "$venv/bin/python" -c 'import numpy, openvino_genai, tokenizers' 2>>"$log" >&2 ||
        { tail -n 12 "$log" >&2; die "the models' packages do not import; the log is $log."; }
}
