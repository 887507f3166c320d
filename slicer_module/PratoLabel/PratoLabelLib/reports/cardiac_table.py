"""The cardiac table as text for a spreadsheet, as a CSV file and as a table node of the scene."""

from __future__ import annotations

import csv
import io

import slicer
import vtk

from PratoLabelLib.reports.cardiac_report import CardiacReport

ROWS = ("RV cavity", "LV cavity", "Myocardium")
COLUMNS = ("Volume (ml)", "Mass (g)", "EDV (ml)", "ESV (ml)", "SV (ml)", "EF (%)")


def format_cells(report: CardiacReport) -> dict[tuple[int, int], str]:
    """The table's texts by row (RV, LV, myocardium) and column (volume, mass, EDV, ESV, SV, EF)."""
    volumes = report.volumes
    cells = {(0, 0): volumes.rv_ml, (1, 0): volumes.lv_ml, (2, 0): volumes.myocardium_ml, (2, 1): volumes.myocardial_mass_g}
    for row, ventricle in ((0, report.rv), (1, report.lv)):
        if ventricle is not None:
            columns = (ventricle.edv_ml, ventricle.esv_ml, ventricle.stroke_volume_ml, ventricle.ejection_fraction)
            cells.update({(row, 2 + n): value for n, value in enumerate(columns)})
    return {cell: f"{value:.1f}" if abs(value) < 1000 else f"{value:.0f}" for cell, value in cells.items()}


def to_tab_separated(report: CardiacReport) -> str:
    """The table with its headings, as spreadsheets paste it."""
    return "\n".join("\t".join(row) for row in _rows(report))


def to_csv(report: CardiacReport) -> str:
    """The table with its headings and its studies, as RFC 4180 has it."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows(_rows(report))
    writer.writerow(["Patient", report.patient])
    if report.ed:
        writer.writerows([["End diastole", report.ed], ["End systole", report.es]])
    return text.getvalue()


def add_table_node(report: CardiacReport) -> slicer.vtkMRMLTableNode:
    """A new table node with the table; empty cells are empty."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", slicer.mrmlScene.GenerateUniqueName(f"{report.patient} measures"))
    head, *rows = _rows(report)
    for number, name in enumerate(head):
        column = vtk.vtkStringArray()
        column.SetName(name)
        for row in rows:
            column.InsertNextValue(row[number])
        node.AddColumn(column)
    return node


def _rows(report: CardiacReport) -> list[list[str]]:
    cells = format_cells(report)
    body = [[name, *(cells.get((row, column), "") for column in range(len(COLUMNS)))] for row, name in enumerate(ROWS)]
    return [["Structure", *COLUMNS], *body]
