"""RayExecutor: experts on the machines of a Ray cluster; what only this process knows (LangChain, MCP) runs here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...tools.contracts import Expert
from ..executor import Job, JobThreads, ThreadExecutor, checked
from .gateway import Gateway, Ticket
from .messages import Capacity, Ended, Said

if TYPE_CHECKING:
    from ...tools.residency import Residency


class RayExecutor(JobThreads):
    """An Executor. `residency` is for the experts that stay in this process."""

    def __init__(self, gateway: Gateway, residency: Residency):
        super().__init__()
        self.gateway = gateway
        self._here = ThreadExecutor(residency)
        self._tickets: dict[int, Ticket] = {}

    @classmethod
    def open(cls, address: str, data_dir: Path, residency: Residency) -> RayExecutor:
        """Connects to the cluster. ExpertError: no cluster answers there."""
        executor = cls(Gateway(address, data_dir / "ray.log"), residency)
        executor.gateway.open()
        return executor

    @property
    def capacity(self) -> Capacity:
        """What the cluster had when it was joined last."""
        return self.gateway.open()

    def work(self, job: Job, begun: Callable[[], Any]) -> Any:
        """Sends the work, tells what is heard of it, and keeps what comes back."""
        if stays(job.expert):
            return self._here.work(job, begun)
        args = job.prepare()
        if args is None:
            return None
        job.on_start()
        ticket = self.gateway.submit(job.expert, args, job.run.device, job.run.seed, job.key())
        self._tickets[id(job)] = ticket
        try:
            if job.run.stop.is_set():
                self.gateway.stop(ticket)
            ended = self._followed(ticket, job, begun)
        finally:
            self._tickets.pop(id(job), None)
        if ended.reply.fault is not None:
            raise ended.reply.fault.error()
        return job.keep(checked(job.expert, list(ended.reply.outputs)), ended.reply.seconds)

    def left(self, job: Job) -> None:
        """The stop button crosses over to the host."""
        self._here.left(job)
        if ticket := self._tickets.get(id(job)):
            self.gateway.stop(ticket)

    async def aclose(self, grace: float = 5.0) -> None:
        """Waits for what was told to stop, then ends the driver."""
        import asyncio

        await super().aclose(grace)
        await asyncio.to_thread(self.gateway.close)

    def _followed(self, ticket: Ticket, job: Job, begun: Callable[[], Any]) -> Ended:
        loading = running = False
        for message in ticket:
            if isinstance(message, Ended):
                return message
            if isinstance(message, Said):
                job.say(message.text)
                continue
            look = message.look
            if look.state == "loading" and not loading:
                loading = True
                job.on_load()
            elif look.state == "running":
                if not running:
                    running = True
                    begun()
                if look.total or look.note:
                    job.run.progress(look.done, look.total, look.note)
        raise AssertionError("a ticket ends with Ended")


def stays(expert: type[Expert]) -> bool:
    """Whether it is made of this front end's settings, and so is not known elsewhere."""
    return ".tools.adapters." in f"{expert.__module__}."
