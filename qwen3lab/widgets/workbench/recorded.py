"""What stands in for the model where a workbench shows a recording or a reply alone."""

from typing import Any, Protocol, runtime_checkable

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.generation.reply import Chat
from qwen3lab.generation.sampling import Sampling
from qwen3lab.generation.suggested import EMBEDDED, Suggested
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import tr


@runtime_checkable
class ChatModel(Protocol):
    """The part of `qwen3lab.Lab` that a workbench asks with."""

    name: str
    tokenizer: Any

    @property
    def config(self) -> Qwen3Config:
        """The model's sizes."""
        ...

    def chat(self, messages: str, **options: Any) -> Chat:
        """Reply to a question."""
        ...

    @property
    def suggested(self) -> Suggested:
        """Questions and lengths that fit the model."""
        ...

    def chat_sampling(self, messages: str, *, thinking: bool | None = None) -> Sampling:
        """The sampling that `chat` uses unless one is given."""
        ...


class RecordedModel:
    """The model of a recording, which cannot reply."""

    def __init__(self, recording: Recording) -> None:
        self.name, self.config, self.tokenizer = recording.model_name, recording.config, None

    def chat(self, messages: str, **options: Any) -> Chat:
        """Raises an error: a recording cannot reply."""
        raise ValueError(
            tr("this workbench shows a recording and cannot ask questions: create it with a lab")
        )

    @property
    def suggested(self) -> Suggested:
        """Settings that no reply uses."""
        return EMBEDDED

    def chat_sampling(self, messages: str, *, thinking: bool | None = None) -> Sampling:
        """Greedy; no reply is sampled."""
        return Sampling.greedy()


def sources(
    source: Any, lab: ChatModel | None, chat: Chat | None
) -> tuple[ChatModel, Chat | None, Recording | None]:
    """The model, and the reply or the recording that is shown at first."""
    if isinstance(source, list | tuple):
        _check_labs(source)
        source = source[0]
    if isinstance(source, Chat):
        if source.recording is None:
            raise ValueError(
                tr(
                    "the reply was not recorded: ask with lab.chat(question, record=True), "
                    "and give that"
                )
            )
        return lab or RecordedModel(source.recording), source, None
    if isinstance(source, Recording):
        return lab or RecordedModel(source), None, source
    return source, chat, None


def other_models(source: Any) -> dict[str, ChatModel]:
    """The models after the first one of a list, by name; equal names are numbered."""
    if not isinstance(source, list | tuple):
        return {}
    found: dict[str, ChatModel] = {}
    for model in source[1:]:
        number = sum(each.name == model.name for each in [source[0], *found.values()])
        found[f"{model.name} ({number + 1})" if number else model.name] = model
    return found


def _check_labs(source: Any) -> None:
    if not source or any(isinstance(each, Chat | Recording) for each in source):
        raise ValueError(
            tr(
                "a list has the models to ask and to compare with, such as [lab, other]: "
                "give a reply or a recording alone, as in Workbench(chat, lab=lab)"
            )
        )
