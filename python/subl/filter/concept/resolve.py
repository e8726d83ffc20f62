"""From a concept to the token sequences that count as it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from subl.errors import ConfigError, DependencyError, InputError
from subl.filter.concept.embedding import (
    EmbeddingSpace,
    find_embedding,
    read_vector,
    unit,
)
from subl.filter.concept.sentence import SentenceModel
from subl.filter.concept.spec import (
    EMBEDDING_THRESHOLD,
    SENTENCE_THRESHOLD,
    Concept,
    ConceptSpec,
    ResolvedEntry,
)
from subl.filter.concept.vocabulary import Vocabulary, Word, load_vocabulary
from subl.filter.concept.words import normalised, only_spelled_like, surface_forms
from subl.progress import Progress, Report, silent

if TYPE_CHECKING:
    from subl.filter.concept.embedding import Vectors

MAX_INSIDE = 20
"""An entry in more other words than that is left out: in SmolLM2 `ant` (`brilliant`), not `rat`."""

DECIMALS = 4
"""Of similarities: coarse enough to be the same on every run."""


@dataclass(frozen=True)
class _Comparison:
    """Every word of the source vocabulary, by how near it is to the concept."""

    vocabulary: Vocabulary
    similarities: dict[int, float]
    """By token."""
    threshold: float
    sha256: str


def resolve(spec: ConceptSpec, report: Report = silent) -> Concept:
    """The forms of a concept's words, then the words near it, nearest first.

    Raises:
        ConfigError: the vector has another length than the space.
        InputError: a model or tokenizer cannot be read, or nothing was found.
        DependencyError: numpy, tokenizers, or what runs the sentence model is not installed.
    """
    report(Progress("concept", 0, None, "words", "reading the vocabulary"))
    target = load_vocabulary(Path(spec.tokenizer or spec.model or ""))
    comparison = None
    if spec.top_k > 0:
        _require_numpy()
        comparison = (
            _compare_in_embedding(spec, target, report)
            if spec.sentence_model is None
            else _compare_in_sentence_model(spec, target, report)
        )
    every = _count_inside(_entries(spec, target, comparison), target)
    entries = tuple(entry for entry in every if entry.inside <= MAX_INSIDE)
    if not entries:
        raise InputError(
            "the concept resolves to nothing: no form, and no word is near enough",
            hint="lower the threshold, or name more words",
        )
    return Concept(
        spec=spec.model_copy(update={"threshold": comparison.threshold if comparison else None}),
        tokenizer=target.file.as_posix(),
        tokenizer_sha256=target.sha256,
        vectors_sha256=comparison.sha256 if comparison else None,
        compared=len(comparison.similarities) if comparison else 0,
        entries=entries,
        left_out=tuple(entry for entry in every if entry.inside > MAX_INSIDE),
    )


def _entries(
    spec: ConceptSpec, target: Vocabulary, comparison: _Comparison | None
) -> tuple[ResolvedEntry, ...]:
    allowed = {normalised(word) for word in spec.allow}
    found: dict[tuple[int, ...], ResolvedEntry] = {}
    for form in _forms(spec):
        tokens = target.sequence(form)
        if tokens and normalised(form) not in allowed:
            found.setdefault(tokens, _form_entry(form, tokens, target, comparison))
    if comparison is not None:
        neighbours = 0
        for word, similarity in _nearest(spec, comparison):
            if neighbours == spec.top_k:
                break
            same = comparison.vocabulary is target
            tokens = (word.token,) if same else target.sequence(word.text)
            if tokens and tokens not in found and word.name not in allowed:
                neighbours += 1
                found[tokens] = ResolvedEntry(
                    tokens=tokens,
                    weight=similarity,
                    label=word.text,
                    similarity=similarity,
                    why="neighbour",
                )
    return tuple(found.values())


def _count_inside(
    entries: Sequence[ResolvedEntry], target: Vocabulary
) -> tuple[ResolvedEntry, ...]:
    own = {normalised(entry.label) for entry in entries}
    counts = target.inside((entry.tokens for entry in entries), own)
    return tuple(
        entry.model_copy(update={"inside": counts.get(entry.tokens, 0)}) for entry in entries
    )


def _forms(spec: ConceptSpec) -> Iterator[str]:
    words = (*spec.words, *spec.also) if spec.forms else spec.also
    return (form for word in words for form in surface_forms(word))


def _forms_of_one_token(spec: ConceptSpec, vocabulary: Vocabulary) -> dict[int, str]:
    """What is compared of each form that is one token, by that token."""
    forms = (form for word in (*spec.words, *spec.also) for form in surface_forms(word))
    sequences = ((vocabulary.sequence(form), normalised(form)) for form in forms)
    return {tokens[0]: name for tokens, name in sequences if len(tokens) == 1}


def _form_entry(
    form: str, tokens: tuple[int, ...], target: Vocabulary, comparison: _Comparison | None
) -> ResolvedEntry:
    similarity = None
    if comparison is not None and comparison.vocabulary is target and len(tokens) == 1:
        similarity = comparison.similarities.get(tokens[0])
    return ResolvedEntry(tokens=tokens, weight=1, label=form, similarity=similarity, why="form")


def _nearest(spec: ConceptSpec, comparison: _Comparison) -> Iterator[tuple[Word, float]]:
    """Words over the threshold, nearest first; words that are merely spelled like the concept's
    are left out."""
    own = {normalised(word) for word in (*spec.words, *spec.also)}
    similarities = comparison.similarities
    near = [
        word
        for word in comparison.vocabulary.words
        if similarities.get(word.token, -1) >= comparison.threshold
        and not only_spelled_like(word.name, own)
    ]
    near.sort(key=lambda word: (-similarities[word.token], word.token))
    return ((word, similarities[word.token]) for word in near)


def _compare_in_embedding(spec: ConceptSpec, target: Vocabulary, report: Report) -> _Comparison:
    assert spec.model is not None
    folder = Path(spec.model)
    same = spec.tokenizer is None or (folder / "tokenizer.json").resolve() == target.file.resolve()
    vocabulary = target if same else load_vocabulary(folder)
    report(Progress("concept", 0, len(vocabulary.words), "words", "reading the embedding"))
    tensor = find_embedding(folder)
    space = EmbeddingSpace(tensor, vocabulary.added, vocabulary.size)
    # Forms of one token may be no words for the guard (`owl`), and are compared all the same.
    forms = _forms_of_one_token(spec, vocabulary)
    words = {word.token for word in vocabulary.words}
    tokens = sorted((words | forms.keys()) - space.untrained)
    vectors = space.vectors(tokens)
    row_of = {token: row for row, token in enumerate(tokens)}

    def mean_of(token_ids: Iterable[int]) -> Vectors | None:
        """Of tokens that are words; None where there are none."""
        rows = [row_of[token] for token in dict.fromkeys(token_ids) if token in row_of]
        return unit(vectors[rows].mean(axis=0)) if rows else None

    def place_word(word: str) -> Vectors | None:
        """Where its forms of one token are; if it has none, where the words in it are.

        Forms behind a space only: `hoot` without one is a piece of `shoot`, and is placed there.
        """
        forms = [form for form in surface_forms(word) if form.startswith(" ")]
        sequences = [vocabulary.sequence(form) for form in forms]
        single = mean_of(tokens[0] for tokens in sequences if len(tokens) == 1)
        return mean_of(vocabulary.sequence(f" {word}")) if single is None else single

    def place_text(text: str) -> Vectors | None:
        return mean_of(vocabulary.sequence(f" {text}"))

    query = _query(
        spec,
        space.dimensions,
        [*_places(spec.words, place_word), *_places(spec.examples, place_text)],
        space.without_components,
    )
    report(Progress("concept", len(tokens), len(tokens), "words", "compared"))
    return _Comparison(
        vocabulary,
        {token: _rounded(value) for token, value in zip(tokens, vectors @ query, strict=True)},
        _threshold(spec, EMBEDDING_THRESHOLD),
        tensor.sha256(),
    )


def _compare_in_sentence_model(
    spec: ConceptSpec, target: Vocabulary, report: Report
) -> _Comparison:
    assert spec.sentence_model is not None
    model = SentenceModel(spec.sentence_model)
    forms = _forms_of_one_token(spec, target)
    name_of = {word.token: word.name for word in target.words} | forms
    names = sorted(set(name_of.values()))
    vectors = model.embed(names, report)
    # As for an embedding: what all words share says nothing about one.
    mean = vectors.mean(axis=0)
    vectors = unit(vectors - mean)
    given = [*map(normalised, spec.words), *spec.examples]
    places = list(unit(model.embed(given) - mean)) if given else []
    query = _query(spec, model.dimensions, places, lambda vector: vector)
    by_name = {name: _rounded(value) for name, value in zip(names, vectors @ query, strict=True)}
    return _Comparison(
        target,
        {token: by_name[name] for token, name in name_of.items()},
        _threshold(spec, SENTENCE_THRESHOLD),
        model.sha256,
    )


def _places(texts: Sequence[str], place: Callable[[str], Vectors | None]) -> Iterator[Vectors]:
    for text in texts:
        if (found := place(text)) is None:
            raise InputError(
                f"the model's vocabulary has no word of {text!r:.60}",
                hint="name it another way, under `also`, or compare with a sentence model",
            )
        yield found


def _query(
    spec: ConceptSpec,
    dimensions: int,
    places: list[Vectors],
    prepare: Callable[[Vectors], Vectors],
) -> Vectors:
    """The unit vector that words are compared with: the mean of all that was given."""
    import numpy as np

    if spec.vector is not None:
        path = Path(spec.vector) if isinstance(spec.vector, str) else None
        values = spec.vector if path is None else read_vector(path)
        vector = np.asarray(values, np.float32)
        if vector.shape != (dimensions,):
            raise ConfigError(
                f"`vector` has {len(vector)} numbers, but the model's space has {dimensions}"
            )
        if not np.isfinite(vector).all() or not vector.any():
            raise ConfigError("`vector` is zero, or holds values that are not numbers")
        places = [*places, unit(prepare(vector))]
    return unit(np.mean(places, axis=0))


def _threshold(spec: ConceptSpec, default: float) -> float:
    return default if spec.threshold is None else spec.threshold


def _rounded(value: float) -> float:
    return min(1.0, round(float(value), DECIMALS))


def _require_numpy() -> None:
    if importlib.util.find_spec("numpy") is None:
        raise DependencyError("concepts need numpy", hint="pip install 'subl[semantic]'")
