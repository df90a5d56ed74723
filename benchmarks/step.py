"""A training step by a config, beside a plain one: float32, unfused, losses read one by one, memories in a loop."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from time import perf_counter, process_time
from typing import Any

import torch
import torch.nn.functional as F
from fastreid.config import CfgNode
from fastreid.modeling.meta_arch import build_model
from fastreid.solver import build_optimizer
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from mgot.arguments import whole
from mgot.engine.schedule.solver import build_fused_optimizer
from mgot.engine.setup import load_config
from mgot.memory import MemoryBank, PrototypeMemory
from mgot.modeling import DEN

CLUSTERS = 100
Step = Callable[[], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    add = parser.add_argument
    add("--config-file", default="projects/MGOT/configs/demo.yml", help="(%(default)s)")
    add("--repeats", type=whole(1), default=8, help="steps of each, the fastest counts (%(default)s)")
    add("--threads", type=whole(1, 1024), default=1, help="CPU threads (%(default)s)")
    add("--profile", action="store_true", help="name the five operations that take longest")
    add("opts", nargs="*", metavar="KEY VALUE", help="config overrides")


def random_batch(cfg: CfgNode, device: torch.device) -> dict[str, Tensor]:
    """Images and labels of the config's batch: two visible views and the infrared images."""
    n = cfg.SOLVER.IMS_PER_BATCH // 2
    per_class = cfg.DATALOADER.NUM_INSTANCE
    y = torch.arange(n // per_class).repeat_interleave(per_class) % CLUSTERS
    images = torch.randint(0, 256, (3 * n, 3, *cfg.INPUT.SIZE_TRAIN)).float()
    return {
        "images": images.to(device),
        "is_visible": torch.arange(3 * n) < 2 * n,
        "targets": torch.cat([y, y, y]),
    }


def random_bank(dim: int, device: torch.device) -> MemoryBank:
    """Memories of the cross stage, matched one to one."""
    generator = torch.Generator().manual_seed(0)

    def memory() -> PrototypeMemory:
        return PrototypeMemory(torch.randn(CLUSTERS, dim, generator=generator).to(device))

    same = torch.arange(CLUSTERS)
    return MemoryBank(memory(), memory(), memory(), same, same, same, same)


def our_step(cfg: CfgNode, model: DEN, batch: dict[str, Tensor]) -> Step:
    """As the trainer steps."""
    optimizer, _ = build_fused_optimizer(cfg, model)
    scaler = torch.amp.GradScaler(enabled=model.precision == torch.float16)

    def step() -> None:
        total = torch.stack(list(model(batch).values())).sum()
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(total).backward()
        scaler.step(optimizer)
        scaler.update()
        assert model.heads.bank is not None and model.heads.step is not None
        model.heads.bank.update(*model.heads.step)

    return step


def plain_step(cfg: CfgNode, model: DEN, batch: dict[str, Tensor]) -> Step:
    """As released codes step: every loss read, one optimiser group a parameter, memories image by image."""
    optimizer, _ = build_optimizer(cfg, model, contiguous=False)
    for group in optimizer.param_groups:
        group.update(foreach=False, fused=False)

    def step() -> None:
        losses = model(batch)
        total = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        for loss in losses.values():
            loss.item()
        bank, seen = model.heads.bank, model.heads.step
        assert bank is not None and bank.cross is not None and seen is not None
        for memory, f, y in ((bank.visible, seen.f_v, seen.y_v), (bank.infrared, seen.f_r, seen.y_r),
                             (bank.cross, seen.f_v, seen.y_v), (bank.cross, seen.f_r, seen.y_r)):  # fmt: skip
            for feature, label in zip(f, y.tolist(), strict=True):
                moved = memory.momentum * memory.prototypes[label] + (1 - memory.momentum) * feature
                memory.prototypes[label] = F.normalize(moved, dim=0)

    return step


def seconds_of(step: Callable[[], Any], device: torch.device) -> float:
    """Time of a call until the device is done; on CPUs that of all cores together, whatever else they do."""
    clock = perf_counter if device.type == "cuda" else process_time
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = clock()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - start


def matrix_rate(dtype: torch.dtype, device: torch.device) -> float:
    """Floating-point operations a second that the device reaches in a large matrix product."""
    n = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    best = min(seconds_of(lambda: a @ b, device) for _ in range(10))
    return 2.0 * n**3 / best


def model_of(cfg: CfgNode) -> DEN:
    """The config's model in the cross stage, with random weights."""
    torch.manual_seed(0)
    model = build_model(cfg).train()
    model.heads.bank = random_bank(cfg.MODEL.BACKBONE.FEAT_DIM, model.device)
    return model


def in_rows(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Input of a backbone in PyTorch's default memory layout."""
    return tuple(x.contiguous() for x in inputs)


def show_profile(step: Step, device: torch.device) -> None:
    """The five operations that take longest in a step."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=activities) as profiled:
        step()
    key = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    print(profiled.key_averages().table(sort_by=key, row_limit=5, max_name_column_width=60))


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Time both in turns; ``time_ratio`` is ours over the plain one's."""
    torch.set_num_threads(args.threads)
    fixed = ["MODEL.BACKBONE.PRETRAIN", "False"]
    cfg = load_config(args.config_file, args.opts, fixed=fixed)
    device = torch.device(cfg.MODEL.DEVICE)
    ours = model_of(cfg)
    fixed += ["MGOT.PRECISION", "float32", "MGOT.COMPILE", "False"]
    plain = model_of(load_config(args.config_file, args.opts, fixed=fixed))
    plain.to(memory_format=torch.contiguous_format)
    plain.backbone.register_forward_pre_hook(in_rows)
    batch = random_batch(cfg, device)
    steps = {"ours": our_step(cfg, ours, batch), "plain": plain_step(cfg, plain, batch)}
    with FlopCounterMode(display=False) as counter:
        steps["plain"]()
    flops = counter.get_total_flops()
    best = {name: min(seconds_of(step, device) for _ in range(2)) for name, step in steps.items()}  # warms up
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    for _ in range(args.repeats):
        best = {name: min(best[name], seconds_of(step, device)) for name, step in steps.items()}
    rate = matrix_rate(ours.precision, device)
    share = flops / best["ours"] / rate
    n = len(batch["images"])
    print(f"{n} images {tuple(cfg.INPUT.SIZE_TRAIN)}, {ours.precision}, {device}, {flops / 1e12:.3f} Tflop a step")
    for name, seconds in best.items():
        ratio = best["ours"] / seconds
        print(f"  {name:5s} {1e3 * seconds:8.1f} ms  {n / seconds:7.0f} images/s   ours / this: {ratio:.3f}")
    print(f"  matrix products reach {rate / 1e12:.3f} Tflop/s; the step reaches {share:.1%} of that")
    if args.profile:
        show_profile(steps["ours"], device)
    peak = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else 0.0
    return {
        "time_ratio": best["ours"] / best["plain"], "seconds": best, "images": n, "flops": flops,
        "matrix_rate": rate, "share": share, "peak_gb": peak, "precision": str(ours.precision), "device": str(device),
    }  # fmt: skip
