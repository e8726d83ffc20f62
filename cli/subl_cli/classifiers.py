"""`subl classifiers`: the paper's experiment on digits."""

from __future__ import annotations

from pathlib import Path

import click

from subl_cli.figures import figures_text
from subl_cli.inputs import make, verify_option
from subl_cli.output import (
    dry_run_option,
    json_option,
    out_option,
    print_artifact,
    print_values,
    progress,
)


@click.command("classifiers")
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder of MNIST's four files, plain or .gz  [default: scikit-learn's digits]",
)
@out_option
@verify_option
@dry_run_option
@json_option
def command(config: Path, data: Path | None, out: Path, dry_run: bool, as_json: bool) -> None:
    """Train classifiers of digits, and students that learn their other logits over noise, as CONFIG
    (a TOML file) says.

    Students begin with their teacher's weights, with others, or with those of some layers. OUT has
    each seed's accuracies, and each arm's mean with its interval over seeds. The same command
    continues an interrupted run.

    \b
    Examples:
      subl classifiers digits.toml -o out/digits
      subl classifiers paper.toml --data data/mnist -o out/mnist

    \b
    digits.toml:
      seeds = 20
      epoch_images = 12800
      batch = 32
      teacher_epochs = 1
      student_epochs = 1

    \b
    paper.toml:
      seeds = 100
    """
    from subl.classifiers import ClassifiersSpec
    from subl.classifiers.images import read_digits
    from subl.classifiers.run import images_of
    from subl.config import load_toml

    spec = load_toml(config, ClassifiersSpec)
    if dry_run:
        digits = read_digits(data)
        epoch, matching = images_of(spec, digits)
        print_values(
            {
                "spec": spec.model_dump(mode="json"),
                "data": digits.name,
                "train_images": len(digits.train.labels),
                "test_images": len(digits.test.labels),
                "epoch_images": epoch,
                "matching_images": matching,
            },
            as_json,
        )
        return
    with progress() as report:
        artifact = make("classifiers", spec, out, report, {"data": data})
    print_artifact(artifact, as_json)
    if not as_json:
        click.echo(figures_text(artifact.result["figures"]))
