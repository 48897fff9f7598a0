"""`sfumato fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .by_method import command_by_method
from .shared import (
    DataOption,
    DeviceOption,
    InstancesOption,
    JsonOption,
    PatientOption,
    PickleOption,
    ResampleOption,
    SeedOption,
    SplitsOption,
    ThreadsOption,
    open_data,
    parse_settings,
    say,
    tell_fitted,
    use_threads,
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("fit", cls=command_by_method({"text_guided": ".text.fit"}))(fit)


def fit(
    method: Annotated[
        str,
        typer.Argument(
            help="Name of the method, see `sfumato methods`; `text_guided` has a --help of its own."
        ),
    ],
    segmenter: Annotated[
        str,
        typer.Option(
            help="A folder of `sfumato train`, a MONAI bundle, an nnU-Net results folder, a TorchScript file, or "
            "module:function."
        ),
    ],
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", help="Folder for the fitted method.")],
    fit_on: Annotated[
        str, typer.Option(help="calibration (cases the segmenter has not seen) or train (warns).")
    ] = "calibration",
    target_risk: Annotated[
        float | None,
        typer.Option(help="Mean 1 - Dice wanted among accepted cases; 0.9 of the mean by default."),
    ] = None,
    target_voxel_risk: Annotated[float, typer.Option(help="Error rate wanted among accepted voxels.")] = 0.01,
    members: Annotated[
        list[str] | None,
        typer.Option("--members", help="A further network, for deep_ensemble; may be repeated."),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of the method as name=value; may be repeated."),
    ] = None,
    classes: Annotated[
        str, typer.Option(help="module:function only: class names, background first, by commas.")
    ] = "",
    channels: Annotated[
        int | None, typer.Option(help="module:function and TorchScript only: image channels; 1 if not given.")
    ] = None,
    spatial_dims: Annotated[
        int | None, typer.Option(help="module:function and TorchScript only: 2 or 3.")
    ] = None,
    divisor: Annotated[
        int | None,
        typer.Option(
            help="module:function and TorchScript only: what sides must divide by; tried out if not given."
        ),
    ] = None,
    window: Annotated[str, typer.Option(help="module:function and TorchScript only: largest window.")] = "",
    weights: Annotated[
        Path | None, typer.Option(help="module:function only: a .safetensors file, or a checkpoint.")
    ] = None,
    taps: Annotated[
        str, typer.Option(help="auto, segwithu (a five-level DynUNet), or feature names by commas.")
    ] = "auto",
    prompt_level: Annotated[
        str | None,
        typer.Option(
            "--prompt-level",
            help="For a network that reads sentences: which, where there are several levels.",
        ),
    ] = None,
    link: Annotated[
        str, typer.Option(help="module:function and TorchScript only: softmax (if not given) or sigmoid.")
    ] = "",
    instances: InstancesOption = False,
    resample: ResampleOption = False,
    splits: SplitsOption = None,
    patient: PatientOption = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    threads: ThreadsOption = 0,
    allow_pickle: PickleOption = False,
    json_output: JsonOption = False,
) -> None:
    """Fit an uncertainty method on a frozen segmenter.

    The score is learned on two thirds of the calibration patients and calibrated on the others.

    Example: sfumato fit perturbation_head --segmenter runs/hippo --data DATA --out runs/hippo-swu
    """
    from ..datasets.splits import PATIENT_PATTERN
    from ..runs.fit import FitOptions, fit_method, recorded_splits
    from ..runs.text.fit import TextFitOptions, fit_texts
    from ..runs.text.model import reads_sentences
    from ..segmenters.presets import TAP_PRESETS
    from ..storage import load_segmenter
    from .text.fit import next_told
    from .train import _sides

    use_threads(threads)
    network = load_segmenter(
        segmenter,
        classes=tuple(c.strip() for c in classes.split(",") if c.strip()),
        channels=channels,
        spatial_dims=spatial_dims,
        divisor=divisor,
        window=_sides(window, int, "--window"),
        weights=weights,
        taps=taps if taps in ("auto", *TAP_PRESETS) else tuple(taps.split(",")),
        link=link,
        allow_pickle=allow_pickle,
    )
    options = FitOptions(fit_on, target_risk, target_voxel_risk, instances, resample, seed, device)  # type: ignore[arg-type]
    settings, pattern = parse_settings(setting or []), patient or PATIENT_PATTERN
    networks = [load_segmenter(member, allow_pickle=allow_pickle) for member in members or []]
    if reads_sentences(network) or prompt_level is not None:
        told = TextFitOptions(method, settings, prompt_level, options)
        record = fit_texts(Path(segmenter), data, out, told, splits, pattern, say, network, networks)
        following = next_told(out, data, prompt_level)
    else:
        dataset, chosen = open_data(data, splits, patient)
        chosen = chosen or recorded_splits(Path(segmenter), dataset)
        record = fit_method(method, network, data, out, settings, options, chosen, pattern, say, networks)
        following = f"sfumato evaluate {out} --data {data} --split test"
    tell_fitted(record, out, following, json_output)
