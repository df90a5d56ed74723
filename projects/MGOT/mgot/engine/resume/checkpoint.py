"""fast-reid's checkpointer, made safe: a kill never leaves half a file, and reading runs no code from the file."""

from __future__ import annotations

import logging
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from fastreid.utils.checkpoint import Checkpointer
from torch import Tensor, nn

from mgot.engine.resume.content import FACTS, foreign, put_state, require_content
from mgot.errors import UserError, reason
from mgot.files import DAMAGED_ZIP, replacing, require_regular, write_atomically
from mgot.forms import count, fits, text, whole
from mgot.modeling.weights import plain_tensor

FINAL = "model_final"
INTRA = "model_intra"
FITTEST = "fittest.pth"
_NAMED_LAYERS = 3
_ADVERSARY_KEYS = (
    ": set MGOT.DEN.SHARED_NECK and MGOT.DEN.LOGIT_NORM (False in runs that began before these keys were there),"
    " MGOT.DEN.STAGES and MGOT.LOSS.W_ADV as the run had them"
)

logger = logging.getLogger("mgot")


def load_tensors(path: str | Path, *, mmap: bool = False) -> Any:
    """Read a checkpoint of tensors and plain values onto the CPU, without running any code from it.

    Args:
        path: the file.
        mmap: leave the tensors on the disk until they are used. This is enough to read the plain values.

    Raises:
        UserError: the file is missing, is not a checkpoint, is incomplete, or holds more than tensors and plain values.
    """
    try:
        require_regular(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap or None)
    except FileNotFoundError:
        raise UserError(f"{path}: no such weights file: check MODEL.WEIGHTS") from None
    except Exception as error:  # garbage raises whatever its bytes mean: KeyError, IndexError ...
        raise UserError(f"{path}: not a readable checkpoint of tensors ({reason(error)})") from None


def layer_differences(found: Mapping[str, Any], expected: Mapping[str, Tensor]) -> list[str]:
    """How the layers of a weights file differ from a model's: one line a layer, missing and other shapes first."""
    shapes = {name: tuple(value.shape) if plain_tensor(value) else "no tensor" for name, value in found.items()}
    lines = [f"{name} is missing" for name in expected if name not in shapes]
    lines += [
        f"{name} is {shapes[name]} and not {tuple(value.shape)}"
        for name, value in expected.items()
        if name in shapes and shapes[name] != tuple(value.shape)
    ]
    return lines + [f"{name} is unknown" for name in shapes if name not in expected]


def summarised(lines: list[str]) -> str:
    """The first few lines and how many more there are."""
    more = f" and {len(lines) - _NAMED_LAYERS} more" if len(lines) > _NAMED_LAYERS else ""
    return "; ".join(lines[:_NAMED_LAYERS]) + more


def progress_of(content: Any) -> tuple[int, int]:
    """(epochs finished, steps into the next one) of a training checkpoint's content.

    Raises:
        UserError: the content is not that of a training checkpoint.
    """
    keys = {
        "model": _is_dict,
        "optimizer": _is_dict,
        "epoch": lambda epoch: whole(epoch) and epoch >= -1,
        "step": count,
    }
    absent = [key for key in keys if not isinstance(content, dict) or key not in content]
    if absent:
        raise foreign(f"{', '.join(absent)} is missing")
    broken = [key for key, form in {**keys, "config?": text}.items() if not fits(content, {key: form})]
    if broken:
        raise foreign(f"{broken[0].rstrip('?')} is not what a training writes")
    return content["epoch"] + 1, content["step"]


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


