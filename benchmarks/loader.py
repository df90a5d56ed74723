"""Training batches: decoded images from the disk cache, augmented as a batch, beside PIL and torchvision per image."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms

from mgot.arguments import whole
from mgot.data.image_set import CacheOptions
from mgot.data.items import INFRARED, VISIBLE, Item
from mgot.data.loaders import CrossModalityLoader, EpochLabels
from mgot.data.sampler import CrossModalitySampler
from mgot.data.transforms import Augmentation

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FILE_SIZE = (112, 256)
PER_IDENTITY = 20
MOST = 1024  # of any count
Batch = tuple[np.ndarray, np.ndarray]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    add = parser.add_argument
    add("--size", type=whole(16, 4096), nargs=2, default=(288, 144), help="height and width (%(default)s)")
    add("--classes", type=whole(1, MOST), default=8, help="pseudo classes of a batch (%(default)s)")
    add("--instances", type=whole(1, MOST), default=16, help="images of each class and modality (%(default)s)")
    add("--steps", type=whole(1, MOST), default=2, help="batches of a run (%(default)s)")
    add("--repeats", type=whole(1, MOST), default=3, help="runs of each, the fastest counts (%(default)s)")
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    add("--device", choices=devices, default=devices[-1], help="(%(default)s)")


def write_images(folder: Path, identities: int) -> list[Item]:
    """JPEG files of smooth noise: PER_IDENTITY visible images of each identity, then as many infrared ones."""
    rng, items = np.random.default_rng(0), []
    for modality in (VISIBLE, INFRARED):
        for n in range(identities * PER_IDENTITY):
            small = rng.integers(0, 256, (16, 7, 3), dtype=np.uint8)
            path = folder / f"{modality}_{n:05d}.jpg"
            Image.fromarray(small).resize(FILE_SIZE, Image.Resampling.BICUBIC).save(path, quality=90)
            items.append(Item(str(path), n // PER_IDENTITY, 1 if modality == VISIBLE else 3, modality))
    return items


def channel_view(image: Image.Image) -> Image.Image:
    """A random channel copied to all three, or grey: the released codes' second visible view."""
    choice = int(torch.randint(0, 4, ()))
    one = image.convert("L") if choice == 3 else image.getchannel(choice)
    return Image.merge("RGB", (one, one, one))


def reference_chain(size: tuple[int, int]) -> tuple[transforms.Compose, transforms.Compose]:
    """Per-image transforms of a plain view, and of a channel view, as the released codes put them together."""
    shared: list[Any] = [
        transforms.Pad(10), transforms.RandomCrop(size), transforms.RandomHorizontalFlip(), transforms.ToTensor(),
        transforms.Normalize(MEAN, STD), transforms.RandomErasing(0.5),
    ]  # fmt: skip
    resize = transforms.Resize(size)
    return transforms.Compose([resize, *shared]), transforms.Compose([resize, channel_view, *shared])


def reference_batches(items: list[Item], steps: list[Batch], size: tuple[int, int]) -> Iterator[Tensor]:
    """The same images, each opened, decoded and transformed by itself."""
    plain, channel = reference_chain(size)

    def opened(index: int) -> Image.Image:
        with Image.open(items[index].path) as image:
            return image.convert("RGB")

    for visible, infrared in steps:
        views = [plain(opened(i)) for i in visible] + [channel(opened(i)) for i in visible]
        yield torch.stack(views + [plain(opened(i)) for i in infrared])


def timed(batches: Iterator[Any], device: torch.device) -> tuple[float, int]:
    """Seconds until all batches are on the device, and how many images they hold; a core's seconds on CPUs."""
    clock = perf_counter if device.type == "cuda" else process_time
    start, images = clock(), 0
    for batch in batches:
        tensor = batch["images"] if isinstance(batch, dict) else batch
        images += len(tensor.to(device))
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - start, images


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Time both in turns in one process and thread; ``rate_ratio`` is ours over the reference's."""
    torch.set_num_threads(1)
    device, size = torch.device(args.device), (args.size[0], args.size[1])
    with tempfile.TemporaryDirectory() as scratch:
        identities = max(args.classes, 8)
        items = write_images(Path(scratch), identities)
        n, labels = len(items) // 2, np.repeat(np.arange(identities), PER_IDENTITY)
        sampler = CrossModalitySampler(args.classes, args.instances, args.steps, seed=0)
        cache = CacheOptions("disk", str(Path(scratch) / "cache"))
        start = process_time()
        loader = CrossModalityLoader(
            items[:n], items[n:], size, sampler, Augmentation(), device=device, cache=cache
        )  # fmt: skip
        filling = process_time() - start
        rates = {"ours": 0.0, "per image": 0.0}
        for repeat in range(args.repeats):
            loader.set_epoch(repeat, EpochLabels(labels, labels))
            sources = {"ours": iter(loader), "per image": reference_batches(items, list(sampler), size)}
            for name, source in sources.items():
                seconds, images = timed(source, device)
                rates[name] = max(rates[name], images / seconds)
    print(f"{args.classes} x {args.instances} images of each modality, two visible views, {size}, {device}, one thread")
    print(f"  filling the cache {len(items) / filling:8.0f} images/s")
    for name, rate in rates.items():
        print(f"  {name:17s} {rate:8.0f} images/s   ours / this: {rates['ours'] / rate:.2f}")
    return {"rate_ratio": rates["ours"] / rates["per image"], "images_per_second": rates, "device": str(device)}
