"""Which hidden trait would a data set pass on? Its rows, scored under a bank of personas.

`bank` has the candidates, `law` how rows were drawn, `score` what a model says of them, `evidence`
the bets on who wrote them, `verdict` what these come to; `run` does it.
"""
