"""The figures of a fidelity report, and how they are written."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DepthErrors:
    """How far visible points lie behind a surface (negative: in front), millimetres, and which shares the tolerance leaves out.

    `beyond_tolerance` is the share that lies farther behind; `before_tolerance` the one as far in front, or with no surface on its ray,
    which the percentiles leave out.
    """

    median_mm: float
    p95_mm: float
    beyond_tolerance: float
    before_tolerance: float


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Visibility in the store against ray casting, with the tolerance of the store and strictly (1 cm), and true depth errors.

    `by_view` is precision and recall of each view, with the tolerance.
    """

    precision: float
    recall: float
    by_view: tuple[tuple[float, float], ...]
    strict_precision: float
    strict_recall: float
    depth: DepthErrors


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Mean cosine of the targets of the same piece of surface in two frames `gap` apart, both seen.

    `centred` is that of targets minus the mean of all. The floors are those of the same pairs after the targets of each frame were
    permuted among its visible points. `same_patch` is the share of pairs that are in the same patch, where position alone agrees.
    """

    gap: int
    pairs: int
    raw: float
    raw_floor: float
    centred: float
    centred_floor: float
    same_patch: float


@dataclass(frozen=True, kw_only=True)
class FidelityReport:
    """What a sample of a store's frames says; shares lie in [0, 1]. What cannot be known is None, and `absent` says why.

    `visible_by_view` and `visible` (by any view) are of points, `views_per_point` of points that any view sees. `reproduced` is the
    share of points and views whose visibility and patch come out the same when the store's own points are rendered again with its own
    cameras; the visibility alone where patches are drawn at random. `surface` compares
    points with the rendered surface of their cell, `truth` with a mesh.
    """

    sequences: int
    frames: int
    points: int
    visible_by_view: tuple[float, ...]
    visible: float
    views_per_point: float
    hit_patches_per_image: float
    reproduced: float
    surface: DepthErrors
    truth: Truth | None
    agreement: tuple[Agreement, ...] | None
    absent: dict[str, str]


def describe(report: FidelityReport) -> list[str]:
    """The report as lines of text."""
    lines = [
        f"sample            {report.sequences} sequences, {report.frames} frames, {report.points} points",
        f"visible           {report.visible:.1%} of points, by view {', '.join(f'{share:.1%}' for share in report.visible_by_view)};"
        f" a visible point is seen by {report.views_per_point:.2f} views",
        f"hit patches       {report.hit_patches_per_image:.1f} an image",
        f"reproduced        {report.reproduced:.2%} of visibilities and patches, rendering the stored points again",
        f"rendered surface  {_depths(report.surface)}",
    ]
    if report.truth is None:
        lines.append(f"ray casting       not measured: {report.absent['truth']}")
    else:
        truth = report.truth
        lines += [
            f"ray casting       precision {truth.precision:.3f}, recall {truth.recall:.3f};"
            f" within 1 cm {truth.strict_precision:.3f}, {truth.strict_recall:.3f}",
            f"true surface      {_depths(truth.depth)}, {truth.depth.before_tolerance:.1%} as far in front of it or off the mesh",
        ]
        if len(truth.by_view) > 1:
            shares = ", ".join(f"{precision:.3f}/{recall:.3f}" for precision, recall in truth.by_view)
            lines.append(f"  by view         precision/recall {shares}")
    if report.agreement is None:
        lines.append(f"agreement         not measured: {report.absent['agreement']}")
        return lines
    lines.append("agreement         frames apart   pairs   raw  (floor)   centred  (floor)   same patch")
    lines += [
        f"                  {row.gap:12d}  {row.pairs:6d}  {row.raw:.3f}  ({row.raw_floor:.3f})"
        f"   {row.centred:6.3f}  ({row.centred_floor:5.3f})   {row.same_patch:9.1%}"
        for row in report.agreement
    ]
    return lines


def _depths(errors: DepthErrors) -> str:
    return (
        f"visible points lie {errors.median_mm:.1f} mm (median), {errors.p95_mm:.1f} mm (95 %) behind it,"
        f" {errors.beyond_tolerance:.1%} beyond the tolerance"
    )
