"""Environments that do not live together with anyloom's own: `nox -s coqui`, `nox -s vision`.

coqui-tts needs torchaudio, whose newest release belongs to torch 2.11 and keeps diffusers from importing
when both are there. torchvision's wheels on PyPI want the torch of PyPI, with CUDA's libraries. Each is
several gigabytes, so it is made only when asked for, and once.
"""

import nox

nox.options.sessions = []


@nox.session(python="3.11")
def coqui(session: nox.Session) -> None:
    """XTTS-v2: a tiny checkpoint in coqui's own format, written, opened and spoken with."""
    # transformers 5.24 gives the cache of a model to it under another name than coqui-tts 0.28 takes.
    session.install("torch==2.11.*", "torchaudio==2.11.*", "coqui-tts[codec]>=0.27", "transformers<5.24")
    session.install("pytest", "pytest-asyncio", "pytest-timeout", "-e", ".", "transformers<5.24")
    session.run("pytest", "tests/test_full_coqui.py", *session.posargs)


@nox.session(python="3.11")
def vision(session: nox.Session) -> None:
    """Qwen2.5-VL, whose processor wants torchvision: a tiny checkpoint, opened and asked about a picture."""
    session.install("torch==2.12.*", "torchvision==0.27.*")
    session.install("pytest", "pytest-asyncio", "pytest-timeout", "-e", ".[full]")
    session.run("pytest", "tests/test_full_experts.py", "-k", "qwen", *session.posargs)
