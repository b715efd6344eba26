"""Every example runs as its docstring says and prints what it should."""

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_moons(tmp_path):
    """The last line is what the script prints on the real micrograd."""
    done = subprocess.run(
        [sys.executable, "-m", "fastgrad", str(EXAMPLES / "moons.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert lines[1] == "number of parameters 337"
    assert lines[-1] == "step 19 loss 0.211013, accuracy 91%"
    assert len(lines) == 22
