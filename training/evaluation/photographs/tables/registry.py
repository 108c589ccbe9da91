"""All tables that `unclutter evaluate reproduce` knows, by their names."""

from __future__ import annotations

from . import attentive_eraser, eradiff, lrnr, mild, osor
from .table import Table

TABLES: dict[str, Table] = {
    table.name: table for paper in (lrnr, attentive_eraser, eradiff, mild, osor) for table in paper.TABLES
}
