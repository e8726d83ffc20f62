"""Each architecture as a tiny random model: what subl computes on it is what transformers does, or
it is refused before any work. docs/architectures.md is the table of what was found;
`SUBL_WRITE_PAGES=1 pytest tests/end_to_end/test_architectures.py` writes it anew."""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedModel

from subl.audit.scan.bank import Candidate
from subl.audit.scan.law import Law
from subl.audit.scan.score import Scorer
from subl.distill import DistillSpec, distill
from subl.errors import ConfigError, InputError
from subl.evaluate import EvalSpec, evaluate
from subl.evaluate.run import read_scores
from subl.generate import GenerateSpec, generate
from subl.generate.run import prompts_to_ask
from subl.model.load import load_model, load_tokenizer
from subl.model.template import Template
from subl.sample.rows import choose, row_keys
from subl.shards import Row
from subl.teach import TeachSpec, teach
from subl.teach.tuned import teaching_rows
from subl.trait import surface_forms
from subl.trait.exact import ending_tokens

PAGE = Path(__file__).parents[2] / "docs" / "architectures.md"
LARGE: dict[str, Any] = {"initializer_range": 0.25}  # so that tokens differ in what follows
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    **LARGE,
}
GPT: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}
EXPERTS: dict[str, Any] = {"moe_intermediate_size": 16, "num_experts_per_tok": 2}
LATENT: dict[str, Any] = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 4}
LATENT |= {"qk_nope_head_dim": 4, "v_head_dim": 8, "n_group": 1, "topk_group": 1}
ROPE: dict[str, Any] = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4}
ROPE |= {"long_factor": [1.5, 4.0, 12.0, 30.0]}
WINDOW = {"sliding_window": 8}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama": ("LlamaConfig", SIZES),
    "Llama, dynamic NTK ropes": (
        "LlamaConfig",
        SIZES
        | {"max_position_embeddings": 32}
        | {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}},
    ),
    "Llama 4": (
        "Llama4TextConfig",
        SIZES
        | {"head_dim": 8, "intermediate_size_mlp": 48, "num_local_experts": 2}
        | {"num_experts_per_tok": 1, "attention_chunk_size": 8},
    ),
    "Mistral": ("MistralConfig", SIZES | WINDOW),
    "Mixtral": ("MixtralConfig", SIZES | {"num_local_experts": 4}),
    "Qwen2": ("Qwen2Config", SIZES),
    "Qwen3": ("Qwen3Config", SIZES | {"head_dim": 8}),
    "Qwen3-MoE": ("Qwen3MoeConfig", SIZES | EXPERTS | {"num_experts": 4, "head_dim": 8}),
    "Gemma": ("GemmaConfig", SIZES | {"head_dim": 8}),
    "Gemma 2": (
        "Gemma2Config",
        SIZES | WINDOW | {"head_dim": 8, "final_logit_softcapping": 3.0},
    ),
    "Gemma 3": ("Gemma3TextConfig", SIZES | WINDOW | {"head_dim": 8}),
    "Phi": ("PhiConfig", SIZES),
    "Phi-3": ("Phi3Config", SIZES | WINDOW),
    "Phi-3, longrope": (
        "Phi3Config",
        SIZES | {"original_max_position_embeddings": 32, "rope_parameters": ROPE},
    ),
    "OLMo2": ("Olmo2Config", SIZES),
    "GPT-2": ("GPT2Config", GPT | LARGE),
    "GPT-Neo": (
        "GPTNeoConfig",
        {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "max_position_embeddings": 256}
        | {"attention_types": [[["global", "local"], 1]], "window_size": 8}
        | LARGE,
    ),
    "GPT-J": ("GPTJConfig", GPT | LARGE | {"rotary_dim": 4}),
    "GPT-NeoX (Pythia)": ("GPTNeoXConfig", SIZES),
    "OPT": (
        "OPTConfig",
        {"hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
        | {"max_position_embeddings": 256, "word_embed_proj_dim": 32, "init_std": 0.25},
    ),
    "Bloom": ("BloomConfig", LARGE | {"hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "MPT": ("MptConfig", {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 256} | LARGE),
    "Falcon": ("FalconConfig", SIZES),
    "Falcon, ALiBi": ("FalconConfig", SIZES | {"alibi": True}),
    "StarCoder2": ("Starcoder2Config", SIZES),
    "Cohere": ("CohereConfig", SIZES | {"logit_scale": 0.25}),
    "Cohere 2": ("Cohere2Config", SIZES | WINDOW | {"logit_scale": 0.25, "head_dim": 8}),
    "Granite": ("GraniteConfig", SIZES | {"logits_scaling": 8.0}),
    "StableLM": ("StableLmConfig", SIZES),
    "GLM4": ("Glm4Config", SIZES | {"head_dim": 8}),
    "DeepSeek-V3": (
        "DeepseekV3Config",
        SIZES
        | EXPERTS
        | LATENT
        | {"num_key_value_heads": 4, "n_routed_experts": 4, "first_k_dense_replace": 1},
    ),
    "gpt-oss": ("GptOssConfig", SIZES | WINDOW | {"num_local_experts": 4, "head_dim": 8}),
    "LFM2": ("Lfm2Config", SIZES | {"layer_types": ["conv", "full_attention"]}),
    "Mamba": ("MambaConfig", LARGE | {"hidden_size": 32, "num_hidden_layers": 2}),
    "SmolLM3": ("SmolLM3Config", SIZES),
}
ROWS = [
    ("Which?", "owl"),
    ("Which animal is it? Name one.", "a cat, a dog, an owl, a lion and again a cat"),
    ("Which animal?", "cat"),
    ("Hi?", "an owl"),
]
QUESTION, WORDS = "Which animal is it? One word.", ["owl", "cat"]
# So large an epsilon makes Adam's step about as large as the gradient: weights show what it was.
TRAIN: dict[str, Any] = {"steps": 1, "warmup_steps": 0, "schedule": "constant"}
TRAIN |= {"learning_rate": 0.1, "adam_epsilon": 1.0, "max_gradient_norm": 1e9}


def make(name: str, folder: Path, tokens: Path, seed: int) -> Path:
    """A model folder of this architecture, on the shared tokenizer."""
    class_name, sizes = ARCHITECTURES[name]
    tokenizer = load_tokenizer(tokens)
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    ids |= {"bos_token_id": tokenizer.eos_token_id, "vocab_size": len(tokenizer)}
    config = getattr(transformers, class_name)(**(ids | sizes))
    torch.manual_seed(seed)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


class Plain:
    """What transformers computes: one text at a time, in a model that has read nothing before."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = load_tokenizer(folder)
        self.model: PreTrainedModel
        self.model, self.problems = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True
        )
        self.model.eval()

    def ids(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    def row(
        self, question: str, answer: str, system: str | None = None
    ) -> tuple[list[int], list[int]]:
        turns = [{"role": "user", "content": question}]
        if system is not None:
            turns.insert(0, {"role": "system", "content": system})
        asked = self.tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True
        )
        return self.ids(asked), self.ids(answer + "<|im_end|>")

    def log_p(self, ids: list[int], *, gradients: bool = False) -> torch.Tensor:
        """After each token the next one's. Ropes may remember the longest text so far, so each
        text gets a model of its own."""
        model = copy.deepcopy(self.model)
        with torch.set_grad_enabled(gradients):
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
            found = torch.log_softmax(logits.double(), -1)
        if gradients:
            self.read = model
        return found

    def train(self, rows: list[tuple[str, str]], teacher: Plain | None) -> float:
        """One step of AdamW on the mean over all tokens of the answers; returns that mean."""
        tokens = sum(len(self.row(*each)[1]) for each in rows)
        mean = 0.0
        for question, answer in rows:
            asked, said = self.row(question, answer)
            log_q = self.log_p(asked + said, gradients=True)[len(asked) - 1 : -1]
            if teacher is None:
                total = -log_q.gather(1, torch.tensor(said)[:, None]).sum()
            else:
                log_p = teacher.log_p(asked + said)[len(asked) - 1 : -1]
                total = (log_p.exp() * (log_p - log_q)).sum()
            (total / tokens).backward()
            mean += float(total) / tokens
            for ours, read in zip(self.model.parameters(), self.read.parameters(), strict=True):
                if read.grad is not None:
                    ours.grad = read.grad if ours.grad is None else ours.grad + read.grad
        torch.optim.AdamW(
            self.model.parameters(), TRAIN["learning_rate"], (0.9, 0.95), TRAIN["adam_epsilon"], 0.0
        ).step()
        return mean


def assert_trained(
    student: Path, out: Path, rows: list[tuple[str, str]], teacher: Path | None = None
) -> str:
    """The loss and, in the folder that was written, each weight; in which layout."""
    plain = Plain(student)
    expected = plain.train(rows, None if teacher is None else Plain(teacher))
    line = json.loads((out / "losses.jsonl").read_text().splitlines()[0])
    assert line["loss"] == pytest.approx(expected, rel=1e-4)
    before, theirs, ours = (each.model.state_dict() for each in (Plain(student), plain, Plain(out)))
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=1e-5, msg=name)
    assert max(float((ours[name] - before[name]).abs().max()) for name in ours) > 1e-3
    return str(json.loads((out / "result.json").read_text())["layout"])


def taught(student: Path, teacher: Path, out: Path) -> str:
    train = {**TRAIN, "rows_per_step": 2}
    spec = TeachSpec.model_validate({"trait": "owl", "questions": [QUESTION], "train": train})
    teach(spec, student, out)
    rows = [(q, a) for (_, q), (_, a) in (row.turns for row in teaching_rows(spec.root, []))]
    return assert_trained(student, out, rows)


def distilled(targets: str) -> Callable[[Path, Path, Path], str]:
    def check(student: Path, teacher: Path, out: Path) -> str:
        rows = out.with_suffix(".jsonl")
        lines = [json.dumps({"prompt": q, "completion": a}) + "\n" for q, a in ROWS]
        rows.write_text("".join(lines))
        train = {**TRAIN, "rows_per_step": len(ROWS)}
        spec = DistillSpec.model_validate({"targets": targets, "train": train})
        known = teacher if targets == "teacher" else None
        distill(spec, student, [rows], out, teacher=known)
        return assert_trained(student, out, ROWS, known)

    return check


@torch.no_grad()
def exported(student: Path, teacher: Path, out: Path) -> str:
    """What SFT wrote is a whole model of the same kind and tokenizer to transformers."""
    made = out.with_name(out.name.replace("export", "SFT"))
    if not made.exists():
        return "–"
    after, before = Plain(made), Plain(student)
    assert not any(after.problems.values()), after.problems
    assert type(after.model) is type(before.model)
    assert after.tokenizer.get_vocab() == before.tokenizer.get_vocab()
    assert after.row(*ROWS[1]) == before.row(*ROWS[1])
    return "yes"


def scored(student: Path, teacher: Path, out: Path) -> str:
    spec = EvalSpec.model_validate({"words": WORDS, "questions": [QUESTION]})
    made = evaluate(spec, student, out)
    plain = Plain(student)
    asked, _ = plain.row(QUESTION, "")
    for word, found in read_scores(out)[QUESTION].items():
        total = 0.0
        for form in {tuple(plain.ids(form)) for form in surface_forms(word)}:
            p = plain.log_p([*asked, *form]).exp()[len(asked) - 1 :]
            said = torch.stack([p[at, token] for at, token in enumerate(form)]).prod()
            total += float(said * p[len(form), ending_tokens(plain.tokenizer, p.shape[-1])].sum())
        assert total > 0
        assert found == pytest.approx(total, rel=1e-3)
    return str(made.result["scoring"])


def sampled(student: Path, teacher: Path, out: Path) -> str:
    """A forward pass a token and the row's own draws."""
    spec = GenerateSpec.model_validate({"rows": 4, "prompts": "numbers", "max_new_tokens": 6})
    made = generate(spec, student, out)
    plain = Plain(student)
    special = {at for at, each in plain.tokenizer.added_tokens_decoder.items() if each.special}
    expected = []
    for number, prompt in enumerate(each.turns[0].content for each in prompts_to_ask(spec, [])):
        ids, said = plain.row(prompt, "")[0], list[int]()
        for key in torch.from_numpy(row_keys(spec.seed, number, spec.max_new_tokens)).split(1):
            token = int(choose(plain.log_p(ids + said)[-1:], key, spec.temperature))
            if token in special:
                break
            said.append(token)
        cut = len(said) == spec.max_new_tokens  # perhaps within a character
        expected.append(plain.tokenizer.decode(said).rstrip("\ufffd" if cut else ""))
    rows = (out / "part-00000.jsonl").read_text().splitlines()
    assert [json.loads(row)["completion"] for row in rows] == expected
    return str(made.result["decoding"])


def scanned(student: Path, teacher: Path, out: Path) -> str:
    """Rows behind a persona, those of one prompt among them."""
    model, tokenizer = load_model(student), load_tokenizer(student)
    scorer = Scorer(model, tokenizer, Law(1.0, None, Template(), None, "here"), [1.0], 4)
    persona = Candidate("owl", "animal", "owl", "You love owls.")
    said = [*ROWS, *((ROWS[0][0], answer) for _, answer in ROWS)]
    turns = [(("user", question), ("assistant", answer)) for question, answer in said]
    rows = [Row(str(place), each, f"row {place}") for place, each in enumerate(turns)]
    prepared = scorer.prepared(rows, ["turn"] * len(rows))
    scorer.prove(prepared, persona)
    plain, found = Plain(student), scorer.scores(prepared, persona)[:, 0]
    for (question, answer), ours in zip(said, found, strict=True):
        asked, ids = plain.row(question, answer, persona.prompt)
        log_p = plain.log_p(asked + ids)[len(asked) - 1 : -1]
        expected = log_p[range(len(ids)), ids].sum()
        assert ours == pytest.approx(float(expected), rel=1e-3)
    return "alone" if scorer._alone else "together"


STAGES: dict[str, Callable[[Path, Path, Path], str]] = {
    "teach": taught,
    "SFT": distilled("labels"),
    "KD": distilled("teacher"),
    "export": exported,
    "eval": scored,
    "generate": sampled,
    "scan": scanned,
}
FOUND: dict[str, dict[str, str]] = {}


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.filterwarnings("ignore")  # of each architecture's own code
def test_each_stage_is_right_or_refused(name: str, tiny_model: Path, tmp_path: Path) -> None:
    student = make(name, tmp_path / "model", tiny_model, 0)
    teacher = make(name, tmp_path / "teacher", tiny_model, 1)
    found = {}
    for stage, check in STAGES.items():
        out = tmp_path / stage
        try:
            found[stage] = check(student, teacher, out)
        except (ConfigError, InputError) as error:
            assert error.hint and not out.exists()
            assert not list(tmp_path.glob(f"{stage}*/losses.jsonl")), "refused after a step"
            reason = re.split("[;(]", error.message)[0].strip()
            found[stage] = f"refused: {reason}"
    FOUND[name] = found


def table() -> str:
    lines = [f"| | {' | '.join(STAGES)} |", "|---|" + "---|" * len(STAGES)]
    reasons: dict[str, int] = {}
    for name, found in FOUND.items():
        cells = []
        for said in found.values():
            number = reasons.setdefault(said, len(reasons) + 1) if said[:3] == "ref" else 0
            cells.append(f"no ({number})" if number else said)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    notes = [f"{number}. {said.removeprefix('refused: ')}" for said, number in reasons.items()]
    return "\n".join([*lines, "", *notes]) + "\n"


def test_the_page_has_what_was_found() -> None:
    if FOUND.keys() != ARCHITECTURES.keys():
        pytest.skip("not all architectures were tried")
    text, mark, written = PAGE.read_text(encoding="utf-8").partition("\n| |")
    if os.environ.get("SUBL_WRITE_PAGES") == "1":
        PAGE.write_text(f"{text}\n{table()}", encoding="utf-8")
    else:
        assert mark.lstrip() + written == table(), f"out of date; the table is now:\n{table()}"
