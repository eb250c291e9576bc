from .class_patterns import (
    ClassPatterns,
    find_class_patterns,
    read_class_means,
    read_class_patterns,
    summarise_class_patterns,
)
from .columns import numbers, of_method, texts
from .display import (
    BLUE,
    CURVE,
    DIVERGING,
    LABEL,
    NOW,
    QUIET,
    SKY,
    TARGET,
    VERMILION,
    abs_max,
    bare,
    draw_channels,
)
from .evaluation import Evaluation
from .heatmap_array import HeatmapArray, heatmap_sha256, read_heatmap_rows
from .image_list import Changes, changes_since, keep_image_list
from .indicator import SCORERS, TITLES, Indicator, read_indicator
from .indicator_fit import fit_indicator
from .indicator_judgement import Judgement, apply_indicator
from .inspection import Inspection, inspect_run
from .later_tables import refuse_url
from .method_statistics import KEYS, Effect, Gap, MethodStatistics, ScoreSummary, Statistics
from .own_images import own_images
from .part_writer import PartWriter, Result
from .reading import read_heatmaps, read_parts, read_scores
from .robustness import (
    DISTURBANCES,
    ROBUSTNESS_SCHEMA,
    MethodRobustness,
    read_robustness,
    summarise_robustness,
    write_robustness,
)
from .roughness import high_frequency_power, total_variation
from .run_header import read_header
from .selective import MEASURES, Difference, Measure, risk_coverage, roc
from .snapshots import (
    SNAPSHOT_ARRAY,
    SNAPSHOT_SCHEMA,
    SnapshotAbout,
    SnapshotSummary,
    drop_snapshots,
    has_snapshots,
    read_snapshot_about,
    read_snapshot_heatmaps,
    read_snapshots,
    summarise_snapshots,
    write_snapshots,
)
from .solution import Outcome, Solution, Solutions
from .statistics import run_statistics
from .store import Store, joined_run
from .stored_run import Run, RunImages, images_of, open_run, open_runs
from .sweep import SettingSummary, SweepSummary, run_sweep

__all__ = [
    "BLUE",
    "CURVE",
    "DISTURBANCES",
    "DIVERGING",
    "KEYS",
    "LABEL",
    "MEASURES",
    "NOW",
    "QUIET",
    "ROBUSTNESS_SCHEMA",
    "SCORERS",
    "SKY",
    "SNAPSHOT_ARRAY",
    "SNAPSHOT_SCHEMA",
    "TARGET",
    "TITLES",
    "VERMILION",
    "Changes",
    "ClassPatterns",
    "Difference",
    "Effect",
    "Evaluation",
    "Gap",
    "HeatmapArray",
    "Indicator",
    "Inspection",
    "Judgement",
    "Measure",
    "MethodRobustness",
    "MethodStatistics",
    "Outcome",
    "PartWriter",
    "Result",
    "Run",
    "RunImages",
    "ScoreSummary",
    "SettingSummary",
    "SnapshotAbout",
    "SnapshotSummary",
    "Solution",
    "Solutions",
    "Statistics",
    "Store",
    "SweepSummary",
    "abs_max",
    "apply_indicator",
    "bare",
    "changes_since",
    "draw_channels",
    "drop_snapshots",
    "find_class_patterns",
    "fit_indicator",
    "has_snapshots",
    "heatmap_sha256",
    "high_frequency_power",
    "images_of",
    "inspect_run",
    "joined_run",
    "keep_image_list",
    "numbers",
    "of_method",
    "open_run",
    "open_runs",
    "own_images",
    "read_class_means",
    "read_class_patterns",
    "read_header",
    "read_heatmap_rows",
    "read_heatmaps",
    "read_indicator",
    "read_parts",
    "read_robustness",
    "read_scores",
    "read_snapshot_about",
    "read_snapshot_heatmaps",
    "read_snapshots",
    "refuse_url",
    "risk_coverage",
    "roc",
    "run_statistics",
    "run_sweep",
    "summarise_class_patterns",
    "summarise_robustness",
    "summarise_snapshots",
    "texts",
    "total_variation",
    "write_robustness",
    "write_snapshots",
]
