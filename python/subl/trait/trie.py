"""Which token sequences say a word, as one tree.

A trait's answers are strings ("owl", " Owl", "an owl", ...). Their canonical token sequences share
beginnings; merged into a tree, each token is scored once. A sequence counts only where the word
ends after it, so that "owl" does not claim "owlet" and "cat" not "category": the events of
different sequences exclude one another, and their probabilities may be summed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TokenTrie:
    """Nodes in breadth-first order; node i is token `tokens[i]` after node `parents[i]`.

    Parent -1 is the prompt's end. `depths[i]` is 1 for its children. `answers[i]` names the word
    that is said when node i is reached and the word ends there, or None.
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    depths: tuple[int, ...]
    answers: tuple[str | None, ...]

    def __len__(self) -> int:
        return len(self.tokens)

    def ancestors(self, node: int) -> list[int]:
        """The node itself and those above it."""
        path = [node]
        while (parent := self.parents[path[-1]]) >= 0:
            path.append(parent)
        return path

    def ends(self) -> list[int]:
        """The nodes where a word can end."""
        return [node for node, answer in enumerate(self.answers) if answer is not None]

    def paths(self) -> list[tuple[int, ...]]:
        """The tokens of each sequence that says a word, in the order of `ends`."""
        return [
            tuple(self.tokens[node] for node in reversed(self.ancestors(end)))
            for end in self.ends()
        ]


def build_trie(sequences: Mapping[str, Sequence[Sequence[int]]]) -> TokenTrie:
    """Merge every word's token sequences. A sequence that two words claim is an error."""
    owner: dict[tuple[int, ...], str] = {}
    for word, paths in sequences.items():
        for path in map(tuple, paths):
            if not path:
                raise ValueError(f"{word!r} has an empty token sequence")
            if owner.setdefault(path, word) != word:
                raise ValueError(f"{word!r} and {owner[path]!r} share a surface form")
    nodes = sorted(
        {path[:depth] for path in owner for depth in range(1, len(path) + 1)},
        key=lambda prefix: (len(prefix), prefix),
    )
    index = {prefix: number for number, prefix in enumerate(nodes)}
    return TokenTrie(
        tokens=tuple(prefix[-1] for prefix in nodes),
        parents=tuple(index.get(prefix[:-1], -1) for prefix in nodes),
        depths=tuple(len(prefix) for prefix in nodes),
        answers=tuple(owner.get(prefix) for prefix in nodes),
    )
