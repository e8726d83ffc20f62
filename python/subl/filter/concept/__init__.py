"""A concept becomes a set of token sequences once, at plan time; scanning then needs no model.

A concept is words, example texts or a vector. `resolve` takes the surface forms of the words, and
the words of a vocabulary whose vectors are near: rows of a model's own input embedding, or the
embeddings that a sentence model gives to the vocabulary's words. `document` writes down what was
found for a person to prune, and that file is the rule: the same file, the same verdicts.
"""
