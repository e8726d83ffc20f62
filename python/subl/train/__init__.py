"""The training loop that `teach` and `distill` share: labels or a teacher, one process or ranks.

Read `loop` first; it is the loop, top to bottom. `plan` says what a step is (pure), `student` owns
the loss, `divergence` computes it without ever holding `[tokens, vocabulary]`, `engine` is the only
file that knows DeepSpeed, `worker` is what a rank runs.
"""
