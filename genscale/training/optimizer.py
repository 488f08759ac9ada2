"""AdamW on a model whose parameters are one vector, and whose gradients are another.

A small model has some fifty parameter tensors of a few hundred numbers each. Clipping, AdamW and averaging of one
tensor after another cost more time than the matrix products; on vectors each of them is one operation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genscale.models.blocks import Blocks

BETAS = (0.9, 0.999)
EPSILON = 1e-8


def flatten_parameters(model: nn.Module) -> Tensor:
    """Return all parameters as one vector, of which they become views; called again, it returns the same vector."""
    parameters = list(model.parameters())
    sizes = [p.numel() for p in parameters]
    first, total = parameters[0].data, sum(sizes)
    places = [first.data_ptr() + first.itemsize * sum(sizes[:i]) for i in range(len(sizes))]
    if places == [p.data_ptr() for p in parameters]:
        return first.as_strided((total,), (1,))
    vector = torch.cat([p.detach().flatten() for p in parameters])
    for parameter, part in zip(parameters, vector.split(sizes), strict=True):
        parameter.data = part.view(parameter.shape)
    return vector


class FlatAdamW:
    """AdamW (Loshchilov and Hutter, arXiv:1711.05101) with clipping of the gradient's norm, as torch computes them.

    Gradients accumulate in ``gradient`` between two steps.

    Parameters
    ----------
    model : nn.Module
        On the device where it is trained. Its parameters and their gradients become views of one vector each.
    weight_decay : float
        Weight decay.
    clip_norm : float
        Largest norm of the gradient.
    """

    def __init__(self, model: nn.Module, weight_decay: float, clip_norm: float) -> None:
        self.weight_decay, self.clip_norm = weight_decay, clip_norm
        self.parameters = flatten_parameters(model)
        self.gradient = torch.zeros_like(self.parameters)
        self._moments = torch.zeros_like(self.parameters), torch.zeros_like(self.parameters)
        self._steps = torch.zeros((), dtype=torch.float32, device=self.parameters.device)
        self._shapes = [p.shape for p in model.parameters()]
        for parameter, gradient in zip(model.parameters(), self._parts(self.gradient), strict=True):
            parameter.grad = gradient
        for module in model.modules():
            if isinstance(module, Blocks) and len(module):
                of_blocks = [p.grad for p in module.parameters() if p.grad is not None]
                start = of_blocks[0].storage_offset()
                module.gradient = self.gradient[start : start + sum(g.numel() for g in of_blocks)]

    @torch.no_grad()
    def step(self, rate: float, terms: float) -> None:
        """Update the parameters by the mean gradient, ``gradient`` over ``terms``, and set the gradient to zero."""
        norm = torch.linalg.vector_norm(self.gradient) / terms
        self.gradient *= (self.clip_norm / (norm + 1e-6)).clamp(max=1.0) / terms
        torch._fused_adamw_(
            [self.parameters], [self.gradient], [self._moments[0]], [self._moments[1]], [], [self._steps.add_(1)],
            lr=rate, beta1=BETAS[0], beta2=BETAS[1], weight_decay=self.weight_decay, eps=EPSILON,
            amsgrad=False, maximize=False,
        )  # fmt: skip
        self.gradient.zero_()

    def tensors(self) -> dict[str, Tensor]:
        """Return the moments of each parameter and the number of steps as ``<parameter>.<name>``, for a checkpoint."""
        first, second = map(self._parts, self._moments)
        named: dict[str, Tensor] = {}
        for i, (mean, square) in enumerate(zip(first, second, strict=True)):
            named |= {f"{i}.step": self._steps, f"{i}.exp_avg": mean, f"{i}.exp_avg_sq": square}
        return named

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Continue from what `tensors` returned."""
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])

    def _parts(self, vector: Tensor) -> list[Tensor]:
        sizes = [shape.numel() for shape in self._shapes]
        return [part.view(shape) for part, shape in zip(vector.split(sizes), self._shapes, strict=True)]
