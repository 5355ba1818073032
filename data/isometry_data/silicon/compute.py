"""Computes the silicon data set with Quantum ESPRESSO: structures in, labelled frames and references out.

    python data/isometry_data/silicon/compute.py --work DIR --jobs N

runs everything that DIR does not hold yet and writes the files beside this script. Every finished calculation has its
own file in DIR/results, put there in one step, so a stopped run goes on where it was. A calculation that fails or whose
self-consistent field does not converge is named at the end, and is never part of the data.
"""

import argparse
import dataclasses
import hashlib
import itertools
import json
import os
import subprocess
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.espresso import Espresso, EspressoProfile
from ase.calculators.singlepoint import SinglePointCalculator
from ase.eos import EquationOfState
from ase.io import iread, write
from ase.optimize import BFGS

from isometry_data.silicon.structures import SEED, build_structures, diamond, strained

PSEUDOPOTENTIAL = "Si.pz-vbc.UPF"
PSEUDOPOTENTIAL_SHA256 = "da7386b1345863effd34d47c07894a620d12e87069a009b5eaa2a88da7ea8105"
DATA_FILE = "silicon.extxyz.xz"
CONVERGENCE_NAMES = ("eos-020", "elastic-010", "rattle-001", "rattle-012", "vacancy-010", "phase-000")
NORMAL_STRAIN, SHEAR_STRAIN = 0.005, 0.005  # tensor strains of the elastic constants
FORCE_TOLERANCE = 0.002  # eV/Å, of the relaxed shear


class ScfFailure(RuntimeError):
    """pw.x ended without a converged self-consistent field."""


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """What converges the labels.

    A basis cut off at a fixed energy changes with the volume, so that the stress is not the slope of the energy. A
    smooth step in the kinetic energy below the cutoff (height, place and width in Ry) makes it so, to a good part.
    Source: Bernasconi et al. 1995, J. Phys. Chem. Solids 56, 501; qcutz, ecfixed and q2sigma of pw.x.
    """

    cutoff_ry: float = 24.0  # of the wave functions
    kinetic_step: tuple[float, float, float] | None = (40.0, 21.0, 2.0)  # Ry
    mesh_factor: float = 1.0  # times the k points of the structure's own mesh, along every axis


PRODUCTION = Accuracy()
DENSE_CUTOFF = Accuracy(cutoff_ry=40.0, kinetic_step=None)
DENSE = Accuracy(cutoff_ry=40.0, kinetic_step=None, mesh_factor=5 / 3)


@dataclasses.dataclass(frozen=True)
class Site:
    """Where calculations run and where their results lie."""

    work: Path
    pseudo_dir: Path
    n_jobs: int

    def calculator(self, name: str, kpts: Iterable[int], accuracy: Accuracy, mixing: float) -> Espresso:
        """pw.x on one core: LDA, cold smearing, meshes through Gamma.

        A mesh of three shifted by half a step meets the band edges of silicon where strain moves them most: with it C11
        came out as 99 to 128 GPa, depending on the smearing, instead of 159.
        """
        step = dict(zip(("qcutz", "ecfixed", "q2sigma"), accuracy.kinetic_step or (), strict=False))
        profile = EspressoProfile(command="env OMP_NUM_THREADS=1 nice -n 5 pw.x", pseudo_dir=self.pseudo_dir)
        return Espresso(
            profile=profile,
            directory=str(self.work / "runs" / name),
            pseudopotentials={"Si": PSEUDOPOTENTIAL},
            kpts=tuple(round(count * accuracy.mesh_factor) for count in kpts),
            koffset=(0, 0, 0),
            input_data={
                "control": {"calculation": "scf", "tprnfor": True, "tstress": True, "disk_io": "none"},
                "system": {
                    "ecutwfc": accuracy.cutoff_ry,
                    **step,
                    "occupations": "smearing",
                    "smearing": "mv",
                    "degauss": 0.004,  # Ry
                },
                "electrons": {"conv_thr": 1e-8, "mixing_beta": mixing, "electron_maxstep": 100},  # Ry
            },
        )

    def result_file(self, name: str) -> Path:
        return self.work / "results" / f"{name}.extxyz"

    def finished(self, name: str) -> Atoms | None:
        path = self.result_file(name)
        return next(iread(path)) if path.exists() else None


