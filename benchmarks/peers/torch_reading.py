"""One pass of torchvision over the unpacked set, in batches by two workers: ``ImageFolder`` or ``GTSRB``."""

import sys

import torch
from torchvision import datasets, transforms


def main(kind: str, root: str) -> None:
    """Read every image once, and say how many there were."""
    change = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
    if kind == "folder":
        sets = [datasets.ImageFolder(f"{root}/gtsrb/GTSRB/Training", change)]
    else:
        sets = [datasets.GTSRB(root, split=split, transform=change, download=False) for split in ("train", "test")]
    images = 0
    for each in sets:
        for pixels, _ in torch.utils.data.DataLoader(each, batch_size=256, num_workers=2):
            images += len(pixels)
    sys.stdout.write(f"{images}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
