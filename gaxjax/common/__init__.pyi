from .clash import refuse_foreign_converters
from .devices import (
    compiler_options,
    free_bytes,
    half_as_many,
    hardware,
    is_out_of_memory,
    local_devices,
    matmul_precision,
    no_devices,
    num_cores,
    pad_rows,
    processor,
    same_bits_at_any_count,
)
from .errors import UserError, nearest
from .files import (
    cache_folder,
    cannot_write,
    checked_output,
    file_sha256,
    lock,
    replacing,
    replacing_folder,
    write_text,
)
from .header import FolderHeader, damaged, read_values, refuse_strangers
from .interruption import interruptions
from .memory import host_free_bytes, require_memory
from .paths import path_to_read, path_to_write, reason_of, spelt_out
from .progress import RunProgress, StepProgress, Timed
from .table import Column, Strong, Table, columns_of, to_csv
from .surroundings import foreign_settings, own_numbers, yielding_own_numbers
from .text import counted, in_bytes, one_line, printable
from .types import HostImages, Image, Images, Labels, Logits, Scalar, at_least_float32

__all__ = [
    "Column",
    "FolderHeader",
    "HostImages",
    "Image",
    "Images",
    "Labels",
    "Logits",
    "RunProgress",
    "Scalar",
    "StepProgress",
    "Strong",
    "Table",
    "Timed",
    "UserError",
    "at_least_float32",
    "cache_folder",
    "cannot_write",
    "checked_output",
    "columns_of",
    "compiler_options",
    "counted",
    "damaged",
    "file_sha256",
    "foreign_settings",
    "free_bytes",
    "half_as_many",
    "hardware",
    "host_free_bytes",
    "in_bytes",
    "interruptions",
    "is_out_of_memory",
    "local_devices",
    "lock",
    "matmul_precision",
    "nearest",
    "no_devices",
    "num_cores",
    "one_line",
    "own_numbers",
    "pad_rows",
    "path_to_read",
    "path_to_write",
    "printable",
    "processor",
    "read_values",
    "reason_of",
    "refuse_foreign_converters",
    "refuse_strangers",
    "replacing",
    "replacing_folder",
    "require_memory",
    "same_bits_at_any_count",
    "spelt_out",
    "to_csv",
    "write_text",
    "yielding_own_numbers",
]
