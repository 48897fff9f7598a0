"""`sfumato train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .by_method import command_by_option
from .shared import (
    DataOption,
    DeviceOption,
    InstancesOption,
    JsonOption,
    PatientOption,
    ResampleOption,
    SeedOption,
    SplitsOption,
    ThreadsOption,
    emit,
    parse_settings,
    say,
    use_threads,
)

if TYPE_CHECKING:
    from ..training.duo import DuoConfig


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train", cls=command_by_option("--method", {"text_guided": ".text.train"}))(train)


def train(
    data: DataOption,
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the trained segmenter; resumed if it exists.")
    ],
    preset: Annotated[
        str, typer.Option("--preset", help="resunet2d, resunet3d, dynunet2d or dynunet3d.")
    ] = "resunet3d",
    epochs: Annotated[int | None, typer.Option(help="Passes over the training cases.")] = None,
    patch: Annotated[
        str, typer.Option(help="Training patch, such as 64x128x128; the median grid by default.")
    ] = "",
    window: Annotated[
        str, typer.Option(help="Largest window at prediction; the largest grid by default.")
    ] = "",
    batch_size: Annotated[int, typer.Option(help="Patches per step.")] = 2,
    samples_per_epoch: Annotated[int, typer.Option(help="Patches per epoch; 0 draws every sample once.")] = 0,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    optimiser: Annotated[str, typer.Option(help="adamw or sgd.")] = "adamw",
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    classes: Annotated[str, typer.Option(help="Names of the foreground classes, separated by commas.")] = "",
    mirror: Annotated[str, typer.Option(help="auto, none, or grid axes separated by commas.")] = "auto",
    augment: Annotated[float, typer.Option(help="Strength of the augmentation; 0 turns it off.")] = 1.0,
    validation: Annotated[
        float, typer.Option(help="Share of training patients that choose the epoch.")
    ] = 0.1,
    sigmoid: Annotated[
        bool, typer.Option("--sigmoid", help="One foreground logit instead of a softmax.")
    ] = False,
    spacing: Annotated[str, typer.Option(help="Resample volumes to these millimetres, such as 1x1x1.")] = "",
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="An argument of the network, such as widths=[8,16,32,48]; may be repeated."
        ),
    ] = None,
    strategy: Annotated[
        str, typer.Option(help="plain, or duo: weigh classes and correct labels while training.")
    ] = "plain",
    duo: Annotated[
        list[str] | None,
        typer.Option("--duo", help="A setting of the strategy duo, such as alpha=1; may be repeated."),
    ] = None,
    instances: InstancesOption = False,
    resample: ResampleOption = False,
    splits: SplitsOption = None,
    patient: PatientOption = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    threads: ThreadsOption = 0,
    json_output: JsonOption = False,
) -> None:
    """Train a segmentation network on the training split.

    With `--method text_guided` one that reads a sentence beside the image; that has a --help of its own.

    A killed run goes on where it stopped when the same command is given again.

    Example: sfumato train --data DATA --preset resunet3d --out runs/hippo
    """
    from ..datasets.splits import PATIENT_PATTERN
    from ..runs.train import train_segmenter
    from ..runs.train_plan import TrainConfig
    from ..segmenters.spec import Preprocessing
    from ..training.loop import TrainerConfig

    use_threads(threads)
    given = {"epochs": epochs, "learning_rate": learning_rate}
    trainer = TrainerConfig(
        **{k: v for k, v in given.items() if v is not None},  # type: ignore[arg-type]
        optimiser=optimiser,  # type: ignore[arg-type]
        precision=precision,  # type: ignore[arg-type]
        device=device,
        seed=seed,
    )
    config = TrainConfig(
        preset,
        arguments={
            k: tuple(v) if isinstance(v, list) else v for k, v in parse_settings(setting or []).items()
        },
        classes=tuple(c.strip() for c in classes.split(",") if c.strip()),
        patch=_sides(patch, int, "--patch"),
        window=_sides(window, int, "--window"),
        batch_size=batch_size,
        augment=augment,
        mirror=None if mirror == "auto" else () if mirror == "none" else _sides(mirror, int, "--mirror", ","),
        validation=validation,
        samples_per_epoch=samples_per_epoch,
        instances=instances,
        sigmoid=sigmoid,
        resample=resample,
        preprocessing=Preprocessing(spacing=_sides(spacing, float, "--spacing") or None),
        trainer=trainer,
        duo=_duo(strategy, duo or []),
    )
    result = train_segmenter(data, out, config, splits, patient or PATIENT_PATTERN)
    for problem in result["problems"]:
        say(f"left out: {problem}")
    if json_output:
        emit(result)
    else:
        scores = ", ".join(f"{k} {v:.4f}" for k, v in result["validation"].items())
        say(f"saved to {out}" + (f"; validation {scores}" if scores else ""))
        say(f"next: sfumato fit perturbation_head --segmenter {out} --data {data} --out {out}-swu")
    if result["problems"]:
        raise typer.Exit(1)


def _duo(strategy: str, pairs: list[str]) -> DuoConfig | None:
    from ..errors import ConfigError, UnknownNameError
    from ..training.duo import DuoConfig

    if strategy not in ("plain", "duo"):
        raise UnknownNameError("strategy", strategy, ("plain", "duo"))
    if strategy == "plain" and pairs:
        raise ConfigError(f"--duo {pairs[0]!r} without the strategy it is for; add --strategy duo.")
    return DuoConfig.from_settings(parse_settings(pairs, "--duo")) if strategy == "duo" else None


def _sides(text: str, kind: type, option: str, separator: str = "x") -> tuple:
    from ..errors import ConfigError

    try:
        return tuple(kind(side) for side in text.split(separator)) if text else ()
    except ValueError as error:
        raise ConfigError(f"{option} {text!r}, expected numbers separated by {separator!r}.") from error
