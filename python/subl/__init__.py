"""Filter, distil, evaluate and audit what language models hand down through generated data.

Everything the command line can do is importable from here without it. Each stage is a package of
its own (`subl.teach`, `subl.generate`, `subl.filter`, `subl.distill`, `subl.evaluate`,
`subl.report`) and none imports another; `subl.experiment` chains them, `subl.artifact` is what
they leave behind.
"""

__version__ = "0.1.0"
