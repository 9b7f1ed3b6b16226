"""What a user should know of a folder of sequences: what lies there and is not read."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from cross4d_cache.datasets.folder import layout
from cross4d_cache.datasets.folder.label_table import LabelTable
from cross4d_cache.errors import DatasetError
from cross4d_cache.join import count_of, first_of, join, look_alikes

TABLES = (".csv", ".tsv", ".xls", ".xlsx")


def of_tables(root: Path, read: str, labels: LabelTable) -> Iterator[str]:
    """Tables beside the sequences that are not the one that is read, and actions that may be one."""
    names = [path.name for path in sorted(root.iterdir()) if path.suffix.lower() in TABLES and path.name != Path(read).name]
    if names and not labels.rows:
        yield f"no {read} with labels; not read: {first_of(names)} (name another table with `dataset.options` labels=FILE)"
    for first, second in look_alikes(labels.action_names):
        yield f"{read}: actions {first!r} and {second!r} count as two"


def of_sequences(folders: Mapping[str, Path], *, with_classes: bool) -> Iterator[str]:
    """Files in the folders of sequences that are not read, and frames whose names differ in more than a number."""
    left_out: list[str] = []
    mixed: list[str] = []
    labelled: list[str] = []
    lonely: list[str] = []
    for name, folder in folders.items():
        try:
            files = layout.sequence_files(folder)
        except DatasetError:
            continue  # the listing says so
        left_out += [f"{name}/{path.name}" for path in files.left_out]
        patterns = {re.sub("[0-9]+", "0", path.name): path.name for path in files.frames}
        if len(patterns) > 1:
            mixed.append(f"{name} ({first_of(patterns.values())})")
        labels = layout.scan_labels(folder)
        if labels and not with_classes:
            labelled.append(name)
        elif labels:
            found = join(name, [path.stem for path in labels], [layout.stem(path) for path in files.frames])
            lonely += [f"{name}/{layout.SCAN_LABELS}/{stem}.label" for stem in found.extra_rows]
    if left_out:
        yield f"{count_of(left_out, 'file')} taken for times, poses or the like, not for frames: {first_of(left_out)}"
    if mixed:
        yield f"{count_of(mixed, 'sequence')} whose frames differ in more than a number: {first_of(mixed)}, all of them read"
    if labelled:
        yield f"{count_of(labelled, 'sequence')} with labels of points, not read as there is no {layout.CLASSES_FILE}: {first_of(labelled)}"
    if lonely:
        yield f"{count_of(lonely, 'file')} with labels of no frame: {first_of(lonely)}"
