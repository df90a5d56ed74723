"""Several processes: how torchrun's processes join, and what they exchange.

Every function works for one process too.
"""

from __future__ import annotations

import argparse
import inspect
import os
import pickle
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from fastreid.engine import defaults, launch
from fastreid.utils import comm
from torch import Tensor, nn
from torch.multiprocessing import ProcessExitedException
from torch.nn.parallel import DistributedDataParallel

from mgot.errors import Interrupted, UserError, reason

T = TypeVar("T")

# How long a process waits for the others until the config is read: wait_at_most.
_TIMEOUT = timedelta(minutes=30)


class FastreidWrapper(DistributedDataParallel):
    """The wrapper that fast-reid's trainer builds. engine/defaults.py:210 names a GPU, which fails on a CPU."""

    def __init__(self, module: nn.Module, device_ids: list[int] | None = None, **kwargs: Any) -> None:
        on_gpu = next(module.parameters()).is_cuda
        if "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters:  # the newer name
            kwargs["forward_sync_buffers"] = kwargs.pop("broadcast_buffers", True)
        super().__init__(module, device_ids=device_ids if on_gpu else None, **kwargs)


defaults.DistributedDataParallel = FastreidWrapper


def start(main: Callable[[argparse.Namespace], None], args: argparse.Namespace) -> int:
    """Run a job's processes, or be one of them if torchrun started this one; returns the exit code.

    Args:
        main: one process of the job; picklable if fast-reid starts several.
        args: of fast-reid's command line.

    Raises:
        UserError: more processes than GPUs, a number out of its range, or an error of the job itself.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        join_torchrun()
        with _losses_told():
            main(args)
        dist.destroy_process_group()
        return 0
    _check_numbers(args)
    gpus = torch.cuda.device_count()
    if args.num_gpus * args.num_machines == 1:
        main(args)
        return 0
    if args.num_gpus > gpus:
        raise UserError(
            f"--num-gpus {args.num_gpus}: this machine has {gpus}; leave the option out, or start processes on"
            f" CPUs with torchrun --nproc-per-node {args.num_gpus} tools/train_net.py ..."
        )
    where = {"num_machines": args.num_machines, "machine_rank": args.machine_rank, "dist_url": args.dist_url}
    try:
        launch(_tell_mistakes, args.num_gpus, **where, args=(main, args))
    except ProcessExitedException as error:
        return error.exit_code
    return 0


@contextmanager
def _losses_told() -> Iterator[None]:
    """UserError where the block waited in vain for another process of the job."""
    try:
        yield
    except RuntimeError as error:  # gloo's is no more than that
        if not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        raise UserError(
            f"process {dist.get_rank()}: another process of the job ended, or gave no answer within MGOT.TIMEOUT"
            f" ({reason(error)}): see what it said, and go on with --resume"
        ) from None


def _check_numbers(args: argparse.Namespace) -> None:
    """Raise UserError if a number in fast-reid's options, whose parser takes any whole number, makes no sense."""
    for option, number in (("--num-gpus", args.num_gpus), ("--num-machines", args.num_machines)):
        if number < 1:
            raise UserError(f"{option} must be 1 or more, not {number}; a machine without a GPU trains on its CPU")
    if not 0 <= args.machine_rank < args.num_machines:
        last = args.num_machines - 1
        raise UserError(f"--machine-rank must be 0 to {last} (--num-machines minus one), not {args.machine_rank}")
    if not re.fullmatch(r"auto|\w+://.+", args.dist_url):
        raise UserError(f"--dist-url must be such as tcp://host:port, not {args.dist_url!r}")


def _tell_mistakes(main: Callable[[argparse.Namespace], None], args: argparse.Namespace) -> None:
    """One of fast-reid's processes.

    Without this, its parent would show a user's mistake, or a signal, as a traceback.
    """
    try:
        with _losses_told():
            main(args)
    except UserError as error:
        print(f"process {comm.get_rank()}: {error}", file=sys.stderr)
        sys.exit(2)
    except Interrupted as stop:
        print(f"process {comm.get_rank()}: {stop}", file=sys.stderr)
        sys.exit(stop.status)


def join_torchrun() -> None:
    """Join the other processes of torchrun: NCCL if this machine shows GPUs, gloo if it shows none.

    Raises:
        UserError: more processes than GPUs.
    """
    local, local_size = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    gpus = torch.cuda.device_count()
    if gpus and local_size > gpus:
        raise UserError(
            f"--nproc-per-node {local_size}: this machine has {gpus} GPUs; start no more processes than that, or hide"
            " the GPUs with CUDA_VISIBLE_DEVICES= to train on CPUs"
        )
    if gpus:
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if gpus else "gloo", timeout=_TIMEOUT)
    for first in range(0, dist.get_world_size(), local_size):  # fast-reid asks this group for the local rank
        group = dist.new_group(list(range(first, first + local_size)))
        if first <= dist.get_rank() < first + local_size:
            comm._LOCAL_PROCESS_GROUP = group


def wait_at_most(minutes: float) -> None:
    """Give up another process of the job, here and in all later waits, that has not answered for so long."""
    if comm.get_world_size() == 1:
        return
    change = getattr(dist, "set_timeout", None) or dist.distributed_c10d._set_pg_timeout  # the newer name first
    for group in {dist.group.WORLD, comm._LOCAL_PROCESS_GROUP, comm._get_global_gloo_group()}:
        change(timedelta(minutes=minutes), group)


def on_main(compute: Callable[[], T], *, send: Callable[[T], T] | None = None) -> T:
    """The first process computes, and all get the result.

    Args:
        compute: called only in the first process.
        send: the part of the result that the others get; by default all of it.

    Raises:
        Exception: what ``compute`` raised, in every process, so that none waits forever.
    """
    if comm.get_world_size() == 1:
        return compute()
    result: Any = None
    failure: Exception | None = None
    packed: list[Any] = [None]
    if comm.is_main_process():
        try:
            result = compute()
            packed[0] = pickle.dumps((result if send is None else send(result), None))
        except Exception as error:
            failure = error
            packed[0] = pickle.dumps((None, sendable(error)))
    dist.broadcast_object_list(packed, src=0, group=comm._get_global_gloo_group())
    if not comm.is_main_process():
        result, failure = pickle.loads(packed[0])
    if failure is not None:
        raise failure
    return result


def sendable(error: Exception) -> Exception:
    """The exception itself if another process can read it, otherwise a plain one with its type's name and its text."""
    try:
        if type(pickle.loads(pickle.dumps(error))) is type(error):
            return error
    except Exception:  # whatever the exception's parts and its constructor raise
        pass
    return UserError(str(error)) if isinstance(error, UserError) else RuntimeError(f"{type(error).__name__}: {error}")


def gather_rows(rows: Tensor) -> Tensor:
    """All processes' rows, one process after the other, in the first process; no rows in the others."""
    if comm.get_world_size() == 1:
        return rows
    parts = comm.gather(rows)
    return torch.cat(parts) if comm.is_main_process() else rows[:0]


def average_buffers(model: nn.Module) -> None:
    """Give all processes the mean of their running statistics, which each gathers from its own batches. [ours]"""
    if comm.get_world_size() == 1:
        return
    for buffer in model.buffers():
        if buffer.is_floating_point():
            dist.all_reduce(buffer)
            buffer /= comm.get_world_size()
