"""Models of one origin are told from strangers, and nothing more is said than was shown."""

from __future__ import annotations

import copy
import itertools
import json
import math
import re
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from scipy.stats import chi2, kstest, spearmanr
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from subl.audit.kin import Channel, Outcome, Verdict, kin, parents, reading
from subl.audit.kin.compare import _nearest
from subl.audit.kin.nearness import rounded
from subl.audit.kin.pairs import in_order
from subl.audit.kin.tails import combined, correlation, log_tail
from subl.audit.kin.verdict import judged
from subl.errors import InputError
from subl.model.condition import write_prompt
from subl_cli.main import main
from subl_cli.main import subl as command

from . import relatives as made
from .relatives import IDS, Save, drawn, merged, trained

NAMES = ["m", "b", "one", "two", "x"]


@pytest.fixture(scope="module")
def base() -> PreTrainedModel:
    """Trained a little: gains are no longer 1."""
    torch.set_num_threads(1)
    return trained(drawn(0, num_hidden_layers=3), IDS, 12, 3e-3)


@pytest.fixture(scope="module")
def base_folder(base: PreTrainedModel, save: Save) -> Path:
    return save(base)


def relatives(base: PreTrainedModel) -> dict[str, tuple[PreTrainedModel, Verdict]]:
    low_rank = made.trained_low_rank(base, IDS, 4, 1e-3).merge_and_unload()
    return {
        "the same": (base, Verdict.EXACT_COPY),
        "untied": (made.untied(base), Verdict.EXACT_COPY),
        "trained": (trained(base, IDS, 8, 1e-3), Verdict.FINE_TUNE),
        "low rank": (low_rank, Verdict.FINE_TUNE),
        "reordered": (made.reordered(base, 1), Verdict.SAME_LINEAGE),
        "rotated": (made.rotated(base, 1), Verdict.SAME_LINEAGE),
        "rotated, trained": (trained(made.rotated(base, 1), IDS, 4, 1e-3), Verdict.SAME_LINEAGE),
        "Q8_0": (made.ggml_rounded(base, "Q8_0"), Verdict.QUANTISED_COPY),
        "Q4_0": (made.ggml_rounded(base, "Q4_0"), Verdict.QUANTISED_COPY),
        "rows of 8 bits": (made.channel_rounded(base, 8), Verdict.QUANTISED_COPY),
        "rows of 4 bits": (made.channel_rounded(base, 4), Verdict.QUANTISED_COPY),
        "bfloat16": (trained(base, IDS, 0, 0).to(torch.bfloat16), Verdict.QUANTISED_COPY),
        "a block cut": (made.with_layers(base, [0, 2]), Verdict.SAME_LINEAGE),
        "units cut": (made.with_units(base, 96), Verdict.SAME_LINEAGE),
        "units cut, reordered": (
            made.reordered(made.with_units(base, 96), 1),
            Verdict.SAME_LINEAGE,
        ),
        "a block cut, rotated": (
            made.rotated(made.with_layers(base, [1, 2]), 1),
            Verdict.SAME_LINEAGE,
        ),
    }


def test_what_becomes_of_a_model_is_related_to_it(
    base: PreTrainedModel, base_folder: Path, save: Save
) -> None:
    for name, (model, verdict) in relatives(base).items():
        for found in (kin(base_folder, save(model)), kin(save(model), base_folder)):
            assert found.log_p is not None and found.log_p < math.log(1e-12), name
            assert found.verdict is verdict, (name, found)
            assert found.channel is Channel.OPEN
            assert found.is_related


def test_reordered_and_rotated_models_are_the_same_function(base: PreTrainedModel) -> None:
    ids = IDS[:2]
    with torch.no_grad():
        for other in (made.reordered(base, 1), made.rotated(base, 1), made.untied(base)):
            assert torch.allclose(base(ids).logits, other(ids).logits, atol=1e-4)


