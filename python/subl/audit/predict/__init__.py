"""By how much will a student's trait shift, before it is trained?

`slope` and `pull` look at the data, `pilot` trains a little; `conformal` has the rule and its
error, `past` the finished runs that `calibration` learns from; `run` predicts, `check` holds a
prediction against what came.
"""
