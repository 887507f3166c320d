"""The cardiac table of a cine, and its volumes over time as a plot."""

from __future__ import annotations

from collections.abc import Mapping

import slicer
import slicer.util
import vtk

from PratoLabelLib.measures.cardiac import CardiacVolumes, compute_function, find_flags, flag_function
from PratoLabelLib.reports.cardiac_report import CardiacReport
from PratoLabelLib.scene.cine_nodes import CineNodes
from PratoLabelLib.scene.segments import COLOURS
from PratoLabelLib.scene.slice_views import slice_axis
from PratoLabelLib.scene.study_nodes import find_node, mark_node
from PratoLabelLib.studies.cine_study import CineStudy
from PratoLabelLib.translation import translator

_ = translator(__file__)

_COLUMNS = ("Phase", "Time", "LV cavity", "RV cavity", "myocardium")


def report_cine(study: CineStudy) -> CardiacReport:
    """The table: volumes and flags of the phase that is shown, and the function of the heart from end-diastole to end-systole."""
    volumes, mask = study.volumes(), study.mask()
    ed, es = study.ed_es()
    both = (volumes[ed], volumes[es]) if ed in volumes and es in volumes else None
    lv = compute_function(both[0].lv_ml, both[1].lv_ml) if both else None
    rv = compute_function(both[0].rv_ml, both[1].rv_ml) if both else None
    flags = find_flags(mask, study.labels, 2 - slice_axis(study.volume_node)) if mask.any() else []
    return CardiacReport(
        volumes=volumes.get(study.phase, CardiacVolumes(0.0, 0.0, 0.0, 0.0)),
        flags=[*flags, *flag_function(lv, rv)],
        patient=study.study,
        ed="" if ed is None else study.cine.describe(ed),
        es="" if es is None else study.cine.describe(es),
        phases=[str(phase) for phase in range(study.cine.count)],
        lv=lv,
        rv=rv,
    )


def show_curve(study: CineStudy) -> slicer.vtkMRMLPlotChartNode:
    """The plot of the volumes over the phases, made where the scene has none of this study; it belongs to the study, and goes with it."""
    table = find_node("vtkMRMLTableNode", study.study, study.server) or _add(study, "vtkMRMLTableNode", "volumes")
    fill_table(table, study.cine, study.volumes())
    chart = find_node("vtkMRMLPlotChartNode", study.study, study.server)
    return chart or _make_chart(study, table)


def update_curve(study: CineStudy) -> None:
    """Let the plot, if there is one, show the volumes as they are now."""
    table = find_node("vtkMRMLTableNode", study.study, study.server)
    if table is not None:
        fill_table(table, study.cine, study.volumes())


def fill_table(table: slicer.vtkMRMLTableNode, cine: CineNodes, volumes: Mapping[int, CardiacVolumes]) -> None:
    """A row for each phase that has segments: number, time in ms (or number) and volumes in ml."""
    columns = {name: vtk.vtkDoubleArray() for name in _COLUMNS}
    for phase, v in volumes.items():
        for column, value in zip(columns.values(), (phase, float(cine.images.GetNthIndexValue(phase)), v.lv_ml, v.rv_ml, v.myocardium_ml)):
            column.InsertNextValue(value)
    blocked = table.StartModify()
    table.RemoveAllColumns()
    for name, column in columns.items():
        column.SetName(name)
        table.AddColumn(column)
    table.EndModify(blocked)
    table.Modified()


def _make_chart(study: CineStudy, table: slicer.vtkMRMLTableNode) -> slicer.vtkMRMLPlotChartNode:
    chart = _add(study, "vtkMRMLPlotChartNode", "curve")
    for name in _COLUMNS[2:]:
        series = _add(study, "vtkMRMLPlotSeriesNode", name)
        series.SetName(name)  # which the legend shows
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetXColumnName("Time")
        series.SetYColumnName(name)
        series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
        series.SetColor(*COLOURS[name])
        chart.AddAndObservePlotSeriesNodeID(series.GetID())
    unit = study.cine.images.GetIndexUnit()
    chart.SetTitle(study.study)
    chart.SetXAxisTitle(f"{study.cine.images.GetIndexName()} ({unit})" if unit else _("phase"))
    chart.SetYAxisTitle(_("volume (ml)"))
    return chart


def _add(study: CineStudy, class_name: str, what: str) -> slicer.vtkMRMLNode:
    node = slicer.mrmlScene.AddNewNodeByClass(class_name, f"{study.study} {what}")
    mark_node(node, study.study, study.server)
    return node
