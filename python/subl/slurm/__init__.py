"""Commands as jobs of a Slurm cluster.

A job's script is text that a person can read, and runs the very command that they would type.
Nothing runs between calls: what is known of jobs is in a folder beside what they make (`book`), and
Slurm is asked once a call. Done is what has its statement, and nothing that Slurm says.
"""
