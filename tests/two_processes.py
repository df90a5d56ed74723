"""One process of a tiny training, started by torchrun or by itself; writes down what test_distributed compares.

usage: two_processes.py FOLDER DYING_EPOCH KEY VALUE ...   (DYING_EPOCH -1: nobody dies)
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

import mgot.engine.trainer as trainer_module
from mgot.data.transforms import Augmentation
from mgot.distributed import start
from mgot.engine.hooks import MemoryUpdateHook
from mgot.engine.run import train
from mgot.engine.setup import setup
from mgot.modeling import extraction

DEMO = str(Path(__file__).resolve().parent.parent / "projects/MGOT/configs/demo.yml")


def rank() -> int:
    """Number of this process; 0 where it is the only one."""
    return distributed.get_rank() if distributed.is_initialized() else 0


class Recorder(MemoryUpdateHook):
    """The memories after each step and the weights at the end; in the dying epoch, the second process's sudden end."""

    memories: ClassVar[list[dict[str, Tensor]]] = []
    weights: ClassVar[dict[str, Tensor]] = {}
    dying_epoch: ClassVar[int] = -1

    def after_step(self) -> None:
        if self.trainer.epoch == self.dying_epoch and rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        super().after_step()
        bank = self.trainer.state.bank
        memories = {"visible": bank.visible, "infrared": bank.infrared, "cross": bank.cross}
        self.memories.append({name: one.prototypes.clone() for name, one in memories.items() if one is not None})

    def after_train(self) -> None:
        self.weights.update(self.trainer.network.state_dict())


def views_as_they_are(self: Augmentation, visible: Tensor, infrared: Tensor, generator: torch.Generator) -> Tensor:
    """No augmentation: each process draws its own."""
    return torch.cat([visible, visible, infrared]).float()


def keep_running_statistics(self: nn.Module, mode: bool = True) -> nn.Module:
    """Norms stay in eval mode: batch statistics of half a batch are not those of the whole."""
    return nn.Module.train(self, False)


def main(args: argparse.Namespace) -> None:
    """Train, and write down what was seen."""
    extracted: list[int] = []
    embed = extraction.embed

    def counted(model: nn.Module, batch: dict[str, Any], flip: bool) -> Tensor:
        extracted.append(len(batch["images"]))
        return embed(model, batch, flip)

    replaced: tuple[tuple[Any, str, Any], ...] = (
        (extraction, "embed", counted),
        (Augmentation, "__call__", views_as_they_are),
        (_BatchNorm, "train", keep_running_statistics),
        (trainer_module, "MemoryUpdateHook", Recorder),
    )
    for owner, name, value in replaced:
        setattr(owner, name, value)
    train(setup(args), resume=False)
    report = {"memories": Recorder.memories, "weights": Recorder.weights, "extracted": extracted}
    torch.save(report, Path(args.folder) / f"rank{rank()}.pt")


if __name__ == "__main__":
    from fastreid.engine import default_argument_parser

    folder, epoch, *options = sys.argv[1:]
    Recorder.dying_epoch = int(epoch)
    arguments = default_argument_parser().parse_args(["--config-file", DEMO, *options])
    arguments.folder = folder
    sys.exit(start(main, arguments))
