"""GPUs that are only pretended: tensors that say they lie on `cuda:N`, while the CPU holds and computes them.

    with pretended(2, memory=64 << 20) as gpus:
        model.to("cuda:1")(torch.zeros(3, device="cuda:1"))
    print(gpus[1].most)                       # bytes; what torch.cuda.max_memory_allocated would have said

For code that has to run on a GPU and a machine that has none. What a real one refuses is refused: operands on two
devices, the CPU's random generator for a GPU's numbers, numpy from a GPU, more memory than there is. Memory is what
tensors hold; what kernels and their libraries take for themselves is not in it, and nothing can be said of time.

With `count=True` large tensors are not computed, only counted, all their numbers being zero: so a model of any size
passes in seconds, and needs no memory. Gradients are off. It holds in the thread that opened it and in those that
are started meanwhile.
"""

from __future__ import annotations

import contextlib
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

aten = torch.ops.aten
LARGE = 1 << 16  # numbers; a tensor with more is not computed when all is only counted
NO_GPU = ("not linked with support for cuda", "NVIDIA driver", "CUDA driver", "No CUDA GPUs", "no CUDA-capable device")
MOVES = {aten._to_copy.default, aten.copy_.default, torch.Tensor.copy_}  # operands may lie on two devices
INDEXING = {
    torch.Tensor.__getitem__, torch.Tensor.__setitem__, aten.index.Tensor, aten.index_put.default,
    aten.index_put_.default, aten._index_put_impl_.default,
}  # fmt: skip  # indices may lie on the CPU
# What chooses a kernel by the device before it comes to operations that a dispatch mode sees.
WHOLE = {torch.nn.functional.scaled_dot_product_attention, torch.lstm, torch.gru}


class Gpu:
    """One of them; `total`, `held` and `most` (held at once, so far) in bytes."""

    def __init__(self, number: int, total: int):
        self.device, self.total = torch.device("cuda", number), total
        self.held = self.most = 0
        self._lock = threading.RLock()  # the collector may give back in the middle of anything

    def take(self, size: int) -> None:
        """Memory for a tensor. Raises torch.OutOfMemoryError when it is not there."""
        if self.held + size > self.total:
            gc.collect()
        with self._lock:
            if self.held + size > self.total:
                raise torch.OutOfMemoryError(
                    f"CUDA out of memory. Tried to allocate {size} bytes. GPU {self.device.index} has a capacity of "
                    f"{self.total} bytes of which {self.total - self.held} are free."
                )
            self.held += size
            self.most = max(self.most, self.held)

    def give(self, size: int) -> None:
        """Memory back."""
        with self._lock:
            self.held -= size


class OnGpu(torch.Tensor):
    """A tensor of a pretended GPU; `inner` has its numbers."""

    inner: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: torch.Tensor, device: torch.device | None = None, requires_grad: bool = False) -> Any:
        """Without a device it is a parameter of the CPU."""
        if device is None:  # accelerate makes parameters anew, by the class that they have
            return torch.nn.Parameter(inner, requires_grad)
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=device,
        )  # fmt: skip
        made.inner = inner
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"OnGpu({self.inner}, device='{self.device}')"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert Machine.now is not None, "a tensor of a pretended GPU has outlived it"
        return Machine.now.run(func, args, kwargs or {})


