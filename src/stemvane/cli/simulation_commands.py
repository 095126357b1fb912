"""Commands that simulate: simulate, structures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stemvane.cli.options import drop_missing, read_energy, read_numbers, read_pair, read_zone_axis
from stemvane.cli.tables import print_table, progress_bars, structures_table
from stemvane.errors import ConfigError

__all__ = ["simulate", "structures"]


def simulate(
    output: Annotated[Path, typer.Option("-o", "--output", help="data set to write, NAME.zarr")],
    specimen: Annotated[
        str | None,
        typer.Argument(
            help="a name, such as graphene-Si-C3, that stemvane structures lists, or a file (.cif, .xyz, .extxyz)"
        ),
    ] = None,
    structure: Annotated[str | None, typer.Option(help="the same as an option")] = None,
    zone_axis: Annotated[
        str | None, typer.Option(help="direction of a crystal's lattice along the beam, such as 110 or 1,-1,0")
    ] = None,
    thickness: Annotated[
        float | None, typer.Option(help="thickness of a crystal, Å, rounded to whole periods; one period if left out")
    ] = None,
    twist: Annotated[
        float | None, typer.Option(help="second layer of a sheet, rotated by so many degrees against the first")
    ] = None,
    energy: Annotated[str | None, typer.Option(help="beam energy, such as 60keV")] = None,
    semiangle: Annotated[float | None, typer.Option(help="convergence semi-angle, mrad")] = None,
    defocus: Annotated[float | None, typer.Option(help="Å, positive for underfocus")] = None,
    cs: Annotated[float | None, typer.Option(help="spherical aberration, Å")] = None,
    scan: Annotated[str | None, typer.Option(help="probe positions YxX, such as 64x64")] = None,
    scan_step: Annotated[str | None, typer.Option(help="Å, one number or YxX")] = None,
    detector: Annotated[str | None, typer.Option(help="detector pixels YxX, such as 64x64")] = None,
    detector_kind: Annotated[
        str | None,
        typer.Option(help="record as a typical detector does: counting, analogue or scintillator; needs a dose"),
    ] = None,
    outer: Annotated[float | None, typer.Option(help="mrad from the axis to the detector's edge")] = None,
    source_size: Annotated[float | None, typer.Option(help="full width at half maximum of the source, Å")] = None,
    dose: Annotated[float | None, typer.Option(help="electrons per pattern; noiseless if left out")] = None,
    phonons: Annotated[float | None, typer.Option(help="rms thermal displacement along each axis, Å")] = None,
    n_phonons: Annotated[int | None, typer.Option(help="frozen-phonon configurations")] = None,
    method: Annotated[
        str | None, typer.Option(help="auto, single-slice or multislice; auto takes one slice where it serves")
    ] = None,
    defects: Annotated[
        str | None, typer.Option(help="defects at random places, kind=number, such as N=2,Si-C3=1 or V_S=2")
    ] = None,
    concentration: Annotated[
        str | None, typer.Option(help="the same as shares of the lattice sites, such as N=0.01,vacancy=0.002")
    ] = None,
    placement_seed: Annotated[int | None, typer.Option(help="seed of their places; --seed if left out")] = None,
    seed: Annotated[int | None, typer.Option(help="random seed")] = None,
    settings: Annotated[
        Path | None, typer.Option("--config", help="TOML file of settings, such as a run's config.toml")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace what is there")] = False,
) -> None:
    """Simulate a 4D-STEM scan and write it as a Zarr data set that carries its atoms and defects."""
    from stemvane.config import Config
    from stemvane.io.files import place_for_dataset

    if (specimen is None) == (structure is None):
        raise ConfigError("give one specimen: a name that stemvane structures lists, or a file (.cif, .xyz, .extxyz)")
    config = Config.from_toml(settings) if settings else Config()
    shape = read_pair(scan, int, "--scan") if scan else config.simulation.scan_shape
    step = read_pair(scan_step, float, "--scan-step") if scan_step else None
    before = config.simulation
    if step is None and scan:
        step = tuple(e / n for e, n in zip(before.scan_extent, before.scan_shape, strict=True))  # type: ignore[assignment]
    choices = {
        "structure": specimen or structure,
        "zone_axis": read_zone_axis(zone_axis),
        "thickness": thickness,
        "twist": twist,
        "energy": read_energy(energy),
        "convergence_semiangle": semiangle,
        "defocus": defocus,
        "cs": cs,
        "scan_shape": shape,
        "scan_extent": None if step is None else (shape[0] * step[0], shape[1] * step[1]),
        "detector_shape": read_pair(detector, int, "--detector") if detector else None,
        "detector": detector_kind,
        "detector_outer": outer,
        "source_size": source_size,
        "dose": dose,
        "phonon_sigma": phonons,
        "n_phonons": n_phonons,
        "method": method,
        "defects": read_numbers(defects, int, "--defects"),
        "concentrations": read_numbers(concentration, float, "--concentration"),
        "placement_seed": placement_seed,
        "seed": seed,
    }
    config = config.replace(simulation=drop_missing(choices))
    inputs = [*config.simulation.files(), *([settings] if settings else [])]
    place_for_dataset(output, overwrite=overwrite, inputs=inputs)
    from stemvane.io.files import save_dataset
    from stemvane.simulation.simulate import simulate as run_simulation

    with progress_bars() as report:
        dataset = run_simulation(config.simulation, progress=lambda done, n: report("simulate", done, n, ""))
        path = save_dataset(dataset, output, overwrite=overwrite, progress=lambda done, n: report("write", done, n, ""))
    typer.echo(f"{path}: {' x '.join(map(str, dataset.shape))}, {dataset.data.dtype}")
    typer.echo(f"{dataset.metadata['method']}: {dataset.metadata['method_reason']}")


def structures(
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="picture of all of them to write, .png or .svg")
    ] = None,
) -> None:
    """List the specimens that can be simulated, with their bond lengths beside published ones."""
    if output is not None:
        from stemvane.figures.saving import save_structures_figure

        save_structures_figure(output)
    print_table(structures_table())
    if output is not None:
        typer.echo(output)