class AtomicCheckpointer(Checkpointer):
    """Saves to a temporary file, then renames it. Loads with ``weights_only``.

    Attributes:
        about: plain facts that every checkpoint carries, such as the data set and split it was trained on.
        keep: how many checkpoints to keep, beside the final one and that of the intra stage. Older ones are removed.
    """

    def __init__(
        self, model: nn.Module, save_dir: str = "", *, about: dict[str, Any] | None = None, keep: int = 1, **kwargs: Any
    ) -> None:
        super().__init__(model, save_dir, **kwargs)
        self.about, self.keep = about or {}, keep

    def save(self, name: str, **kwargs: Any) -> None:
        """Write ``<save_dir>/<name>.pth``, point ``last_checkpoint`` at it and remove what is too old.

        Raises:
            OSError: it could not be written. Earlier checkpoints and the pointer have not changed.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        data = {"model": self.model.state_dict(), "about": self.about, **kwargs}
        data.update({key: obj.state_dict() for key, obj in self.checkpointables.items()})
        target = Path(self.save_dir) / f"{name}.pth"
        _save_atomically(target, data)
        self.logger.info(f"Saved checkpoint {target}")
        self.tag_last_checkpoint(target.name)
        for old in sorted(self.files(), key=_written)[: -self.keep]:
            old.unlink(missing_ok=True)

    def files(self) -> list[Path]:
        """The checkpoints of the current run, without the final one and that of the intra stage."""
        return [path for path in checkpoint_files(Path(self.save_dir)) if path.stem not in (FINAL, INTRA)]

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Name the newest checkpoint in the pointer file."""
        write_atomically(Path(self.save_dir) / "last_checkpoint", last_filename_basename)

    def load(self, path: str, checkpointables: list[str] | None = None) -> Any:
        """Like fast-reid's, for a model of the same architecture.

        If the adversary in the file has another architecture, the model keeps its own. Scoring does not need it.

        Raises:
            UserError: there is no such file, it is not a checkpoint, or it holds another backbone's weights.
        """
        if not path:
            return super().load(path, checkpointables)
        if not os.path.isfile(path):  # False too for what can be no path
            raise UserError(f"{path}: no such weights file: check MODEL.WEIGHTS")
        expected = self.model.state_dict()
        found = {name.removeprefix("module."): value for name, value in self._load_file(path)["model"].items()}
        backbone = [line for line in layer_differences(found, expected) if line.startswith("backbone.")]
        other = [line for line in layer_differences(found, expected) if " is (" in line and not _of_adversary(line)]
        if backbone or other:
            raise UserError(
                f"{path}: weights of another architecture ({summarised(backbone or other)}): set the MODEL keys that"
                " they were trained with (config.yaml beside them), or choose other MODEL.WEIGHTS"
            )
        return super().load(path, checkpointables)

    def _load_model(self, checkpoint: Any) -> Any:
        layers = {name.removeprefix("module."): value for name, value in checkpoint["model"].items()}
        found, expected = (
            {name: value for name, value in state.items() if _of_adversary(name)}
            for state in (layers, self.model.state_dict())
        )
        differences = layer_differences(found, expected)
        if found and expected and differences:
            logger.warning(
                f"the adversary in the weights file has another form and is not used ({summarised(differences)}):"
                " training starts with a new one, scoring does not need one"
            )
            layers = {name: value for name, value in layers.items() if name not in found}
        checkpoint["model"] = layers
        return super()._load_model(checkpoint)

    def resume(self) -> tuple[dict[str, Any] | None, list[str]]:
        """Load the newest checkpoint that can be read and fits; the pointer file is ignored.

        Returns:
            Its other content, None if the folder has no checkpoint; and a line for each newer one that was skipped.

        Raises:
            UserError: there are checkpoints and none can be used.
        """
        folder = Path(self.save_dir)
        readable, skipped = by_progress(folder)
        for _, path in readable:
            try:
                return self.take_up(path), skipped
            except (UserError, KeyError, ValueError) as error:
                skipped.append(f"{path.name}: {str(error).removeprefix(f'{path}: ')}")
        if skipped:
            raise UserError(
                f"--resume: no checkpoint in {folder} can be used ({'; '.join(skipped)}): fix the config, or start"
                " again with MGOT.OVERWRITE True"
            )
        return None, []

    def take_up(self, path: Path) -> dict[str, Any]:
        """Load model, optimiser, schedule and scaler from a checkpoint; returns its other content.

        Raises:
            UserError, KeyError, ValueError: it is damaged, or belongs to another config.
        """
        _check_sums(path)
        content: dict[str, Any] = load_tensors(path)
        progress_of(content)
        require_content(content)
        self._restore(content)
        return content

    def _restore(self, content: dict[str, Any]) -> None:
        """Load model, optimiser, schedule and scaler from a checkpoint's content, and remove them from it."""
        differences = layer_differences(content["model"], self.model.state_dict())
        if differences:
            hint = _ADVERSARY_KEYS if all(_of_adversary(line) for line in differences) else ""
            raise UserError(f"the model of another config ({summarised(differences)}){hint}")
        saved, own = (_sizes(each) for each in (content["optimizer"], self.checkpointables["optimizer"].state_dict()))
        if saved != own:
            raise UserError(
                f"an optimiser of another config, with parameter groups of {saved} and not {own} parameters: set the"
                " SOLVER keys and MGOT.DEN.BACKBONE_LR_FACTOR (1.0 before that key was there) as the run had them"
            )
        self.model.load_state_dict(content.pop("model"))
        for key, obj in self.checkpointables.items():
            put_state(key, obj, content.pop(key, None))

    def _load_file(self, f: str) -> Any:
        content = load_tensors(f)
        content = content if isinstance(content, dict) and "model" in content else {"model": content}
        layers = content["model"]
        if not fits(layers, {...: plain_tensor}) or not fits(content, {"about?": FACTS}):
            raise UserError(f"{f}: holds no weights of a model: check MODEL.WEIGHTS")
        return content


