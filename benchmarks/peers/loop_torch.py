"""The same LeNet in PyTorch, timed: a DataLoader, Adam, and on request augmentation like ours, a batch at a time."""

import json
import math
import resource
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset, default_collate

NETWORK = nn.Sequential(
    nn.Conv2d(3, 6, 5), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
    nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 43),
)  # fmt: skip


def plain(samples: list[tuple[torch.Tensor, torch.Tensor]]) -> list[torch.Tensor]:
    """Put samples together, standardised."""
    images, labels = default_collate(samples)
    images = images.float()
    deviation, mean = torch.std_mean(images, (1, 2, 3), keepdim=True)
    return [(images - mean) / deviation.clamp(min=1 / 55), labels]


def augmented(samples: list[tuple[torch.Tensor, torch.Tensor]]) -> list[torch.Tensor]:
    """Rotate, scale, shear, shift, blur and relight, as `trafficsigns.augmentation` does, which also tilts."""
    images, labels = default_collate(samples)
    count = len(images)
    values = images.float() / 255.0
    angle, wide, high, shear, right, down = (torch.rand(6, count) * 2 - 1) * torch.tensor(
        [math.radians(15), 0.2, 0.2, 0.2, 0.24, 0.24]
    )[:, None]
    cos, sin = angle.cos(), angle.sin()
    rows = [torch.stack(row, 1) for row in ((cos * (1 + wide), shear - sin, right), (sin, cos * (1 + high), down))]
    grid = functional.affine_grid(torch.stack(rows, 1), list(values.shape), align_corners=False)
    values = functional.grid_sample(values, grid, padding_mode="border", align_corners=False)
    share = torch.rand(count, 1, 1, 1) ** 2
    values = values + share * (functional.avg_pool2d(values, 3, 1, 1, count_include_pad=False) - values)
    gain, gamma = 1 + 0.15 * (torch.rand(count, 3, 1, 1) * 2 - 1), 2 ** (0.3 * (torch.rand(count, 1, 1, 1) * 2 - 1))
    values = (gain * values**gamma).clamp(0, 1)
    deviation, mean = torch.std_mean(values, (1, 2, 3), keepdim=True)
    return [(values - mean) / deviation.clamp(min=1 / 55), labels]


def processor_seconds() -> float:
    """Return the processor time of this process and of the loader's ended workers."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def main() -> None:
    """Train epochs for a while, and tell the speed."""
    request = json.loads(sys.argv[1])
    with np.load(request["data"]) as stored:
        count = request["batch"] * request["chunk"]
        pixels = torch.from_numpy(stored["pixels"][:count].transpose(0, 3, 1, 2).copy())
        data = TensorDataset(pixels, torch.from_numpy(stored["labels"][:count]))
    collate = augmented if request["augmentation"] else plain
    loader = DataLoader(data, request["batch"], shuffle=True, num_workers=request["workers"], collate_fn=collate)
    optimiser, loss = torch.optim.Adam(NETWORK.parameters()), nn.CrossEntropyLoss()

    def epoch() -> None:
        for images, labels in loader:
            optimiser.zero_grad()
            loss(NETWORK(images), labels).backward()
            optimiser.step()

    epoch()
    taken, processor, started = 0, processor_seconds(), time.perf_counter()
    while time.perf_counter() - started < request["seconds"]:
        epoch()
        taken += count
    seconds, processor = time.perf_counter() - started, processor_seconds() - processor
    sys.stdout.write(json.dumps({"images": taken, "seconds": seconds, "processor": processor}) + "\n")


if __name__ == "__main__":
    main()
