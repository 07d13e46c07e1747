"""Programs in new interpreters in which some packages cannot be imported."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run_without(packages, program):
    """Run a program in a new interpreter in which these packages cannot be imported."""
    refuse = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {packages!r}:
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
"""
    done = subprocess.run(
        [sys.executable, '-c', refuse + program],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
