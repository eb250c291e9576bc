from .class_patterns import class_patterns_table
from .figures.learning_curve import draw_learning_curve
from .figures.toy import draw_figure
from .film import read_film
from .judgement import fit_tables, judgement_tables, judgement_words
from .page import write_judgement, write_report
from .robustness import robustness_tables
from .tables import (
    TABLE_1_FORMATS,
    evaluation_tables,
    statistics_tables,
    sweep_table,
    table_1,
    table_1_text,
)
from .viewer import FILM_SUFFIXES, save_film, show_film

__all__ = [
    "FILM_SUFFIXES",
    "TABLE_1_FORMATS",
    "class_patterns_table",
    "draw_figure",
    "draw_learning_curve",
    "evaluation_tables",
    "fit_tables",
    "judgement_tables",
    "judgement_words",
    "read_film",
    "robustness_tables",
    "save_film",
    "show_film",
    "statistics_tables",
    "sweep_table",
    "table_1",
    "table_1_text",
    "write_judgement",
    "write_report",
]
