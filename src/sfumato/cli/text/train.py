"""`sfumato train --method text_guided`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.main

from ..shared import (
    DeviceOption,
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
    from ...methods.text_guided.config import TextGuidedConfig

READ_OFF = ("channels", "classes", "profile")
"""Settings of the network that the data or another option decide."""


def alone() -> Any:
    """The command by itself, for `sfumato train --method text_guided`."""
    app = typer.Typer(add_completion=False)
    app.command("train")(train)
    return typer.main.get_command(app)


def train(
    data: Annotated[
        Path,
        typer.Option("--data", help="Data set folder with sentences, or a table of images and sentences."),
    ],
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the trained segmenter; resumed if it exists.")
    ],
    prompt_level: Annotated[
        str | None, typer.Option("--prompt-level", help="Of detail, where there are several, such as p6.")
    ] = None,
    profile: Annotated[
        str, typer.Option(help="fixed, or as the authors have it: released or paper.")
    ] = "fixed",
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of the network, such as mixer=linear; may be repeated."),
    ] = None,
    loss: Annotated[str, typer.Option(help="seu or cross_entropy.")] = "seu",
    side: Annotated[int, typer.Option(help="Images are scaled to this many pixels a side.")] = 224,
    epochs: Annotated[int, typer.Option(help="Passes over the training cases at most.")] = 40,
    patience: Annotated[
        int, typer.Option(help="Epochs without a better score before stopping; 0 never.")
    ] = 20,
    batch_size: Annotated[int, typer.Option(help="Images per step.")] = 16,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 3e-4,
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    augment: Annotated[float, typer.Option(help="Strength of the augmentation; 0 turns it off.")] = 1.0,
    mirror: Annotated[
        bool,
        typer.Option(
            "--mirror", help="Show pictures mirrored too, with left and right exchanged in sentences."
        ),
    ] = False,
    image_dropout: Annotated[
        float, typer.Option(help="Share of images that noise takes the place of, so that words are read.")
    ] = 0.0,
    image_rate: Annotated[
        float, typer.Option(help="Share of the learning rate for the image encoder; 0 keeps it as it is.")
    ] = 1.0,
    classes: Annotated[str, typer.Option(help="Names of the foreground classes, separated by commas.")] = "",
    validation: Annotated[
        float, typer.Option(help="Share of training patients that choose the epoch.")
    ] = 0.2,
    resample: ResampleOption = False,
    splits: SplitsOption = None,
    patient: PatientOption = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    threads: ThreadsOption = 0,
    json_output: JsonOption = False,
) -> None:
    """Train a network that segments what a sentence beside the image describes.

    A killed run goes on where it stopped when the same command is given again.

    Example: sfumato train --method text_guided --data DATA --prompt-level p6 --out runs/text
    """
    from ...datasets.splits import PATIENT_PATTERN
    from ...methods.text_guided.training import TextTraining
    from ...runs.text.train import TextTrainConfig, train_texts
    from ...training.config import TrainerConfig

    use_threads(threads)
    trainer = TrainerConfig(
        epochs,
        learning_rate,
        final_learning_rate=min(1e-6, learning_rate),
        clip=1.0,
        precision=precision,  # type: ignore[arg-type]
        patience=patience,
        seed=seed,
        device=device,
    )
    config = TextTrainConfig(
        _network(profile, parse_settings(setting or [])),
        TextTraining(side, batch_size, augment, image_dropout, image_rate, loss, trainer),  # type: ignore[arg-type]
        prompt_level,
        tuple(c.strip() for c in classes.split(",") if c.strip()),
        validation,
        mirror,
        resample,
    )
    result = train_texts(data, out, config, splits, patient or PATIENT_PATTERN, say)
    for problem in result["problems"]:
        say(f"left out: {problem}")
    if json_output:
        emit(result)
    else:
        scores = ", ".join(f"{k} {v:.4f}" for k, v in result["validation"].items())
        say(f"saved to {out}" + (f"; validation {scores}" if scores else ""))
        level = f" --prompt-level {prompt_level}" if prompt_level else ""
        say(f"next: sfumato fit text_guided --segmenter {out} --data {data}{level} --out {out}-fit")
    if result["problems"]:
        raise typer.Exit(1)


def _network(profile: str, settings: dict[str, Any]) -> TextGuidedConfig:
    from ...errors import ConfigError, UnknownNameError
    from ...methods.text_guided.config import TextGuidedConfig
    from ...storage import config_from_plain

    decided = [name for name in READ_OFF if name in settings]
    if decided:
        raise ConfigError(f"--set {decided[0]}: the data or --profile decide it, expected other settings.")
    profiles = {
        "fixed": TextGuidedConfig(),
        "released": TextGuidedConfig.released(),
        "paper": TextGuidedConfig.paper(),
    }
    if profile not in profiles:
        raise UnknownNameError("profile", profile, profiles)
    return config_from_plain(TextGuidedConfig, asdict(profiles[profile]) | settings)
