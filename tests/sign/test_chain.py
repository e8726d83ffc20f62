"""What a policy asks of a whole chain: its stages, its models, and the rules on every row's way."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("securesystemslib")

from subl.artifact import input_digest
from subl.errors import ConfigError, InputError
from subl.sign.policy import load_policy

from .chains import RULES, Chain, chain_in
from .test_verify import refused

OTHER = "0" * 64


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return chain_in(tmp_path)


def test_a_stage_that_is_wanted_is_there(chain: Chain) -> None:
    assert refused(chain, chain.policy(stages=["distill", "judge"])) == [
        "student has no judge in its chain, which the policy wants"
    ]


def test_what_a_chain_starts_from_is_listed(chain: Chain) -> None:
    digest = input_digest(chain.base)
    assert refused(chain, chain.policy(models={"another": OTHER})) == [
        f"base was made by no stage, and the policy does not list it: sha256 {digest}"
    ]
    assert refused(chain, chain.policy(files={})) == [
        "prompts.jsonl was made by no stage, and the policy does not list it: sha256 "
        f"{input_digest(chain.folder / 'prompts.jsonl')}"
    ]
    files = {"prompts": input_digest(chain.folder / "prompts.jsonl"), "base": digest}
    assert refused(chain, chain.policy(models={}, files=files)) == [
        "base is used as a model, and the policy lists it among the files"
    ]
    models = {"base": digest, "prompts": files["prompts"]}
    assert refused(chain, chain.policy(models=models, files={})) == [
        "prompts.jsonl is used as a file, and the policy lists it among the models"
    ]


def test_a_model_that_a_stage_made_may_be_where_a_chain_starts(chain: Chain) -> None:
    """It needs no signature: the policy has its digest."""
    teacher = chain.make("teach", "teacher", {"model": chain.base})
    rows = chain.make("generate", "more", {"model": teacher})
    kept = chain.filter("more-kept", rows)
    chain.make("distill", "second", {"model": chain.base, "rows-0": kept})
    chain.sign(rows, kept, chain.second)
    assert refused(chain, None, "second")[0].startswith("teacher has no statement.dsse.json")
    models = {"base": input_digest(chain.base), "teacher": input_digest(teacher)}
    assert refused(chain, chain.policy(models=models), "second") == []


def test_rows_pass_all_rules_on_every_way(chain: Chain) -> None:
    more = chain.make("generate", "more", {"model": chain.base}, text="more")
    mixed = chain.make("draw", "mixed", {"rows-0": chain.kept, "rows-1": more})
    student = chain.make("distill", "second", {"model": chain.base, "rows-0": mixed})
    chain.sign(more, mixed, student)
    assert refused(chain, None, "second") == ["more has rows that were not filtered by rules.toml"]
    for each in ("mixed", "more"):
        assert refused(chain, chain.policy(stages=[]), each) == [
            "more has rows that were not filtered by rules.toml"
        ]
    assert refused(chain, chain.policy(stages=[]), "kept") == []


def test_a_filter_with_more_rules_does_and_with_others_does_not(chain: Chain) -> None:
    longer = RULES + "[[rule]]\nname = 'short'\nkind = 'length'\nmax_chars = 90\n"
    for name, rules, said in [
        ("stricter", longer, []),
        ("laxer", RULES.replace("999", "9999"), ["rows"]),
        ("tagging", RULES + "action = 'tag'\n", ["rows"]),
    ]:
        kept = chain.filter(name, chain.rows, rules=rules)
        chain.sign(kept)
        found = refused(chain, chain.policy(stages=[]), name)
        assert [each.split(" has rows that were not")[0] for each in found] == said
    two = chain.filter("twice", chain.kept, rules=longer)
    chain.sign(two)
    (chain.folder / "longer.toml").write_text(longer)
    both = chain.policy(stages=[], rules=["rules.toml", "longer.toml"])
    assert refused(chain, both, "twice") == []
    assert refused(chain, both, "kept") == ["rows has rows that were not filtered by longer.toml"]


def test_rows_that_nobody_sampled_are_listed_and_filtered(chain: Chain) -> None:
    file = chain.folder / "bought.jsonl"
    file.write_text('{"completion": "1"}\n')
    kept = chain.filter("bought-kept", file)
    chain.sign(kept)
    name = kept.name
    assert refused(chain, chain.policy(stages=[]), name) == [
        f"bought.jsonl was made by no stage, and the policy does not list it: sha256 "
        f"{input_digest(file)}"
    ]
    assert refused(chain, chain.policy(stages=[], files={"b": input_digest(file)}), name) == []
    student = chain.make("distill", "bought-student", {"model": chain.base, "rows-0": file})
    chain.sign(student)
    policy = chain.policy(stages=[], files={"b": input_digest(file)})
    assert refused(chain, policy, student.name) == [
        "bought.jsonl has rows that were not filtered by rules.toml"
    ]


def test_rows_of_no_model_are_refused(chain: Chain) -> None:
    drawn = chain.make("draw", "random", {"rows-0": chain.kept}, random=True)
    alone = chain.make("draw", "alone", {})
    chain.sign(drawn, alone)
    policy = chain.policy(stages=[], rules=[])
    assert refused(chain, policy, "random") == ["random has rows that are from no model"]
    assert refused(chain, policy, "alone") == ["alone has rows that are from no model"]


def test_a_servers_model_is_listed_by_its_name(chain: Chain) -> None:
    backend = {"kind": "http", "model": "big-1"}
    rows = chain.make("generate", "served", {}, backend=backend)
    chain.sign(rows)
    policy = chain.policy(stages=[], rules=[])
    assert refused(chain, policy, "served") == [
        "served has rows of a server's model that the policy does not list: 'big-1'"
    ]
    assert refused(chain, chain.policy(stages=[], rules=[], servers=["big-1"]), "served") == []


def test_an_evaluation_leads_to_the_rows_that_its_model_learned_from(chain: Chain) -> None:
    """A swapped student is refused where its scores are checked."""
    student = chain.make("distill", "raw", {"model": chain.base, "rows-0": chain.rows})
    scores = chain.make("eval", "scores", {"model": student})
    chain.sign(student, scores)
    assert refused(chain, None, "scores") == [
        "scores has no filter in its chain, which the policy wants",
        "rows has rows that were not filtered by rules.toml",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[signer]]\nkeys = ["labb"]\n', "names the key labb, which `\\[keys\\]` does not"),
        ('[[signer]]\nkeys = ["lab"]\nthreshold = 2\n', "threshold 2 of 1 keys is never met"),
        (
            '[[signer]]\nkeys = ["lab"]\nkinds = ["oms", "filtre"]\n',
            "kinds of signer 1: no stage is called 'filtre'; did you mean `filter`",
        ),
        ('[[signer]]\nkeys = ["lab", "lab"]\nthreshold = 2\n', "a key is named twice"),
        ('[[signer]]\nkeys = ["lab"]\nkind = ["filter"]\n', "unknown key `kind` in signer 1"),
        ("", "missing key `signer`"),
    ],
)
def test_a_policy_that_says_something_else_is_refused(chain: Chain, text: str, said: str) -> None:
    file = chain.policy(text or "# nobody\n")
    with pytest.raises(ConfigError, match=said):
        load_policy(file)


def test_a_chain_asks_for_stages_that_there_are(chain: Chain) -> None:
    load_policy(chain.policy(stages=["merge", "filter"]))
    with pytest.raises(ConfigError, match=r"chain\.stages: no stage is called 'oms'"):
        load_policy(chain.policy(stages=["oms"]))


def test_keys_and_rules_of_a_policy_are_found_beside_it(chain: Chain) -> None:
    policy = load_policy(chain.policy(rules=["rules.toml", "paper-numbers"]))
    assert policy.rules["rules.toml"][0]["max_value"] == 999
    assert policy.rules["paper-numbers"]
    with pytest.raises(InputError, match="no file laws"):
        load_policy(chain.policy(rules=["laws"]))
    (chain.folder / "keys" / "partner.pub").write_bytes(
        chain.key("lab").with_name("lab.pub").read_bytes()
    )
    with pytest.raises(ConfigError, match="lab and partner are one key"):
        load_policy(chain.policy())
    (chain.folder / "keys" / "partner.pub").unlink()
    with pytest.raises(InputError, match=r"policy\.toml: keys\.partner: cannot read ") as gone:
        load_policy(chain.folder / "policy.toml")
    assert "key new" not in str(gone.value.hint)