def single_point(atoms: Atoms, site: Site, name: str, accuracy: Accuracy = PRODUCTION) -> Atoms:
    """A copy with energy (eV), forces (eV/Å) and stress (eV/Å³) of pw.x; a slower mixing is tried before giving up."""
    for mixing in (0.7, 0.3):
        copy = atoms.copy()
        copy.calc = site.calculator(name, atoms.info["kpts"], accuracy, mixing)
        try:
            copy.get_potential_energy()
            require_convergence(site.work / "runs" / name / "espresso.pwo")
        except (ScfFailure, subprocess.CalledProcessError) as failure:
            reason = failure
        else:
            return frozen(copy)
    raise ScfFailure(f"{name}: {reason}")


def require_convergence(output: Path) -> None:
    """ScfFailure unless pw.x says that it converged and ended."""
    text = output.read_text()
    if "convergence has been achieved" not in text or "JOB DONE" not in text:
        raise ScfFailure(f"{output}: no converged self-consistent field")


def frozen(atoms: Atoms) -> Atoms:
    """The same atoms holding their results instead of a calculator; ScfFailure if one is not finite."""
    found = results(atoms)
    if not all(np.isfinite(value).all() for value in found.values()):
        raise ScfFailure("a result is not finite")
    copy = atoms.copy()
    copy.calc = SinglePointCalculator(copy, **found)
    return copy


def results(atoms: Atoms) -> dict[str, float | np.ndarray]:
    """What is kept of a calculation; pw.x's energy is the free energy the forces belong to."""
    return {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}


def partial_file(path: Path) -> Path:
    """Where this process writes what is then put at `path` in one step; the suffix stays, as it names the format."""
    return path.with_name(f"partial-{os.getpid()}-{path.name}")