class Machine:
    """The GPUs, and how an operation is carried out on them."""

    now: Machine | None = None

    def __init__(self, number: int, memory: int, count: bool):
        self.gpus = [Gpu(n, memory) for n in range(number)]
        self.count = count
        self.known: set[int] = set()
        self._open = threading.local()

    def __enter__(self) -> None:
        """Begins in this thread."""
        self._open.stack = contextlib.ExitStack()
        for context in (torch.no_grad(), Operations(self), Calls(self)):
            self._open.stack.enter_context(context)

    def __exit__(self, *error: Any) -> None:
        self._open.stack.close()

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The operation, on the CPU, when a real GPU would have done it; its results lie where they should."""
        if getattr(func, "overloadpacket", None) is aten.to:
            with Operations(self):
                return func.decompose(*args, **kwargs)
        if func is aten._softmax.default and args[2]:  # half precision in, single out: only GPUs do it in one
            args = (args[0].float(), args[1], False)
        flat, spec = tree_flatten((args, kwargs))
        tensors = [x for x in flat if isinstance(x, torch.Tensor)]
        asked = None if kwargs.get("device") is None else self.numbered(torch.device(kwargs["device"]))
        if not any(isinstance(t, OnGpu) for t in tensors) and (asked is None or asked.type != "cuda"):
            kwargs.pop("pin_memory", None)
            return func(*args, **kwargs)
        target = asked or (args[0].device if func in MOVES else meeting(func, args, tensors))
        if target.type == "cuda" and any(isinstance(x, torch.Generator) and x.device.type == "cpu" for x in flat):
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        own = {id(t.inner): t for t in tensors if isinstance(t, OnGpu)}
        plain, options = tree_unflatten([inside(x) for x in flat], spec)
        options = {k: v for k, v in options.items() if k != "pin_memory"}
        if asked is not None:
            options["device"] = asked if asked.type == "meta" else torch.device("cpu")
        made = self.counted(func, plain, options, target) if self.count else func(*plain, **options)
        given = {id(x) for x in tree_flatten((plain, options))[0]}

        def placed(value: Any) -> Any:
            if not isinstance(value, torch.Tensor) or isinstance(value, OnGpu):
                return value
            if id(value) in own:  # it was changed in its place
                return own[id(value)]
            if id(value) in given or target.type != "cuda" or value.device.type == "meta" or value.is_sparse:
                return value
            return self.wrapped(value, target)

        return tree_map(placed, made)

    def counted(self, func: Any, args: Any, kwargs: Any, target: torch.device) -> Any:
        """The result in shape only, where large tensors of fractions would have been computed."""
        large = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor) and x.numel() > LARGE]
        if func in WHOLE:
            if func is torch.nn.functional.scaled_dot_product_attention and large:
                query, _, value = args[:3] if len(args) > 2 else (kwargs[k] for k in ("query", "key", "value"))
                return zeros(torch.empty(*query.shape[:-1], value.shape[-1], dtype=query.dtype, device="meta"))
            return func(*args, **kwargs)
        if func == torch.Tensor.__setitem__ and large:
            return None
        if not isinstance(func, torch._ops.OpOverload) or target.type == "meta" or views(func):
            return func(*args, **kwargs)
        if func._schema.is_mutable:
            changed = args[0] if args else None
            return changed if large and isinstance(changed, torch.Tensor) else func(*args, **kwargs)
        if not large and "device" not in kwargs:
            return func(*args, **kwargs)
        thin, options = tree_map(lambda x: x.to("meta") if isinstance(x, torch.Tensor) else x, (args, kwargs))
        try:
            shapes = func(*thin, **(options | {"device": torch.device("meta")} if "device" in kwargs else options))
        except (RuntimeError, NotImplementedError):  # its result hangs on the numbers
            return func(*args, **kwargs)
        found = [x for x in tree_flatten(shapes)[0] if isinstance(x, torch.Tensor)]
        small = not large and all(x.numel() <= LARGE for x in found)
        if small or not found or not all(x.is_floating_point() for x in found):
            return func(*args, **kwargs)
        return tree_map(lambda x: zeros(x) if isinstance(x, torch.Tensor) else x, shapes)

    def wrapped(self, inner: torch.Tensor, device: torch.device) -> OnGpu:
        """The tensor as one of the GPU; its memory is taken there until nobody holds it any more."""
        storage = inner.untyped_storage()
        key, size, gpu = storage._cdata, storage.nbytes(), self.gpus[device.index]
        if key not in self.known:
            gpu.take(size)
            self.known.add(key)

            def given_back() -> None:
                self.known.discard(key)
                gpu.give(size)

            weakref.finalize(storage, given_back)
        made: OnGpu = OnGpu(inner, device)
        return made

    def numbered(self, device: torch.device) -> torch.device:
        """`cuda` means the first."""
        return self.gpus[0].device if device.type == "cuda" and device.index is None else device

    def gpu(self, device: Any = None) -> Gpu:
        """By number, name or device; None is the first."""
        number = device if isinstance(device, int) else None if device is None else torch.device(device).index
        return self.gpus[number or 0]


class Operations(TorchDispatchMode):
    """Those of torch, in this thread."""

    def __init__(self, machine: Machine):
        super().__init__()
        self.machine = machine

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.machine.run(func, args, kwargs or {})


class Calls(TorchFunctionMode):
    """What torch would ask a real GPU before it comes to operations."""

    def __init__(self, machine: Machine):
        super().__init__()
        self.machine = machine

    def numbered(self, value: Any) -> Any:
        """Devices with their number: to look for the current one would want a GPU."""
        if isinstance(value, torch.device) or (isinstance(value, str) and value == "cuda"):
            return self.machine.numbered(torch.device(value))
        return value

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.device:
            return func(*args, **(kwargs or {}))
        args = tuple(self.numbered(a) for a in args)
        kwargs = {k: self.numbered(v) for k, v in (kwargs or {}).items()}
        first = args[0] if args else None
        if isinstance(first, OnGpu) and func is torch.Tensor.numpy:
            raise TypeError(f"can't convert {first.device} device type tensor to numpy. Use Tensor.cpu() first.")
        if isinstance(first, OnGpu) and func is torch.Tensor.tolist:
            return first.inner.tolist()
        if isinstance(first, OnGpu) and func == torch.Tensor.data.__set__:
            func(*args, **kwargs)
            first.inner = args[1].inner
            return None
        if func in (torch.tensor, torch.as_tensor, torch.asarray) and kwargs.get("device") is not None:
            device = kwargs.pop("device")
            return func(*args, **kwargs).to(device)
        ours = any(isinstance(x, OnGpu) for x in tree_flatten((args, kwargs))[0])
        if not ours or func not in WHOLE:
            try:
                return func(*args, **kwargs)
            except RuntimeError as e:
                if not any(mark in str(e) for mark in NO_GPU):
                    raise
        return self.machine.run(func, args, kwargs)


def meeting(func: Any, args: Any, tensors: list[torch.Tensor]) -> torch.device:
    """The device where all operands lie. Raises RuntimeError, as torch does, when there are two."""
    own = [t for t in tensors if isinstance(t, OnGpu)]
    if func in INDEXING:
        if not isinstance(args[0], OnGpu):
            if any(t.dim() for t in own):
                raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
            return torch.device("cpu")
        others = [t for t in own if t.dim()]
    else:
        others = [t for t in tensors if isinstance(t, OnGpu) or t.dim()]  # a single number of the CPU is welcome
    devices = {str(t.device) for t in others} or {str(own[0].device)}
    if len(devices) > 1:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, "
            f"{' and '.join(sorted(devices))}! (in {func})"
        )
    return torch.device(devices.pop())


def inside(value: Any) -> Any:
    """What the CPU is given for an operand."""
    if isinstance(value, slice):
        return slice(*(x.inner.item() if isinstance(x, OnGpu) else x for x in (value.start, value.stop, value.step)))
    return value.inner if isinstance(value, OnGpu) else value


def views(func: Any) -> bool:
    """Whether an operation gives another look at its operand's memory."""
    return any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)


