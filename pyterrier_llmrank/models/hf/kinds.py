"""What is to be loaded: networks of a task, which transformers knows, or a class of our own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

Kind = Literal["language", "classifier", "encoder"]


class Own(Protocol):
    """A class of networks that transformers does not know."""

    def config_of(self, name: str, **where: Any) -> PretrainedConfig:  # noqa: ANN401 - arguments of transformers
        """The configuration of a checkpoint, refused if it is of another architecture."""
        ...

    def from_pretrained(self, name: str, **options: Any) -> PreTrainedModel:  # noqa: ANN401
        """The network of a checkpoint."""
        ...

    def __call__(self, config: PretrainedConfig) -> PreTrainedModel:
        """A network with random weights."""
        ...


Auto: TypeAlias = "Kind | Own"


def config_of(kind: Auto, name: str, **where: Any) -> PretrainedConfig:  # noqa: ANN401
    """The configuration of a checkpoint."""
    import transformers

    if isinstance(kind, str):
        auto: Any = transformers.AutoConfig
        return auto.from_pretrained(name, **where)  # type: ignore[no-any-return]
    return kind.config_of(name, **{key: value for key, value in where.items() if key != "trust_remote_code"})


def tokenizer_of(kind: Auto, name: str, **where: Any) -> PreTrainedTokenizerBase:  # noqa: ANN401
    """The tokenizer of a checkpoint; of an architecture of our own, by its tokenizer.json alone."""
    import transformers

    auto: Any = transformers.AutoTokenizer if isinstance(kind, str) else transformers.PreTrainedTokenizerFast
    return auto.from_pretrained(name, truncation_side="right", **where)  # type: ignore[no-any-return]
