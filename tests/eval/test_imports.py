"""What importing the library loads: figures alone need matplotlib, and nothing needs torch or the other packages."""

import subprocess
import sys

CODE = """
import sys
import eval.scaling
print(sorted({"torch", "matplotlib", "genscale", "tokenizer", "awkward", "sklearn", "tqdm"} & set(sys.modules)))
import eval.fidelity.score, eval.fidelity.loss, eval.literature.power, eval.tagging.calibration
print(sorted({"torch", "matplotlib", "genscale", "tokenizer", "fastjet", "ot"} & set(sys.modules)))
"""


def test_numbers_need_neither_torch_nor_matplotlib():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]
