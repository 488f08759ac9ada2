import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "environment.sh"
COUNTING = """#!/bin/sh
echo x >>"$(dirname "$0")/../installations"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_versions_are_installed_again_after_others_were(tmp_path):
    (tmp_path / "scripts").mkdir()
    shutil.copy(SCRIPT, tmp_path / "scripts")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in ("python", "genscale"):
        program = tmp_path / ".venv" / "bin" / name
        program.write_text(COUNTING)
        program.chmod(0o755)
    (tmp_path / "constraints.txt").touch()

    def installations(project: str, extras: str) -> int:
        (tmp_path / "pyproject.toml").write_text(project)
        subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f". scripts/environment.sh; make_environment {extras}"],
            cwd=tmp_path, check=True, capture_output=True, env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable},
        )  # fmt: skip
        return (tmp_path / ".venv" / "installations").read_text().count("x")

    wanted = [("A", "dev"), ("A", "dev"), ("A", "simulate"), ("A", "dev"), ("B", "dev"), ("A", "dev")]
    assert [installations(*each) for each in wanted] == [1, 1, 2, 2, 3, 4]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize("version", [(3, 10), (3, 14)])
def test_unsupported_python_is_refused_at_once(tmp_path, version):
    (tmp_path / "scripts").mkdir()
    shutil.copy(SCRIPT, tmp_path / "scripts")
    python = tmp_path / "python"
    python.write_text(f"""#!/bin/sh
[ "$1" = --version ] && echo Python {version[0]}.{version[1]}.0 && exit
exec {sys.executable} -c "import sys; sys.version_info = {version}
$2"
""")
    python.chmod(0o755)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", ". scripts/environment.sh; make_environment dev"],
        cwd=tmp_path, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "PYTHON": str(python)},
    )  # fmt: skip
    assert done.returncode == 2
    assert "genscale runs on Python 3.11 to 3.13 (Pythia 8 has no wheel for 3.14)" in done.stderr
    assert f"Python {version[0]}.{version[1]}.0" in done.stderr
    assert not (tmp_path / ".venv").exists()
