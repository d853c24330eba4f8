"""SmolLM2 as a LangChain chat model: local, on the CPU, deterministic at temperature 0.

    model = SmolChat.open(weights, cache_dir=cache_dir)
    model.invoke("Name a colour.")
    model.with_structured_output(Person).invoke("Make up a person.")     # always parses

Structured output masks the decoding with the schema's grammar; nothing is parsed by hope. Imported
lazily: needs langchain-core and pydantic.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.base import LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableLambda, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema
from pydantic import BaseModel, ConfigDict, Field

from ..core.errors import InputError
from ..core.smollm import Grammar, Session, open_smollm

ROLES = {"system": "system", "human": "user", "ai": "assistant", "tool": "user", "function": "user"}
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"  # as its template has it
ASSISTANT = "<|im_start|>assistant\n"


class SmolChat(BaseChatModel):
    """A chat over a `SmolLM`. `max_tokens`, `temperature`, `seed` and `stop` may also be given per call."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    lm: Any = Field(exclude=True, repr=False)
    model_name: str = "SmolLM2-135M-Instruct"
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0

    @classmethod
    def open(cls, weights: Any, cache_dir: Path | None = None, device: str = "cpu", **options: Any) -> SmolChat:
        """On weights that are fetched when first needed (`core/weights.py`)."""
        return cls(lm=open_smollm(weights, cache_dir=cache_dir, device=device), **options)

    @property
    def _llm_type(self) -> str:
        return "anyloom-smollm"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self.model_name, "temperature": self.temperature, "seed": self.seed}

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        session = self._read(messages, kwargs.get("json_schema"))
        before = session.tokens
        text = self._continue(session, stop, kwargs, None, None)
        usage, finish = self._account(before, session.tokens, kwargs)
        message = AIMessage(content=text, usage_metadata=usage, response_metadata=self._facts(finish))
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        session = self._read(messages, kwargs.get("json_schema"))
        before = session.tokens
        for piece in _pieces(lambda put, ended: self._continue(session, stop, kwargs, put, ended)):
            chunk = ChatGenerationChunk(message=AIMessageChunk(content=piece))
            if run_manager:
                run_manager.on_llm_new_token(piece, chunk=chunk)
            yield chunk
        usage, finish = self._account(before, session.tokens, kwargs)
        facts = self._facts(finish)
        last = AIMessageChunk(content="", usage_metadata=usage, response_metadata=facts, chunk_position="last")
        yield ChatGenerationChunk(message=last)

    def with_structured_output(
        self, schema: dict[str, Any] | type, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, Any]:
        """A runnable that gives an object of a pydantic class, or a dict for a JSON schema.

        With `include_raw`, a dict of `raw`, `parsed` and `parsing_error`.
        """
        model = schema if isinstance(schema, type) and issubclass(schema, BaseModel) else None
        plain = model.model_json_schema() if model else _json_schema(schema)
        told = self.bind(json_schema=_closed(plain))
        parse = RunnableLambda(lambda message: _parsed(message, model)).with_config(run_name="parse")
        if not include_raw:
            return told | parse
        good = RunnablePassthrough.assign(parsed=itemgetter("raw") | parse, parsing_error=lambda _: None)
        bad = RunnablePassthrough.assign(parsed=lambda _: None)
        return RunnableMap(raw=told) | good.with_fallbacks([bad], exception_key="parsing_error")

    def _read(self, messages: Sequence[BaseMessage], schema: dict[str, Any] | None) -> Session:
        """A session that has read the conversation. The system part is its prefix and stays in memory."""
        system, rest = SYSTEM, list(messages)
        if rest and rest[0].type == "system":
            system = _text(rest.pop(0))
        if schema:
            system += f"\nAnswer with JSON of this schema: {json.dumps(schema, ensure_ascii=False)}"
        session = self.lm.session(f"<|im_start|>system\n{system.replace('<|', '< |')}<|im_end|>\n")
        for message in rest:
            session.feed(f"<|im_start|>{_role(message)}\n")
            session.feed(_text(message), control=False)
            session.feed("<|im_end|>\n")
        session.feed(ASSISTANT)
        return session

    def _continue(
        self,
        session: Session,
        stop: list[str] | None,
        options: dict[str, Any],
        put: Callable[[str], None] | None,
        ended: Callable[[], bool] | None,
    ) -> str:
        schema = options.get("json_schema")
        return session.sample(
            Grammar.json_schema(schema) if schema else None,
            max_tokens=self._limit(options),
            temperature=options.get("temperature", self.temperature),
            seed=options.get("seed", self.seed),
            stop=tuple(stop or ()),
            on_token=put,
            should_stop=ended,
        )

    def _limit(self, options: dict[str, Any]) -> int:
        return options.get("max_tokens", self.max_tokens)

    def _account(self, before: int, after: int, options: dict[str, Any]) -> tuple[UsageMetadata, str]:
        made = after - before
        usage = UsageMetadata(input_tokens=before, output_tokens=made, total_tokens=after)
        return usage, "length" if made >= self._limit(options) and not options.get("json_schema") else "stop"

    def _facts(self, finish: str) -> dict[str, str]:
        return {"model_name": self.model_name, "finish_reason": finish}


def _role(message: BaseMessage) -> str:
    role = ROLES.get(message.type) or getattr(message, "role", "user")
    return role if role in ("system", "user", "assistant") else "user"


def _text(message: BaseMessage) -> str:
    """The message's text; InputError for pictures, sound and files, which this model cannot read."""
    if not isinstance(message.content, str):
        odd = [b.get("type") for b in message.content if isinstance(b, dict) and b.get("type") != "text"]
        if odd:
            raise InputError(f"The local model reads text only, and the message holds '{odd[0]}'; use another model.")
    return str(message.text)


def _json_schema(schema: Any) -> dict[str, Any]:
    """JSON Schema as it is; function schemas and TypedDicts through LangChain's conversion."""
    known = ("type", "properties", "$ref", "anyOf", "oneOf", "allOf", "enum", "const")
    if isinstance(schema, dict) and "parameters" not in schema and any(k in schema for k in known):
        return schema
    return convert_to_json_schema(schema)


def _closed(schema: Any) -> Any:
    """The schema with no properties but the named ones: a small model would go on inventing them."""
    if isinstance(schema, list):
        return [_closed(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    data = ("enum", "const", "default", "examples")  # values, not schemas
    new = {k: v if k in data else _closed(v) for k, v in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        new.setdefault("additionalProperties", False)
    return new


def _parsed(message: BaseMessage, model: type[BaseModel] | None) -> Any:
    try:
        value = json.loads(str(message.text))
    except ValueError as e:
        raise InputError("The answer did not fit its token limit; raise max_tokens or use a smaller schema.") from e
    return value if model is None else model.model_validate(value)


def _pieces(work: Callable[[Callable[[str], None], Callable[[], bool]], Any]) -> Iterator[str]:
    """Runs `work(put, ended)` in a thread and yields what it puts; ends it when the reader goes away."""
    pieces: queue.Queue[str | BaseException | None] = queue.Queue()
    ended = threading.Event()

    def run() -> None:
        try:
            work(pieces.put, ended.is_set)
            pieces.put(None)
        except BaseException as e:  # handed to the reader, whatever it is
            pieces.put(e)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while (piece := pieces.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece
    finally:
        ended.set()
        thread.join()
