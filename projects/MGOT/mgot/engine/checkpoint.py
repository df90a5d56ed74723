"""The host's checkpointer, made safe: written whole or not at all, read without running anybody's code."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch
from fastreid.utils.checkpoint import Checkpointer
from torch import nn

from mgot.errors import UserError
from mgot.files import write_atomically


def load_tensors(path: str | Path) -> Any:
    """Read a checkpoint of tensors and plain values onto the CPU, executing nothing that it holds.

    Raises:
        UserError: the file is missing, is no checkpoint, is cut short, or holds more than tensors and plain values.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such weights file: check MODEL.WEIGHTS") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: not a readable checkpoint of tensors ({reason})") from None


class AtomicCheckpointer(Checkpointer):
    """Saves to a temporary file that is flushed and then renamed; loads with ``weights_only``.

    Attributes:
        about: plain facts that every checkpoint carries, such as the data set and split it was trained on.
    """

    def __init__(
        self, model: nn.Module, save_dir: str = "", *, about: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(model, save_dir, **kwargs)
        self.about = about or {}

    def save(self, name: str, **kwargs: Any) -> None:
        """Write ``<save_dir>/<name>.pth`` and point ``last_checkpoint`` at it."""
        if not self.save_dir or not self.save_to_disk:
            return
        data = {"model": self.model.state_dict(), "about": self.about, **kwargs}
        data.update({key: obj.state_dict() for key, obj in self.checkpointables.items()})
        target = Path(self.save_dir) / f"{name}.pth"
        temporary = target.with_name(target.name + ".tmp")
        with temporary.open("wb") as stream:
            torch.save(data, stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
        self.logger.info(f"Saved checkpoint {target}")
        self.tag_last_checkpoint(target.name)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Name the newest checkpoint in the pointer file."""
        write_atomically(Path(self.save_dir) / "last_checkpoint", last_filename_basename)

    def load(self, path: str, checkpointables: list[str] | None = None) -> Any:
        """As the host's, with a clear error where there is no such file."""
        if path and not Path(path).is_file():
            raise UserError(f"{path}: no such weights file: check MODEL.WEIGHTS")
        return super().load(path, checkpointables)

    def _load_file(self, f: str) -> Any:
        content = load_tensors(f)
        return content if isinstance(content, dict) and "model" in content else {"model": content}
