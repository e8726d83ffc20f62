"""A model on the disk: a Hugging Face folder of safetensors, a tokenizer and a chat template.

`source` finds or makes such a folder (no torch), `load` brings it into memory, `chat` turns rows
into token ids. Every stage that touches a model goes through here.
"""
