# Sourced by the other scripts: makes .venv in the project's folder, or brings it up to date.
#   make_environment EXTRAS     for example: make_environment simulate,dev
# PYTHON chooses the interpreter (3.11 or newer), VENV another folder than .venv.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${VENV:-$root/.venv}

make_environment() {
    local extras=$1
    local python=${PYTHON:-python3}
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        echo "error: genscale needs Python 3.11 or newer; '$python' is $("$python" --version 2>/dev/null || echo missing)." >&2
        echo "       Choose another with PYTHON=/path/to/python3.12 $0" >&2
        exit 2
    fi
    # What was installed, from which files: unchanged files need no second installation.
    local files wanted
    files=$(cat "$root/pyproject.toml" "$root/constraints.txt" | cksum)
    wanted="$extras $files"
    if [ -x "$venv/bin/genscale" ] && grep -qxF "$wanted" "$venv/installed" 2>/dev/null; then
        return
    fi
    echo "Installing pinned dependencies into $venv (once; a few minutes) ..."
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    # Not what other files asked for: its versions are about to be replaced.
    { grep -e " $files\$" "$venv/installed" 2>/dev/null || true; } >"$venv/installed.new"
    mv "$venv/installed.new" "$venv/installed"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --constraint "$root/constraints.txt" --editable "$root[$extras]"
    echo "$wanted" >>"$venv/installed"
}