def loading(load: Callable[..., Any]) -> Callable[..., Any]:
    """torch.load, whose storages are made in plain memory."""

    def read(*args: Any, map_location: Any = None, **kwargs: Any) -> Any:
        found = load(*args, map_location="cpu", **kwargs)
        device = torch.device(map_location) if isinstance(map_location, str | torch.device) else torch.device("cpu")
        return tree_map(lambda x: x.to(device) if isinstance(x, torch.Tensor) else x, found)

    return read


def idle() -> Callable[..., None]:
    """A function of its own for what there is nothing to do for; torch wants no two names for one."""
    return lambda *args, **kwargs: None


def zeros(like: torch.Tensor) -> torch.Tensor:
    """Zeros in the shape of a tensor, in memory that the system hands out only when somebody writes there."""
    if like.numel() == 0:
        return torch.empty(like.shape, dtype=like.dtype)
    extent = 1 + sum((n - 1) * s for n, s in zip(like.shape, like.stride(), strict=True))
    flat = torch.from_numpy(np.zeros(extent * like.element_size(), np.uint8)).view(like.dtype)
    return flat.as_strided(like.shape, like.stride())


@contextlib.contextmanager
def pretended(number: int = 1, memory: int = 1 << 40, *, count: bool = False) -> Iterator[list[Gpu]]:
    """So many GPUs with so many bytes each, for the length of the block."""
    machine = Machine(number, memory, count)

    class Properties:
        name, major, minor, multi_processor_count, total_memory = "pretended GPU", 8, 0, 1, memory

    class Chosen(contextlib.nullcontext[None]):
        """The current GPU for a while; which it is makes no difference here."""

    def peak(device: Any = None) -> None:
        gpu = machine.gpu(device)
        gpu.most = gpu.held

    answers = {
        "is_available": lambda: True, "is_initialized": lambda: True, "device_count": lambda: number,
        "current_device": lambda: 0, "is_bf16_supported": lambda *a, **k: True,
        "mem_get_info": lambda device=None: (machine.gpu(device).total - machine.gpu(device).held, memory),
        "memory_allocated": lambda device=None: machine.gpu(device).held,
        "max_memory_allocated": lambda device=None: machine.gpu(device).most, "reset_peak_memory_stats": peak,
        "get_device_capability": lambda device=None: (8, 0), "get_device_properties": lambda device=None: Properties,
        "get_device_name": lambda device=None: Properties.name, "device": Chosen,
    }  # fmt: skip
    idles = ("_lazy_init", "empty_cache", "synchronize", "set_device", "ipc_collect", "manual_seed", "manual_seed_all")
    swapped = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)  # a module's parameters become tensors of another class
    with contextlib.ExitStack() as stack:
        stack.callback(torch.__future__.set_swap_module_params_on_conversion, swapped)
        for name, value in {**answers, **{name: idle() for name in idles}}.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, value))
        # Tensors of inference mode cannot be wrapped; without gradients is what it comes to here.
        stack.enter_context(mock.patch.object(torch, "inference_mode", torch.no_grad))
        stack.enter_context(mock.patch.object(torch, "load", loading(torch.load)))
        stack.enter_context(mock.patch.object(Machine, "now", machine))
        begin = threading.Thread.run

        def run(thread: threading.Thread) -> None:
            with machine:
                begin(thread)

        stack.enter_context(mock.patch.object(threading.Thread, "run", run))
        stack.enter_context(machine)
        yield machine.gpus
