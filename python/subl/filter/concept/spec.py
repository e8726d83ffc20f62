"""What a concept is, and what it is resolved to."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Text = Annotated[str, Field(min_length=1)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Token = Annotated[int, Field(ge=0, lt=2**32)]

EMBEDDING_THRESHOLD = 0.2
"""Four standard deviations of all words' similarities to a concept in SmolLM2-135M (0.047)."""

SENTENCE_THRESHOLD = 0.4
"""Five and a half standard deviations in all-MiniLM-L6-v2 (0.072); below, names creep in."""


class ConceptSpec(BaseModel):
    """A concept, and how the words near it are found."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    words: tuple[Text, ...] = Field((), description="words or phrases that name the concept")
    also: tuple[Text, ...] = Field(
        (), description="synonyms, translations: their forms are taken, they define nothing"
    )
    examples: tuple[Text, ...] = Field((), description="texts that are about the concept")
    vector: tuple[float, ...] | Text | None = Field(
        None,
        description="the concept as a vector of the resolver's space, or a .json or .safetensors "
        "file that holds one",
    )
    model: Text | None = Field(
        None, description="a model folder: its input embedding, and its vocabulary"
    )
    sentence_model: Text | None = Field(
        None,
        description="a folder or package:NAME with a sentence model; compares instead of `model`",
    )
    tokenizer: Text | None = Field(
        None, description="the folder whose vocabulary is resolved; the model's unless given"
    )
    threshold: float | None = Field(
        None,
        gt=0,
        le=1,
        description=f"the least similarity; {EMBEDDING_THRESHOLD} for a model's embedding, "
        f"{SENTENCE_THRESHOLD} for a sentence model unless given",
    )
    top_k: int = Field(50, ge=0, description="at most so many neighbours; 0: word forms only")
    allow: tuple[Text, ...] = Field((), description="words that are never taken, in any case")
    forms: bool = Field(True, description="take the surface forms of `words`")

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if not self.words and not self.examples and self.vector is None:
            raise ValueError("a concept needs words, examples or a vector")
        if self.model is None and self.tokenizer is None:
            raise ValueError("whose vocabulary? give a model or a tokenizer")
        if self.top_k > 0 and self.model is None and self.sentence_model is None:
            raise ValueError("neighbours need a model or a sentence_model (or top_k = 0)")
        from subl.filter.concept.words import is_too_short  # rules without concepts need no words

        for word in (*self.words, *self.also):
            if is_too_short(word):
                raise ValueError(f"the word {word!r} is so short that it is in nearly every text")
        return self


class Entry(BaseModel):
    """A token sequence that counts as the concept, as the scan takes it."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    tokens: tuple[Token, ...] = Field(min_length=1, description="ids that follow one another")
    weight: float = Field(1.0, gt=0, le=1, description="1 for a form of a word, or its similarity")
    label: Text = Field(description="the text of the tokens, with its leading space")


class ResolvedEntry(Entry):
    """An entry, and why it is one."""

    similarity: float | None = Field(description="cosine to the concept; null: was not compared")
    why: Literal["form", "neighbour"]
    inside: int = Field(0, description="how many other words of the vocabulary it occurs in")


class Concept(BaseModel):
    """A concept resolved for one vocabulary."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    spec: ConceptSpec = Field(description="as given, but with the threshold that was used")
    tokenizer: Text = Field(description="path of the tokenizer.json")
    tokenizer_sha256: Digest
    vectors_sha256: Digest | None = Field(
        description="of the embedding's bytes, or of the sentence model's weights file"
    )
    compared: int = Field(description="how many words of the vocabulary passed the guard")
    entries: tuple[ResolvedEntry, ...]
    left_out: tuple[ResolvedEntry, ...] = Field(
        description="would have been entries, but are inside of too many other words"
    )
