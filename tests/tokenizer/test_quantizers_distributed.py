"""Two processes with different particles keep one codebook."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys, torch
from tokenizer.quantizers import VectorQuantizer

rank, store = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
torch.manual_seed(rank)
quantizer = VectorQuantizer(2, 16, ema_decay=0.5, dead_code_threshold=0.06, kmeans_iterations=5).train()
for step in range(5):
    # Rank 0 sees particles near (0, 0), rank 1 others near (10, 10), and more of them.
    quantizer(torch.randn(100 + 60 * rank, 2) + 10 * rank)
books = [torch.empty_like(quantizer.codebook) for _ in range(2)]
torch.distributed.all_gather(books, quantizer.codebook.contiguous())
assert torch.equal(*books), "codebooks differ"
near = torch.cdist(quantizer.codebook, torch.tensor([[0.0, 0.0], [10.0, 10.0]])).argmin(1)
assert 2 < near.sum() < 14, "codes lie with the particles of one rank only"
# A rank that ends while the other still answers would be aborted by its own threads.
torch.distributed.barrier()
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_ranks_share_one_codebook(tmp_path):
    arguments = [sys.executable, "-c", PROGRAM]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [*arguments, str(rank), str(tmp_path / "store")],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [rank.communicate(timeout=120)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(outputs)
