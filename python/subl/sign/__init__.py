"""Who says that an artifact is what it is: keys, signatures beside artifacts, and policies.

    keys      key pairs in files (Ed25519 or P-256), and the id of a key
    envelope  a DSSE envelope over an artifact's in-toto statement: `statement.dsse.json`
    contents  what lies in a folder that no digest covers
    policy    a TOML file: whose keys may sign what, and what a chain must be made of
    verify    a chain back to its origins: every signature, every digest
    chain     what the policy asks of the chain as a whole: its models, its rules
    bundle    OpenSSF Model Signing v1.0, for models and data sets that leave subl

The one idea: nothing in a folder says whom to trust. Keys, who may use them and how many have to
come from the policy, which is the reader's own file; what a signature was made over is looked at
once the signature holds, and not before.
"""