def save(atoms: Atoms, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = partial_file(path)
    write(beside, atoms, format="extxyz")
    os.replace(beside, path)


def run_all(tasks: dict[str, Callable[[], Atoms]], site: Site) -> dict[str, Atoms]:
    """Runs the tasks whose results are missing, and returns every result; failures are printed and left out."""
    missing = {name: task for name, task in tasks.items() if not site.result_file(name).exists()}
    print(f"{len(tasks) - len(missing)} of {len(tasks)} calculations are there already", flush=True)
    with ThreadPoolExecutor(site.n_jobs) as pool:
        names = {pool.submit(run_and_save, task, site.result_file(name)): name for name, task in missing.items()}
        for number, future in enumerate(as_completed(names), 1):
            failure = future.exception()
            note = f"FAILED, excluded: {failure}" if failure else "done"
            print(f"{number}/{len(missing)} {names[future]} {note}", flush=True)
    return {name: atoms for name in tasks if (atoms := site.finished(name)) is not None}


def run_every(tasks: dict[str, Callable[[], Atoms]], site: Site) -> dict[str, Atoms]:
    """As `run_all`, for tasks that are all needed: ScfFailure if one failed."""
    done = run_all(tasks, site)
    if failed := [name for name in tasks if name not in done]:
        raise ScfFailure(f"no result for {' '.join(failed)}: see the reasons above")
    return done


def run_and_save(task: Callable[[], Atoms], path: Path) -> None:
    save(task(), path)


def compute_structures(site: Site) -> list[str]:
    """Labels every structure, in an order whose beginning represents the whole; returns the names that failed."""
    structures = {atoms.info["name"]: atoms for atoms in build_structures()}
    shuffled = np.random.default_rng(SEED).permutation(list(structures))
    order = sorted(shuffled, key=lambda name: not name.startswith("eos"))  # the references need the volumes first
    tasks = {name: partial(single_point, structures[name], site, name) for name in order}
    done = run_all(tasks, site)
    return [name for name in structures if name not in done]


def collect(site: Site, folder: Path) -> None:
    """Writes the finished structures, in the builder's order, as one compressed file."""
    frames = [done for atoms in build_structures() if (done := labelled_frame(atoms, site)) is not None]
    path = folder / DATA_FILE
    beside = partial_file(path)
    write(beside, frames, format="extxyz")
    os.replace(beside, path)
    print(f"{len(frames)} frames written to {path.name}")


def labelled_frame(atoms: Atoms, site: Site) -> Atoms | None:
    """The finished result of a structure; ValueError if it was computed for another geometry than today's builder's."""
    done = site.finished(atoms.info["name"])
    if done is None:
        return None
    if not np.allclose(done.positions, atoms.positions, atol=1e-6) or not np.allclose(done.cell, atoms.cell, atol=1e-6):
        path = site.result_file(atoms.info["name"])
        raise ValueError(f"{path}: holds another geometry than the builder makes; remove it and run again")
    atoms.calc = SinglePointCalculator(atoms, **results(done))
    return atoms


def compute_references(site: Site, folder: Path) -> None:
    """Writes references.json: the equation of state and the elastic constants of diamond."""
    state = equation_of_state(site)
    references = {"equation_of_state": state, "elastic_constants_gpa": elastic_constants(state["a0_angstrom"], site)}
    write_json(references, folder / "references.json")


def equation_of_state(site: Site) -> dict:
    """Birch-Murnaghan fit to the frames of the family eos."""
    names = [atoms.info["name"] for atoms in build_structures() if atoms.info["config_type"] == "eos"]
    frames = [atoms for name in names if (atoms := site.finished(name)) is not None]
    if len(frames) < len(names):
        raise ValueError("the family eos is not finished: run the structures first")
    volumes = np.array([atoms.get_volume() / len(atoms) for atoms in frames])  # Å³ per atom
    energies = np.array([atoms.get_potential_energy() / len(atoms) for atoms in frames])  # eV per atom
    fit = EquationOfState(volumes, energies, eos="birchmurnaghan")
    volume, energy, bulk_modulus = fit.fit()
    residual = fit.func(volumes, *fit.eos_parameters) - energies
    return {
        "volumes_angstrom3_per_atom": volumes.round(6).tolist(),
        "energies_ev_per_atom": energies.round(8).tolist(),
        "v0_angstrom3_per_atom": round(volume, 5),
        "a0_angstrom": round((8 * volume) ** (1 / 3), 5),
        "e0_ev_per_atom": round(energy, 6),
        "b0_gpa": round(bulk_modulus / units.GPa, 2),
        "b0_prime": round(fit.eos_parameters[2], 3),
        "rms_residual_mev_per_atom": round(1000 * float(np.sqrt(np.mean(residual**2))), 3),
    }


def elastic_constants(lattice_constant: float, site: Site) -> dict[str, float]:
    """C11, C12, C44 and the clamped-ion C44 in GPa, from the stress of strained diamond at `lattice_constant` (Å).

    A strain along one axis leaves the ions of diamond at rest, so C11 and C12 need no relaxation; a shear does not.
    """
    normal, shear = np.array([NORMAL_STRAIN, 0, 0, 0, 0, 0]), np.array([0, 0, 0, SHEAR_STRAIN, 0, 0])
    cell = bulk("Si", "diamond", a=lattice_constant, cubic=True)
    cell.info["kpts"] = diamond().info["kpts"]
    tasks = {
        name: partial(calculate, strained(cell, strain), site, name)
        for name, calculate, strain in (
            ("reference-stretched", single_point, normal),
            ("reference-compressed", single_point, -normal),
            ("reference-sheared", single_point, shear),
            ("reference-relaxed", relaxed, shear),
        )
    }
    done = run_every(tasks, site)
    stress = {name.removeprefix("reference-"): atoms.get_stress() / units.GPa for name, atoms in done.items()}
    c11, c12 = ((stress["stretched"] - stress["compressed"]) / (2 * NORMAL_STRAIN))[:2]
    c44, clamped = (stress[name][3] / (2 * SHEAR_STRAIN) for name in ("relaxed", "sheared"))
    return {"c11": round(c11, 2), "c12": round(c12, 2), "c44": round(c44, 2), "c44_clamped_ions": round(clamped, 2)}


def relaxed(atoms: Atoms, site: Site, name: str) -> Atoms:
    """A copy whose ions are at rest (FORCE_TOLERANCE) in the given cell."""
    copy = atoms.copy()
    copy.calc = site.calculator(name, atoms.info["kpts"], PRODUCTION, mixing=0.7)
    if not BFGS(copy, logfile=None).run(fmax=FORCE_TOLERANCE, steps=40):
        raise ScfFailure(f"{name}: the ions did not come to rest in 40 steps")
    require_convergence(site.work / "runs" / name / "espresso.pwo")
    return frozen(copy)


def compute_convergence(site: Site, folder: Path) -> None:
    """Writes convergence.json: what a denser setting would change, structure by structure."""
    structures = {atoms.info["name"]: atoms for atoms in build_structures()}
    chosen = {"diamond": diamond()} | {name: structures[name] for name in CONVERGENCE_NAMES}
    settings = {"production": PRODUCTION, "cutoff": DENSE_CUTOFF, "cutoff_and_mesh": DENSE}
    tasks = {}
    for (name, atoms), (label, accuracy) in itertools.product(chosen.items(), settings.items()):
        key = f"convergence-{name}-{label}"
        tasks[key] = partial(single_point, atoms, site, key, accuracy)
    done = run_every(tasks, site)
    table = {
        label: {name: differences(name, label, done) for name in CONVERGENCE_NAMES} for label in list(settings)[1:]
    }
    described = {label: dataclasses.asdict(how) for label, how in settings.items()}
    write_json({"settings": described, "production_minus": table}, folder / "convergence.json")


def differences(name: str, label: str, done: dict[str, Atoms]) -> dict[str, float]:
    """Production minus the denser setting; energies are first taken against diamond's at the same setting."""
    ours, denser = (done[f"convergence-{name}-{setting}"] for setting in ("production", label))
    energies = [
        energy_per_atom(done[f"convergence-{name}-{setting}"]) - energy_per_atom(done[f"convergence-diamond-{setting}"])
        for setting in ("production", label)
    ]
    force = ours.get_forces() - denser.get_forces()
    stress = (ours.get_stress() - denser.get_stress()) / units.GPa
    return {
        "energy_mev_per_atom": round(1000 * (energies[0] - energies[1]), 2),
        "force_rms_mev_per_angstrom": round(1000 * float(np.sqrt(np.mean(force**2))), 1),
        "largest_force_ev_per_angstrom": round(float(np.abs(denser.get_forces()).max()), 2),
        "stress_rms_gpa": round(float(np.sqrt(np.mean(stress**2))), 3),
    }


def energy_per_atom(atoms: Atoms) -> float:
    """eV"""
    return atoms.get_potential_energy() / len(atoms)


def write_json(record: dict, path: Path) -> None:
    beside = partial_file(path)
    beside.write_text(json.dumps(record, indent=1) + "\n")
    os.replace(beside, path)
    print(f"{path.name} written")


def require_pseudopotential(path: Path) -> None:
    """ValueError unless the file is the one the data were made with."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != PSEUDOPOTENTIAL_SHA256:
        raise ValueError(f"{path}: SHA-256 {found}, expected {PSEUDOPOTENTIAL_SHA256}: take Debian's {PSEUDOPOTENTIAL}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Computes the silicon data set; without a flag, all of it.")
    parser.add_argument("--work", type=Path, required=True, help="folder of runs and results, made if missing")
    parser.add_argument("--jobs", type=int, default=1, help="calculations at a time, one core each")
    parser.add_argument("--pseudo-dir", type=Path, default="/usr/share/espresso/pseudo", help="where the UPF file lies")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where the data files go")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--collect", action="store_true", help="only write the frames finished so far")
    only.add_argument("--references", action="store_true", help="only the references (needs the family eos)")
    only.add_argument("--convergence", action="store_true", help="only the convergence table")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    site = Site(arguments.work.resolve(), arguments.pseudo_dir.resolve(), arguments.jobs)
    if arguments.collect:
        return collect(site, arguments.out)
    require_pseudopotential(site.pseudo_dir / PSEUDOPOTENTIAL)
    if arguments.references:
        return compute_references(site, arguments.out)
    if arguments.convergence:
        return compute_convergence(site, arguments.out)
    failed = compute_structures(site)
    compute_references(site, arguments.out)
    compute_convergence(site, arguments.out)
    collect(site, arguments.out)
    if failed:
        raise SystemExit(f"{len(failed)} structures failed and are not in the data: {' '.join(failed)}")


if __name__ == "__main__":
    main()