def _sizes(optimizer: dict[str, Any]) -> list[int]:
    """Numbers of parameters in the groups of an optimiser's state; none where it has no groups."""
    form = {"param_groups": [{"params": [count]}]}
    return [len(group["params"]) for group in optimizer["param_groups"]] if fits(optimizer, form) else []


def _of_adversary(line: str) -> bool:
    """Whether a layer, or a line of :func:`layer_differences`, belongs to the modality discriminator."""
    return line.startswith("discriminator.")


def checkpoint_files(folder: Path) -> list[Path]:
    """Training checkpoints in a folder, by name."""
    names = re.compile(r"model_(final|intra|\d+(_\d+)?)")
    found = folder.glob("model_*.pth") if os.path.isdir(folder) else ()  # which glob asks so that it may raise
    return sorted(path for path in found if names.fullmatch(path.stem))


def by_progress(folder: Path) -> tuple[list[tuple[tuple[int, int], Path]], list[str]]:
    """The readable checkpoints of a folder, the latest epoch first, and a line for each unreadable one.

    If the one of the intra stage is as late as another, the other comes first.
    """
    readable, skipped = [], []
    for path in checkpoint_files(folder):
        try:
            readable.append((progress_of(load_tensors(path, mmap=True)), path))
        except UserError as error:
            skipped.append(f"{path.name}: {str(error).removeprefix(f'{path}: ')}")
    return sorted(readable, key=lambda each: (each[0], each[1].stem != INTRA, each[1]), reverse=True), skipped


def _check_sums(path: Path) -> None:
    """Raise UserError where the bytes of a checkpoint are not those that were written; torch.load does not look."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except DAMAGED_ZIP as error:
        raise UserError(f"damaged: {reason(error)}") from None
    if damaged:
        raise UserError(f"damaged: the checksum of its part {damaged} is wrong")


def _written(path: Path) -> tuple[int, str]:
    """When a checkpoint was written. This gives the right order after a run fell back to an older one."""
    return path.stat().st_mtime_ns, path.name


def _save_atomically(target: Path, data: dict[str, Any]) -> None:
    try:
        with replacing(target) as stream:
            torch.save(data, stream)
    except RuntimeError as error:  # torch.save hides a failed write behind one of its own
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