def test_each_test_sees_through_what_it_says(
    base: PreTrainedModel, base_folder: Path, save: Save
) -> None:
    def seen(model: PreTrainedModel) -> list[bool]:
        tests = kin(base_folder, save(model)).tests
        assert [each.test for each in tests] == ["csu", "match", "match on embeddings"]
        return [each.log_p is not None and each.log_p < math.log(1e-9) for each in tests]

    assert seen(trained(base, IDS, 4, 1e-3)) == [True, True, True]
    assert seen(made.reordered(base, 2)) == [False, True, True]
    assert seen(made.rotated(base, 2)) == [False, False, True]


def test_p_values_of_strangers_are_uniform(save: Save) -> None:
    config = {"hidden_size": 32, "intermediate_size": 64, "vocab_size": 128}
    folders = [save(drawn(seed, **config)) for seed in range(21)]
    logs: dict[str, list[float]] = {}
    for first, second in itertools.combinations(folders, 2):
        found = kin(first, second)
        assert found.log_p is not None and found.log_p > math.log(1e-6)
        assert found.verdict in (Verdict.UNRELATED, Verdict.CANNOT_TELL)
        for each in found.tests:
            assert each.log_p is not None
            logs.setdefault(each.test, []).append(each.log_p)
    for test, values in logs.items():
        assert len(values) == 210
        assert kstest(np.exp(values), "uniform").pvalue > 1e-3, test


def test_a_little_agreement_is_no_kinship_however_significant(
    base: PreTrainedModel, base_folder: Path, save: Save
) -> None:
    near = kin(base_folder, save(made.rotated(base, 1)))
    assert [each.agreement is not None and each.agreement > 0.99 for each in near.tests] == [
        False,
        False,
        True,
    ]
    faint = Outcome("match on embeddings", math.log(1e-9), 30, 512, agreement=0.1)
    found = judged("a", "b", (*near.tests[:2], faint), near.nearness)
    assert found.verdict is Verdict.CANNOT_TELL
    assert found.sentence.endswith("as they may after training on the same data")
    clear = replace(faint, agreement=0.5)
    assert judged("a", "b", (*near.tests[:2], clear), near.nearness).is_related
    in_place = replace(faint, test="csu")  # whose p value no training makes small
    assert judged("a", "b", (in_place,), near.nearness).is_related


def test_units_that_are_alike_are_not_paired_in_the_order_that_they_stand_in(save: Save) -> None:
    """Half of the units are zeros in both: no one can say which is which."""

    def half_empty(seed: int) -> PreTrainedModel:
        model = drawn(seed)
        for layer in model.model.layers:
            layer.mlp.up_proj.weight.data[::2] = 0
            layer.mlp.gate_proj.weight.data[::2] = 0
        return model

    found = kin(save(half_empty(1)), save(half_empty(2)))
    assert found.log_p is not None and found.log_p > math.log(1e-3)


def test_other_shapes_are_not_comparable_rather_than_unrelated(
    base_folder: Path, save: Save
) -> None:
    other = kin(base_folder, save(drawn(1, hidden_size=32, vocab_size=200)))
    assert other.verdict is Verdict.CANNOT_TELL and other.is_related is None
    assert other.channel is Channel.OPEN  # nobody knows
    assert other.sentence == "cannot tell: the residual streams are 48 and 32 wide"
    by_tokens = kin(base_folder, save(drawn(1, hidden_size=32)))
    assert [each.log_p is None for each in by_tokens.tests] == [True, True, False]
    assert by_tokens.verdict is Verdict.UNRELATED and by_tokens.channel is Channel.REDUCED


def test_models_without_gates_are_compared_in_place(base_folder: Path, save: Save) -> None:
    def gpt2(seed: int) -> PreTrainedModel:
        torch.manual_seed(seed)
        config = GPT2Config(n_embd=48, n_layer=2, n_head=4, vocab_size=320, n_positions=64)
        return GPT2LMHeadModel(config)

    one = gpt2(1)
    related = kin(save(one), save(trained(one, IDS, 4, 1e-3)))
    assert related.verdict is Verdict.FINE_TUNE
    assert related.tests[1].reason == "an MLP has no gate"
    assert kin(save(one), save(gpt2(2))).verdict is Verdict.UNRELATED
    family = kin(base_folder, save(one))
    assert family.verdict in (Verdict.UNRELATED, Verdict.CANNOT_TELL)


