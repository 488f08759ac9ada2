import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import numpy as np
from genscale.allocator import keep_freed_memory

def faults(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        np.empty(8 * 2**20).fill(1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

fresh = faults(4)
assert keep_freed_memory()
faults(2)
print(fresh, faults(4))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's settings")
def test_freed_arrays_are_reused_without_page_faults():
    found = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    fresh, kept = map(int, found.stdout.split())
    assert kept < fresh / 10
