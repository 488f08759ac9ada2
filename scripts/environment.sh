# Sourced by the other scripts: makes .venv in the project's folder, or brings it up to date.
#   make_environment EXTRAS     for example: make_environment simulate,dev
# PYTHON chooses the interpreter, VENV another folder than .venv, CONSTRAINTS other versions than constraints.txt.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${VENV:-$root/.venv}
constraints=${CONSTRAINTS:-$root/constraints.txt}

make_environment() {
    local extras=$1
    local python=${PYTHON:-python3}
    if ! "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
        echo "error: genscale runs on Python 3.11 to 3.13 (Pythia 8 has no wheel for 3.14);" \
            "'$python' is $("$python" --version 2>/dev/null || echo missing)." >&2
        echo "       Choose another with PYTHON=/path/to/python3.13 $0" >&2
        exit 2
    fi
    # What was installed, from which files: unchanged files need no second installation.
    local files wanted
    files=$(cat "$root/pyproject.toml" "$constraints" | cksum)
    wanted="$extras $files"
    if [ -x "$venv/bin/genscale" ] && grep -qxF "$wanted" "$venv/installed" 2>/dev/null; then
        return
    fi
    echo "Installing pinned dependencies into $venv (once; a few minutes) ..."
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    # Forget what was installed from other versions of these files: it is about to be replaced.
    { grep -e " $files\$" "$venv/installed" 2>/dev/null || true; } >"$venv/installed.new"
    mv "$venv/installed.new" "$venv/installed"
    if [[ ",$extras," == *,energyflow,* ]] && ! compile_wasserstein; then
        echo "note: wasserstein cannot be compiled here (is there a C++ compiler?), so EnergyFlow is left out" >&2
        extras=${extras//energyflow/}
    fi
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --constraint "$constraints" --editable "$root[$extras]"
    echo "$wanted" >>"$venv/installed"
}

# EnergyFlow needs wasserstein, whose wheels are for numpy 1: compile it for the numpy of this environment.
compile_wasserstein() {
    local pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint "$constraints")
    "${pip[@]}" numpy wheel "setuptools>=77" &&
        "${pip[@]}" --no-build-isolation --no-binary wasserstein "wasserstein==1.1.0"
}
