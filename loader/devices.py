"""The device that a network runs on, and what makes its numbers repeatable there."""

import re

import torch

from util.errors import DissectionError
from util.launch import asked_for, local_rank


def choose_device(name):
    """Find the device to run on and make it repeatable.

    name: 'auto' (the first of cuda, mps, cpu that this computer has), 'cuda', 'cuda:<number>', 'mps' or 'cpu'. Of
    several processes of a run each takes the GPU of its LOCAL_RANK. Returns torch.device. Raises DissectionError for an
    unknown name and for a device that is absent.
    """
    _make_repeatable()
    wanted = str(name).strip().lower()
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if not re.fullmatch(r"cuda(:\d+)?|mps|cpu", wanted):
        raise DissectionError(f"unknown device {name!r}: use 'auto', 'cuda', 'cuda:0', 'mps' or 'cpu'")
    device = torch.device(wanted)
    if device.type == "cuda":
        return _cuda_device(device if asked_for()[1] == 1 else _own_of_rank(device))
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DissectionError("no MPS device (Apple GPU) on this computer; set DEVICE='auto' or 'cpu'")
    return device


def _own_of_rank(device):
    if device.index is not None:
        raise DissectionError(
            f"DEVICE={device} is one GPU and {asked_for()[1]} processes run: set DEVICE='cuda', and each takes its own"
        )
    if local_rank() >= torch.cuda.device_count() > 0:
        raise DissectionError(
            f"this machine has {torch.cuda.device_count()} GPUs, too few for its processes of the run: start as many "
            "with --nproc-per-node, or set DEVICE='cpu'"
        )
    return torch.device("cuda", local_rank())


def _cuda_device(device):
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = device.index or 0
    if index >= count:
        which = f"no CUDA device {index}" if count else "no CUDA device"
        seen = f" (there are {count}, counted from 0)" if count else " that torch can use"
        raise DissectionError(f"{which}{seen}; set DEVICE='auto' or 'cpu'")
    return torch.device("cuda", index)


def _make_repeatable():
    # The benchmark picks the fastest convolution afresh in every process, and algorithms differ in the last bits; some
    # also add in an order that varies. TF32 keeps 10 bits of mantissa: thresholds at the 0.995 quantile would move.
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def describe_device(device):
    """A short text for logs and reports, such as 'cpu (2 threads)' or 'cuda:0 (NVIDIA H200)'. device: torch.device."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"cpu ({threads} thread{'s' if threads != 1 else ''})"
    return str(device)
