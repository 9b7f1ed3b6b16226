"""From raw files to the paper's tables and figures: Markdown, JSON and PNG, ours beside the paper's.

Stores are shared between tables, and so are students and results. A recipe that is stopped goes on where it was when it is run again.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cross4d_cache.build.request import BuildSettings
from cross4d_cache.errors import OutputError, SettingsError, user_errors
from cross4d_cache.store import open_cache
from cross4d_train.loop import make_fabric
from pipelines.benchmarks.machine import describe_machine
from pipelines.experiment.estimate import estimate
from pipelines.experiment.plan import pieces, runs_of, stores_of, trained
from pipelines.experiment.pool import default_jobs, do_all
from pipelines.experiment.report import draw, markdown, record, unknown_tables
from pipelines.experiment.table import Finished, Table, finish
from pipelines.experiment.work import OPTIONS, EvaluationRun, Piece, Store, Student, build
from pipelines.paper.benchmark import Benchmark, Setup
from pipelines.paper.figures import FIGURES, draw_figure
from pipelines.paper.tables import TABLES, Builder

SETUP = "setup.json"
SMALL = (
    "At scale small the teacher, the student and the clips are others than the paper's: where its numbers stand beside ours, "
    "to be within .03 of one does not reproduce it."
)


def main(
    benchmark: Benchmark,
    description: str | None,
    companions: Sequence[Benchmark] = (),
    builders: Mapping[int, Builder] = TABLES,
    name: str = "report",
) -> None:
    """The command of a recipe; companions are datasets it makes itself to transfer to and from, `name` that of the report's files."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=benchmark.needs_data, help="folder of the raw files")
    parser.add_argument("--out", type=Path, default=Path("out") / benchmark.name, help="folder of everything that is made")
    parser.add_argument("--tables", help=f"comma-separated, of {', '.join(map(str, benchmark.tables))}; all by default")
    parser.add_argument(
        "--figures", help=f"comma-separated, of {', '.join(map(str, benchmark.figures))}; all by default, none with --tables"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scale", choices=benchmark.scales, default="small", help="small: a laptop's CPU; paper: one GPU")
    parser.add_argument("--protocol", help="split protocol, if not the paper's")
    parser.add_argument(
        "--teacher",
        action="append",
        metavar="NAME[=WEIGHTS]",
        help="repeatable; the first is the main one. Default: tiny, or the paper's four",
    )
    parser.add_argument(
        "--other", action="append", type=Path, default=[], metavar="OUT", help="folder of another recipe, for transfer; repeatable"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--jobs", type=int, help="students and evaluations at a time; default: one a core, on a GPU one")
    arguments = parser.parse_args()
    with user_errors(OPTIONS):
        tables = choose(arguments.tables, benchmark.tables, "table")
        figures = choose(arguments.figures, benchmark.figures, "figure") if arguments.figures or not arguments.tables else ()
        if arguments.seeds < 1:
            raise SettingsError(f"--seeds {arguments.seeds}", expected="1 or more")
        if arguments.jobs is not None and arguments.jobs < 1:
            raise SettingsError(f"--jobs {arguments.jobs}", expected="1 or more")
        setup = make_setup(
            benchmark, arguments.scale, data=arguments.data, out=arguments.out, teachers=arguments.teacher, protocol=arguments.protocol
        )
        made = tuple(
            make_setup(other, arguments.scale, data=arguments.data, out=arguments.out / other.name, teachers=arguments.teacher)
            for other in companions
        )
        others = made + tuple(load_setup(folder, arguments.scale) for folder in arguments.other)
        built = [builders[number](setup, others) for number in tables]
        check_protocol(setup)
        device = str(make_fabric(arguments.device).device)
        jobs = arguments.jobs or default_jobs(device)
        print(Recipe(setup, others, built, figures, seeds=arguments.seeds, device=device, jobs=jobs, name=name).run())


def check_protocol(setup: Setup) -> None:
    """See that the dataset has the protocol, before anything is built.

    Raises:
        DatasetError: the raw data is not what it should be.
        SettingsError: it does not.
    """
    known = {name for info in setup.sequences() for name in info.splits}
    if setup.protocol is not None and setup.protocol not in known:
        raise SettingsError(f"--protocol {setup.protocol}", expected=f"one of {', '.join(sorted(known))}")


def make_setup(
    benchmark: Benchmark, scale: str, *, data: Path | None, out: Path, teachers: Sequence[str] | None, protocol: str | None = None
) -> Setup:
    """A benchmark with what a user chose."""
    return Setup(
        benchmark=benchmark,
        scale_name=scale,
        protocol=protocol or benchmark.protocol,
        data=None if data is None else data.absolute(),
        teachers=parse_teachers(teachers or benchmark.teachers[scale]),
        out=out,
    )


def choose(wanted: str | None, known: Sequence[int], what: str) -> tuple[int, ...]:
    """The numbers a user names, or all.

    Raises:
        SettingsError: one that this recipe does not have.
    """
    if wanted is None:
        return tuple(known)
    numbers = [word.strip() for word in wanted.split(",")]
    strange = [word for word in numbers if not word.isdecimal() or int(word) not in known]
    if strange:
        raise SettingsError(f"no {what} {', '.join(strange)} in this recipe", expected=f"of {', '.join(map(str, known))}")
    return tuple(sorted({int(word) for word in numbers}))


def parse_teachers(words: Iterable[str]) -> dict[str, str | None]:
    """Teachers and their weights, None for those published."""
    pairs = [word.partition("=") for word in words]
    return {name: weights or None for name, _, weights in pairs}


def load_setup(folder: Path, scale: str) -> Setup:
    """The setup of a recipe that was run.

    Raises:
        SettingsError: no recipe was run there, or one of another scale or version.
    """
    path = folder / SETUP
    if not path.exists():
        raise SettingsError(f"{folder} is no folder of a recipe", expected=f"a file {SETUP} in it", hint="run that recipe first")
    try:
        setup = Setup.from_json(_of_today(path.read_bytes())).model_copy(update={"out": folder})
    except ValueError:
        raise SettingsError(
            f"{path} is damaged, or of another version", expected="a setup of this one", hint="run that recipe again"
        ) from None
    if setup.scale_name != scale:
        raise SettingsError(f"{folder} is of scale {setup.scale_name}", expected=scale, hint="run that recipe with the same --scale")
    return setup


def _of_today(written: bytes) -> str:
    """A setup with settings of builds; release 0.1 wrote words of a command line in their place, and only ever `--points N`."""
    setup = json.loads(written)
    match setup:
        case {"benchmark": {"stores": dict(stores)}}:
            for scale, found in stores.items():
                match found:
                    case ["--points", str(count)]:
                        stores[scale] = BuildSettings(points_per_frame=int(count)).model_dump()
    return json.dumps(setup)


class Recipe:
    """Tables and figures of one benchmark.

    Raises:
        SettingsError: figure 6 without table 4.
    """

    def __init__(
        self,
        setup: Setup,
        others: tuple[Setup, ...],
        tables: Sequence[Table],
        figures: Sequence[int],
        *,
        seeds: int,
        device: str,
        jobs: int,
        name: str = "report",
    ) -> None:
        self.setup, self.others, self.seeds, self.device, self.jobs, self.name = setup, others, seeds, device, jobs, name
        self.tables, self.figures = list(tables), tuple(figures)
        if 6 in figures and all(table.number != 4 for table in tables):
            raise SettingsError("figure 6 without table 4, which it shows", expected="both", hint="add 4 to --tables")

    def stores(self) -> list[Store]:
        """Every store that is needed, the main one first."""
        return stores_of([self.setup.store(), *(item.store for item in self.runs())], self.students())

    def runs(self) -> list[EvaluationRun]:
        """Every evaluation, with every seed, each once."""
        return runs_of((cell for table in self.tables for cell in table.cells()), self.seeds)

    def students(self) -> list[Student]:
        """Every pre-training run, with every seed, each once; figures need those of table 1."""
        every = [item.student for item in self.runs()]
        if self.figures:
            every += [self.setup.dense(), self.setup.distilled_globally()]
        if 3 in self.figures:
            every += [other.dense() for other in self.others]
        return trained(every)

    def work(self) -> list[Piece]:
        """All students and evaluations, in their order."""
        return pieces(self.students(), self.runs(), self.seeds)

    def run(self) -> str:
        """Do all that is missing; the report."""
        out, started = self.setup.out, time.perf_counter()
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot write to {out}: {error.strerror}", expected="a folder", hint="choose another --out") from None
        self._announce()
        builds = {self._place(store): build(store) | {"store": self._place(store)} for store in self.stores()}
        (out / SETUP).write_text(self.setup.model_dump_json(indent=1) + "\n")
        do_all(self.work(), self.device, self.jobs)
        finished = [finish(table, self.seeds) for table in self.tables]
        seconds = time.perf_counter() - started
        self._draw(finished)
        return self._write(finished, builds, seconds)

    def _place(self, store: Store) -> str:
        return os.path.relpath(store.path, self.setup.out)

    def _announce(self) -> None:
        stores = [store for store in self.stores() if store.origin is None and store.of is None]
        students = [item for item in self.students() if not item.is_done()]
        runs = [item for item in self.runs() if not item.is_done()]
        if not (stores or students or runs):
            return
        seconds = estimate(
            self.setup.store(),
            stores,
            students,
            runs,
            sequences=self.setup.sequences(),
            folder=self.setup.out / "pilot",
            device=self.device,
            jobs=self.jobs,
        )
        work = f"{len(stores)} stores, {len(students)} students and {len(runs)} evaluations to do"
        print(f"{work}: some {seconds / 60:.0f} minutes here", file=sys.stderr, flush=True)

    def _draw(self, finished: Sequence[Finished]) -> None:
        for item in finished:
            draw(item, self.setup.out / f"{self.name}_table_{item.table.number:02}.png")
        for number in self.figures:
            draw_figure(number, self.setup, self.others, finished, self.setup.out / f"figure_{number}.png")

    def _write(self, finished: Sequence[Finished], builds: Mapping[str, object], seconds: float) -> str:
        setup, machine = self.setup, describe_machine(make_fabric(self.device).device)
        manifest = open_cache(setup.store().path).manifest
        scale = setup.scale
        lines = [
            f"# {setup.benchmark.name}, scale {setup.scale_name}, protocol {setup.protocol}",
            "",
            f"{self.seeds} seeds; teachers {', '.join(setup.teachers)}; {scale.encoder.name} {scale.encoder.size}; clips of "
            f"{scale.clips.num_frames} frames (every {scale.clips.stride}.) x {scale.clips.num_points} points; "
            f"{scale.num_epochs} epochs of {scale.clips_per_sequence} clips a sequence, "
            f"rate {scale.learning_rate:g}; {scale.num_windows} windows a video (segmentation and correspondence: the middle one).",
            f"{machine['processor']}, {machine['cores']} cores, {machine['device']}, torch {machine['torch']}, {machine['date']}; "
            f"{seconds / 60:.1f} minutes for what was not done before. Store {manifest.fingerprint[:12]}.",
            "",
            "Cells: mean ± standard deviation over seeds [95 % interval over videos]. Conditioning of targets where a row does "
            f"not say: `{scale.conditioning}`.",
            *([f"The paper's numbers are of protocol {setup.benchmark.protocol}."] if setup.protocol != setup.benchmark.protocol else []),
            *([SMALL] if setup.scale_name == "small" else []),
            *(["THE TEACHER HAS RANDOM WEIGHTS: its targets mean nothing."] if manifest.teacher.is_random else []),
            "",
            *(markdown(item) for item in finished),
            *([unknown_tables()] if any(not item.table.title for item in finished) else []),
            *(f"![figure {number}: {FIGURES[number]}](figure_{number}.png)\n" for number in self.figures),
        ]
        text = "\n".join(lines)
        found = {
            "benchmark": setup.benchmark.name,
            "setup": setup.model_dump(mode="json", exclude={"out", "data", "teachers"}),
            "teachers": list(setup.teachers),
            "seeds": self.seeds,
            "machine": machine,
            "date": datetime.now(UTC).date().isoformat(),
            "minutes": round(seconds / 60, 1),
            "fingerprint": manifest.fingerprint,
            "stores": builds,
            "tables": [record(item) for item in finished],
        }
        (setup.out / f"{self.name}.md").write_text(text)
        (setup.out / f"{self.name}.json").write_text(json.dumps(found, indent=1, default=os.fspath) + "\n")
        return text