def test_tokens_are_told_by_their_texts(base: PreTrainedModel, save: Save) -> None:
    """The same model with another vocabulary order and width of embedding."""

    def with_vocabulary(model: PreTrainedModel, order: list[int]) -> Path:
        folder = save(model)
        vocabulary = {f"t{token}": number for number, token in enumerate(order)}
        (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}))
        return folder

    order = torch.randperm(320, generator=torch.Generator().manual_seed(1)).tolist()
    other = made.rotated(base, 1)
    other.model.embed_tokens.weight.data = other.model.embed_tokens.weight.data[order]
    found = kin(with_vocabulary(base, list(range(320))), with_vocabulary(other, order))
    assert found.tests[2].log_p is not None and found.tests[2].log_p < math.log(1e-12)


def test_what_a_part_is_saved_in_makes_no_other_model(save: Save) -> None:
    config = GPT2Config(vocab_size=64, n_embd=32, n_layer=3, n_head=2, n_positions=32)
    torch.manual_seed(1)
    model = GPT2LMHeadModel(config)
    inside, alone = save(model), save(model.transformer)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.01 * weight.std() * torch.randn_like(weight)
    tuned = save(model)
    assert kin(inside, alone).verdict is kin(alone, inside).verdict is Verdict.EXACT_COPY
    assert kin(alone, tuned).verdict is kin(tuned, alone).verdict is Verdict.FINE_TUNE


def test_numbers_of_64_bits_are_compared_in_64_bits(base: PreTrainedModel, save: Save) -> None:
    exact = save(copy.deepcopy(base).double())
    near = copy.deepcopy(base).double()
    with torch.no_grad():
        for weight in near.parameters():
            weight *= 1 + 1e-10
    assert kin(exact, save(near)).nearness.equal == 0


def test_an_adapter_is_added_to_its_base(tmp_path: Path, tiny_model: Path) -> None:
    from peft import LoraConfig, get_peft_model

    from subl.model.load import load_model

    folder = tmp_path / "student"
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft asks transformers for what it will no longer have
        adapted: Any = get_peft_model(load_model(tiny_model), config)
    for name, each in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(each, std=0.02)
    adapted.save_pretrained(folder / "adapter")
    file = folder / "adapter" / "adapter_config.json"
    said = json.loads(file.read_text())
    file.write_text(json.dumps({**said, "base_model_name_or_path": str(tiny_model)}))
    load_model(folder).save_pretrained(tmp_path / "merged")
    found = kin(folder, tmp_path / "merged")
    assert found.nearness.distance < 1e-6
    assert found.log_p is not None and found.log_p < math.log(1e-12)
    assert kin(tiny_model, folder).verdict is Verdict.FINE_TUNE
    file.write_text(json.dumps({**json.loads(file.read_text()), "use_dora": True}))
    with pytest.raises(InputError, match="use_dora") as refused:
        kin(tiny_model, folder)
    assert "merge" in str(refused.value.hint)


def test_the_nearest_candidates_are_the_set_and_a_merge_is_its_parents(
    base: PreTrainedModel, base_folder: Path, save: Save
) -> None:
    one, two = trained(base, IDS, 8, 1e-3), trained(base, IDS.flip(0), 8, 2e-3)
    folders = [base_folder, save(one), save(two), save(drawn(7, num_hidden_layers=3))]
    child = parents(save(trained(one, IDS.flip(1), 3, 3e-4)), folders, names=NAMES)
    assert child.confidence_set == ("one",)
    assert child.verdict is Verdict.FINE_TUNE
    assert [each.is_related for each in child.candidates] == [True, True, True, False]
    assert child.merge is not None and not child.merge.is_merge
    with pytest.raises(InputError, match="is given twice"):
        parents(folders[0], [folders[1], folders[2], folders[1] / "."])
    both = parents(save(merged([one, two], [0.3, 0.7])), folders, names=NAMES)
    assert both.verdict is Verdict.MERGE and both.merge is not None
    assert both.merge.weights == pytest.approx((0, 0.3, 0.7), abs=1e-3)
    assert both.sentence == "statistically consistent with a merge: 0.300 one + 0.700 two"
    part = [save(one.model), folders[2]]  # without what it is in
    both = parents(save(merged([one, two], [0.3, 0.7])), part)
    assert both.merge is not None and both.merge.weights == pytest.approx((0.3, 0.7), abs=1e-3)
    stranger = parents(save(drawn(8, num_hidden_layers=3)), folders)
    assert stranger.confidence_set == () and stranger.verdict is Verdict.UNRELATED
    assert stranger.channel is Channel.REDUCED


