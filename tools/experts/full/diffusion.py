"""Pipelines of diffusers: loading, memory, progress, stopping, seeds. The families are in the files beside this one.

One vocabulary for all, as options (`[experts.NAME]` in the settings): steps, guidance, negative, width,
height, frames, fps, seconds, strength; the seed is the task's. Defaults are the literature's (NExT-GPT:
guidance 7.5, 50 steps, video 320x576x24, sound at 16 kHz) unless the model was made for others.

Memory: `offload` is `none` (all on the GPU), `model` (one part of the pipeline at a time), `sequential`
(one layer at a time), or `auto`: `none` where the card's memory is free, else `model`. When it is not
enough all the same, the next of `LADDER` is tried and said.
"""

from __future__ import annotations

import contextlib
import itertools
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from ....core.errors import InputError, SettingsError
from ....core.hub_files import variant
from ...accelerators import out_of_memory
from ...contracts import Output, Run
from .hub import HubExpert, free, full, precision

OFFLOAD = ("auto", "none", "model", "sequential")
# What is done, one after the other, when memory runs out: (what is said, how much of the size is left). Attention is
# not cut in slices: torch's own takes no more memory than these, and slices made it slower (docs/full-profile.md).
LADDER = (
    ("pictures in slices and tiles", 1.0),
    ("parts that rest are moved off the GPU", 1.0),
    ("half the size", 0.5),
)


class DiffusionExpert(HubExpert):
    """A pipeline of diffusers. Subclasses write `make`, which calls `generate` with their own arguments."""

    family = "diffusers"
    needs = ("diffusers", "accelerate")
    pipeline: ClassVar[str]
    sides: ClassVar[int] = 8  # what width and height must be multiples of
    placed: str
    kinds: dict[str, Any]
    defaults: ClassVar[Mapping[str, Any]] = {
        "revision": "", "offload": "auto", "steps": 50, "guidance": 7.5, "negative": "",
    }  # fmt: skip

    def open(self, folders: list[Path]) -> None:
        """The pipeline, with its safety checker where its repository has one."""
        import diffusers
        from diffusers.utils import logging

        logging.disable_progress_bar()
        logging.set_verbosity_error()
        kind = getattr(diffusers, self.pipeline)
        self.model = kind.from_pretrained(
            folders[0], dtype=precision(self.device), variant=variant(folders[0]), local_files_only=True,
            use_safetensors=True, **self.parts(folders),
        )  # fmt: skip
        self.model.set_progress_bar_config(disable=True)
        self.kinds = {n: p.dtype for n, p in self.model.components.items() if hasattr(p, "dtype")}
        self._place(self._offload())

    def parts(self, folders: list[Path]) -> dict[str, Any]:
        """Further parts of the pipeline that come from elsewhere, such as a ControlNet."""
        return {}

    @abstractmethod
    def make(self, args: Mapping[str, Any], run: Run, scale: float) -> list[Output]:
        """Generates, at `scale` of the size that was asked for."""

    def work(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """Generates, at the size that was asked for."""
        return self.make(args, run, 1.0)

    def run(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """Generates; where memory runs out, again in ways that need less, each of them said."""
        rungs = [*LADDER, None]
        scale, fault = 1.0, ""
        for rung in rungs:
            try:
                run.check()
                return self.make(args, run, scale)
            except Exception as e:
                if not out_of_memory(e):
                    raise
                fault = str(e)
            self._mend()
            free()
            if rung is not None:
                run.progress(0, 0, f"out of memory, trying again: {rung[0]}")
                scale = rung[1]
                self._save(LADDER.index(rung))
        raise full(self.name, fault)

    def generate(self, run: Run, **arguments: Any) -> Any:
        """Calls the pipeline with what all have in common; its result. Options the pipeline lacks are left out."""
        import torch

        steps = int(self.option("steps"))
        arguments = {
            "num_inference_steps": steps,
            "guidance_scale": self.option("guidance"),
            "negative_prompt": self.option("negative") or None,
            "generator": torch.Generator("cpu").manual_seed(run.seed),
            **arguments,
        }
        report = reporter(run, lambda: getattr(self.model, "_num_timesteps", None) or steps)
        arguments["callback_on_step_end"] = lambda pipe, step, time, values: (report(step), values)[1]
        arguments |= {"callback": lambda step, time, latents: report(step), "callback_steps": 1}  # in older pipelines
        known = accepted(type(self.model).__call__)
        given = {k: v for k, v in arguments.items() if k in known}
        with contextlib.ExitStack() as stack:
            if not known & {"callback", "callback_on_step_end"}:  # it tells nobody: its net is watched instead
                count = itertools.count()
                hook = self.model.unet.register_forward_hook(lambda net, inputs, made: report(next(count)))
                stack.callback(hook.remove)
            return self.model(**given)

    def size(self, scale: float) -> dict[str, int]:
        """Width and height for the pipeline, from the options."""
        return {n: self.side(int(self.option(n) * scale)) for n in ("width", "height")}

    def side(self, pixels: int) -> int:
        """The nearest length below that the model can make."""
        return max(self.sides, pixels // self.sides * self.sides)

    def prompt(self, args: Mapping[str, Any], name: str = "text") -> str:
        """The text argument; InputError when it is empty."""
        if not args[name].strip():
            raise InputError(f"'{self.tool.name}' needs a description, and the text is empty.")
        return str(args[name]).strip()

    def _offload(self) -> str:
        """`none`, `model` or `sequential`."""
        asked = self.option("offload")
        if asked not in OFFLOAD:
            raise SettingsError(
                f"[experts.{self.name}]: 'offload' is '{asked}', and must be one of {', '.join(OFFLOAD)}."
            )
        if not self.device.startswith("cuda"):
            return "none"
        if asked != "auto":
            return str(asked)
        import torch

        left, _ = torch.cuda.mem_get_info(self.device)
        return "none" if left > self.card.memory else "model"

    def move(self, device: str) -> bool:
        """Takes the pipeline whole; one whose parts come and go by themselves cannot be moved."""
        return self.placed == "none" and super().move(device)

    def _place(self, offload: str) -> None:
        self.placed = offload
        if offload == "model":
            self.model.enable_model_cpu_offload(device=self.device)
        elif offload == "sequential":
            self.model.enable_sequential_cpu_offload(device=self.device)
        else:
            self.model.to(self.device)

    def _mend(self) -> None:
        """Brings back the precision of parts that a pipeline had widened when it broke off, as some do to decode."""
        if self.device == "cpu":
            return
        for name, kind in self.kinds.items():
            part = getattr(self.model, name, None)
            if part is not None and part.dtype != kind:
                part.to(kind)

    def _save(self, rung: int) -> None:
        """Takes the rung of LADDER; pipelines that have no such switch are left as they are."""
        pipe = self.model
        if rung == 0:
            for switch in ("enable_slicing", "enable_tiling"):
                with contextlib.suppress(NotImplementedError):  # not every VAE has both
                    getattr(getattr(pipe, "vae", None), switch, lambda: None)()
        elif rung == 1 and self.device.startswith("cuda"):
            pipe.to("cpu")
            self._place("model")


def reporter(run: Run, total: Callable[[], int]) -> Callable[[int], None]:
    """What a pipeline calls after each step, counted from 0: reports it, and ends the run when it was stopped."""

    def report(step: int) -> None:
        run.check()
        run.progress(step + 1, max(total(), step + 1), "steps")

    return report


def accepted(call: Callable[..., Any]) -> set[str]:
    """The names of a function's arguments."""
    import inspect

    return set(inspect.signature(call).parameters)