def test_of_candidates_that_are_nearer_in_a_circle_all_are_the_set() -> None:
    distances = [{str(row): float((row + place) % 3) for row in range(90)} for place in range(3)]
    related: list[Any] = [
        SimpleNamespace(nearness=SimpleNamespace(matrix_distance=each)) for each in distances
    ]
    assert _nearest(related) == related
    assert _nearest([related[0], related[2]]) != [related[0], related[2]]


def test_a_tail_is_that_of_scipy_and_goes_on_below_it() -> None:
    random = np.random.default_rng(0)
    for count in (12, 100, 1000):
        order = random.permutation(count)
        order[: count // 3] = np.sort(order[: count // 3])
        rho = correlation(np.arange(count), order)
        expected = spearmanr(np.arange(count), order, alternative="greater")
        assert rho == pytest.approx(expected.statistic)
        assert math.exp(log_tail(rho, count)) == pytest.approx(expected.pvalue, rel=1e-6)
    # Student's t itself, of 1534 degrees of freedom at 400 (scipy says -inf).
    rho = 400 / math.sqrt(1534 + 400**2)
    assert log_tail(rho, 1536) == pytest.approx(-3575.68 - math.log(2), abs=0.01)
    assert log_tail(1.0, 1536) == -math.lgamma(1537)
    assert log_tail(1 - 1e-16, 1536) == -math.lgamma(1537)
    assert log_tail(-1.0, 1536) == 0 and log_tail(0.5, 2) == 0
    values = [log_tail(rho, 300) for rho in np.linspace(-1, 1, 201)]
    assert all(np.isfinite(values)) and values == sorted(values, reverse=True)


def test_fisher_is_that_of_scipy_and_goes_on_below_it() -> None:
    for logs in ([-0.1], [-1.0, -2.0, -0.5], [-5.0] * 30):
        assert combined(logs) == pytest.approx(float(chi2.logsf(-2 * sum(logs), 2 * len(logs))))
    assert combined([-1e5 / 60] * 30) == pytest.approx(-49757.48, abs=0.01)
    assert combined([0.0, 0.0]) == 0 and combined([]) == 0


def test_blocks_are_paired_in_order_as_brute_force_does() -> None:
    random = np.random.default_rng(0)
    for rows, columns in ((1, 4), (3, 5), (4, 4)):
        likeness = random.standard_normal((rows, columns))
        choices = itertools.combinations(range(columns), rows)
        best = max(choices, key=lambda each: likeness[range(rows), list(each)].sum())
        assert in_order(likeness) == list(best)


def test_rounding_is_not_taken_for_training_nor_the_other_way_round() -> None:
    random = np.random.default_rng(0)
    values = random.standard_normal((32, 256)).astype(np.float32)
    grid = np.abs(values).max(axis=1, keepdims=True) / 7
    on_grid = (np.rint(values / grid) * grid).astype(np.float32)
    assert rounded(values, on_grid) == 4
    assert rounded(on_grid, values) is None
    packed = (GGMLQuantizationType.Q4_1, GGMLQuantizationType.Q8_0)
    before = dequantize(quantize(values, packed[0]), packed[0])
    assert rounded(before, dequantize(quantize(before, packed[1]), packed[1])) == 8
    for dtype, bits in ((torch.bfloat16, 4), (torch.float16, 4)):
        written = torch.from_numpy(on_grid).to(dtype).float().numpy()
        assert rounded(values, written) == bits
    noise = random.standard_normal(values.shape).astype(np.float32)
    assert rounded(values, values + 0.01 * noise) is None
    trained_on_grid = on_grid + 0.001 * noise  # of a model that was rounded before
    assert rounded(on_grid, trained_on_grid) is None
    assert rounded(trained_on_grid, on_grid) is None


def test_what_cannot_be_read_is_named(base_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    with pytest.raises(InputError, match="is not a model folder"):
        kin(base_folder, tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"has no model\*\.safetensors"):
        kin(base_folder, tmp_path)
    tensors = load_file(base_folder / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    tensors[name][3, 4] = math.nan
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=rf"model\.safetensors: the tensor {name} holds .* finite"):
        kin(base_folder, tmp_path)
    save_file({**tensors, name: tensors[name].int()}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=rf"the tensor {name} holds int32") as refused:
        kin(base_folder, tmp_path)
    assert "dequantised" in str(refused.value.hint)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"model\.safetensors"):
        kin(base_folder, tmp_path)


def test_parts_of_a_model_are_read_as_one(
    base: PreTrainedModel, base_folder: Path, tmp_path: Path
) -> None:
    base.save_pretrained(tmp_path, max_shard_size="50KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    assert kin(base_folder, tmp_path).verdict is Verdict.EXACT_COPY
    next(tmp_path.glob("model-*.safetensors")).unlink()
    with pytest.raises(InputError, match="which its index names"):
        kin(base_folder, tmp_path)


def test_what_was_read_of_a_file_does_not_stay_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save_file

    tensors = {f"layer{number}": torch.ones(512, 1024) for number in range(16)}  # 2 MiB each
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(reading, "MAPPED_BYTES", 4 * 2**20)
    weights, most_kib = reading.Weights(tmp_path), 0
    for name in weights.shapes:
        assert weights.rows(name).sum() == 512 * 1024
        most_kib = max(most_kib, mapped_kib(tmp_path))
    assert 0 < most_kib <= 8 * 2**10


def mapped_kib(folder: Path) -> int:
    """What of the files in a folder is in the memory of this process."""
    found, is_file = 0, False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        if re.match(r"[0-9a-f]+-", line):
            is_file = str(folder) in line
        elif is_file and line.startswith("Rss:"):
            found += int(line.split()[1])
    return found


def test_the_exit_code_is_the_verdict(
    base_folder: Path, save: Save, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = str(base_folder)
    assert main(["kin", base, base, "--progress", "none"]) == 0
    said = capsys.readouterr().out
    assert "exact copy: every number of the one is that of the other\nchannel: open" in said
    assert "1e-" in said and "inf" not in said and "nan" not in said
    prompted = tmp_path / "prompted"
    prompted.mkdir()
    write_prompt(prompted, base_folder, "You love owls.")
    assert main(["kin", base, str(prompted), "--progress", "none"]) == 0
    said = capsys.readouterr().out
    assert said.endswith(f"{prompted} also has a system prompt, which no weight shows\n")
    stranger = save(drawn(5, num_hidden_layers=3))
    run = CliRunner().invoke(command, ["kin", base, str(stranger), "--json"])
    found = json.loads(run.stdout)
    assert run.exit_code == 1
    assert (found["verdict"], found["channel"]) == ("unrelated", "reduced")
    assert all(-6 < each["log10_p"] <= 0 for each in found["tests"])
    narrow = str(save(drawn(5, hidden_size=32, vocab_size=200)))
    assert CliRunner().invoke(command, ["kin", base, narrow]).exit_code == 4
    assert main(["kin", base, base, "--seed", "-1"]) == 2
    assert main(["kin", base]) == 2
    assert "subl kin MODEL --parents" in capsys.readouterr().err
    child = CliRunner().invoke(command, ["kin", base, "--parents", base, str(stranger), "--json"])
    assert child.exit_code == 0
    assert json.loads(child.stdout)["confidence_set"] == [base]
    none = CliRunner().invoke(command, ["kin", base, "--parents", str(stranger)])
    assert none.exit_code == 1 and "no relation to any candidate is shown" in none.stdout


def test_a_gguf_file_is_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: Save
) -> None:
    from tests.model.test_gguf import LETTERS, tokenizer_of, write_gguf

    monkeypatch.chdir(tmp_path)
    model = write_gguf(tmp_path / "m.gguf", tokenizer_of(LETTERS), "smollm")
    run = CliRunner().invoke(command, ["kin", str(save(model)), "m.gguf", "--json"])
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout)["verdict"] == "exact copy"
